"""The registry of augmentations, and what holds for every one of them."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from semipose.augment.masking import CutOcclude, JointCutout
from semipose.augment.mixing import CutMix, Mixup
from semipose.augment.registry import AUGMENTATIONS, Augmentation, apply_augmentations

SIZE = (64, 48)
every_augmentation = pytest.mark.parametrize(
    "augmentation", [cls() for cls in AUGMENTATIONS.values()], ids=AUGMENTATIONS
)


@pytest.fixture
def batch():
    """Images (4, 3, 64, 48), joints (4, 14, 2) also outside the image, scores."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.normal(size=(4, 3, *SIZE)))
    return images, torch.from_numpy(draw.uniform((-6, -6), (54, 70), (4, 14, 2))), torch.ones(4, 14)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_names_are_those_of_the_classes():
    assert {name: cls().kind for name, cls in AUGMENTATIONS.items()} == {name: name for name in AUGMENTATIONS}


def test_a_name_is_the_augmentation_with_its_defaults():
    adapter = TypeAdapter(Augmentation)
    assert adapter.validate_python("joint_cutout") == JointCutout()
    assert adapter.validate_python({"kind": "joint_cutout", "joints": 3}) == JointCutout(joints=3)
    with pytest.raises(ValidationError, match="rand_augment"):
        adapter.validate_python("no_such_augmentation")


@every_augmentation
def test_seed_decides_and_shape_stays(batch, augmentation):
    images, joints, scores = batch
    first, again, other = (augmentation(images, joints, scores, generator(s)) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.isfinite().all()
    alone = augmentation(images[:1], joints[:1], scores[:1], generator())
    assert alone.shape == (1, 3, *SIZE)


def test_augmentations_are_applied_in_order(batch):
    images, joints, scores = batch
    draw = generator(1)
    expected = CutOcclude()(JointCutout()(images, joints, scores, draw), joints, scores, draw)
    found, mixtures = apply_augmentations(images, joints, scores, [JointCutout(), CutOcclude()], generator(1))
    assert torch.equal(found, expected)
    assert mixtures == ()
    assert apply_augmentations(images, joints, scores, [], generator())[0] is images


def test_mixtures_of_targets_come_in_order(batch):
    """Only those whose targets are mixed; mixing the images once more gives the augmented images."""
    images, joints, scores = batch
    kinds = [Mixup(), CutMix(mix_targets=False), CutMix()]
    found, (blend, paste) = apply_augmentations(images, joints, scores, kinds, generator(1))
    assert (blend.share.shape, paste.share.shape) == ((4, 1, 1, 1), (4, 1, *SIZE))
    draw = generator(1)
    expected = kinds[2](kinds[1](kinds[0](images, joints, scores, draw), joints, scores, draw), joints, scores, draw)
    assert torch.equal(found, expected)
    assert torch.equal(apply_augmentations(images, joints, scores, [Mixup()], generator(1))[0], blend(images))


@every_augmentation
def test_draws_come_from_the_given_generator_only(batch, augmentation):
    images, joints, scores = batch
    state, copy = torch.get_rng_state(), images.clone()
    first = augmentation(images, joints, scores, generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(first, augmentation(images, joints, scores, generator(1)))
    assert torch.equal(images, copy)
