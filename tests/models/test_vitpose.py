"""ViTPose's transformer and the names of its weights, against loops and hand-made tensors."""

import numpy as np
import pytest
import torch

from semipose.errors import WeightsError
from semipose.models.vitpose import SIZES, backbone_name, backbone_weights, create_vitpose, head_weights, is_vitpose
from tests.models.test_pretrained import small_tensors


@pytest.mark.parametrize(
    ("name", "millions"),
    [("vitpose_small", 22), ("vitpose_base", 86), ("vitpose_large", 303), ("vitpose_huge", 631)],
)
def test_sizes_are_the_published_ones(name, millions):
    """Xu et al., table of sizes: S 22M (without its head), B 86M, L 307M, H 632M parameters."""
    with torch.device("meta"):
        assert sum(p.numel() for p in create_vitpose(name).parameters()) / 1e6 == pytest.approx(millions, abs=1)


def test_patches_begin_two_pixels_outside_of_the_image():
    torch.manual_seed(0)
    embed = create_vitpose("vitpose_small").patch_embed.double()
    image = torch.randn(1, 3, 64, 32, dtype=torch.float64)
    weight, bias = embed.proj.weight.detach().numpy(), embed.proj.bias.detach().numpy()
    padded = np.pad(image[0].numpy(), ((0, 0), (2, 2), (2, 2)))
    found = embed(image).detach().numpy().reshape(4, 2, -1)  # rows, columns, channels
    for i in range(4):
        for j in range(2):
            patch = padded[:, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
            np.testing.assert_allclose(found[i, j], np.einsum("dchw,chw->d", weight, patch) + bias, atol=1e-10)


def test_weights_have_timms_names_and_the_class_position_is_added():
    state = small_tensors()
    found = backbone_weights(state)
    create_vitpose("vitpose_small").load_state_dict(found)
    positions = state["backbone.embeddings.position_embeddings"].double().numpy()
    np.testing.assert_allclose(found["pos_embed"][0], positions[0, 1:] + positions[0, 0], atol=1e-6)
    prefix = "backbone.encoder.layer.4.attention.attention"
    parts = [state[f"{prefix}.{name}.weight"] for name in ("query", "key", "value")]
    assert torch.equal(found["blocks.4.attn.qkv.weight"], torch.cat(parts))


def test_the_expert_of_coco_completes_the_perceptron():
    state = small_tensors()
    fc2 = state["backbone.encoder.layer.2.mlp.fc2.weight"]
    expert = "backbone.encoder.layer.2.mlp.experts"
    split = {"backbone.encoder.layer.2.mlp.fc2.weight": fc2[:288], f"{expert}.0.weight": fc2[288:]}
    others = {f"{expert}.{i}.weight": torch.full_like(fc2[288:], i) for i in range(1, 6)}
    assert torch.equal(backbone_weights({**state, **split, **others})["blocks.2.mlp.fc2.weight"], fc2)


def test_heads_have_our_names():
    names = [
        "deconv1.weight",
        "batchnorm1.running_var",
        "deconv2.weight",
        "batchnorm2.bias",
        "conv.weight",
        "conv.bias",
    ]
    tensors = {f"head.{name}": torch.zeros(1) for name in names}
    assert list(head_weights(tensors)) == [
        "deconvolutions.0.weight",
        "deconvolutions.1.running_var",
        "deconvolutions.3.weight",
        "deconvolutions.4.bias",
        "final.weight",
        "final.bias",
    ]


def test_other_tensors_are_told_apart():
    state = small_tensors()
    assert is_vitpose(state)
    assert backbone_name(state) == "vitpose_small"
    assert not is_vitpose({"conv1.weight": torch.zeros(1)})
    deep = state | {"backbone.encoder.layer.12.mlp.fc1.bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match=f"width 384 and depth 13 is unknown; known: {', '.join(SIZES)}"):
        backbone_name(deep)
