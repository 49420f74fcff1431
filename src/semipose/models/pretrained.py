"""Pose networks of others: ViTPose, from the hub by name or from a file in the layout of the library transformers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from semipose.errors import WeightsError
from semipose.models.backbone import MEAN, STD
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.models.vitpose import INPUT_SIZE, backbone_name, backbone_weights, head_weights, is_vitpose
from semipose.models.weights import OWNER, VITPOSE_WEIGHTS, fetch_vitpose, read_tensors
from semipose.structures.skeletons import COCO, Skeleton, infer_skeleton


@dataclass(frozen=True, eq=False)
class PretrainedPose:
    """A pose network that others trained.

    Attributes:
        network: The network with its weights, in evaluation mode.
        skeleton: The joints that it predicts.
        input_size: Height and width of the images that it was trained on.
    """

    network: PoseNet
    skeleton: Skeleton
    input_size: tuple[int, int] = INPUT_SIZE


def hub_name(source: str) -> str | None:
    """Returns the name in `VITPOSE_WEIGHTS` that `source` is, with or without the owner; None if it is none."""
    name = source.removeprefix(f"{OWNER}/")
    return name if name in VITPOSE_WEIGHTS and not Path(source).exists() else None


def find_pretrained(source: str) -> Path | None:
    """Returns the file with the ViTPose weights that `source` names: a name on the hub, or the file; None for others.

    Raises:
        WeightsError: If they can't be fetched.
    """
    if name := hub_name(source):
        return fetch_vitpose(name)
    path = Path(source)
    if path.is_dir() and (path / "model.safetensors").is_file():
        path = path / "model.safetensors"
    try:
        if path.suffix == ".safetensors" and path.is_file():
            with safe_open(path, framework="pt") as file:
                return path if "backbone.embeddings.position_embeddings" in file.keys() else None  # noqa: SIM118
    except (OSError, SafetensorError):
        pass  # the reader of our own weights says what is wrong
    return None


def load_pretrained(path: Path) -> PretrainedPose:
    """Returns the pose network of a file that `find_pretrained` found.

    Raises:
        WeightsError: If the file is damaged, has another architecture, or its joints are unknown.
    """
    state = read_tensors(path, "weights")
    if not is_vitpose(state):
        raise WeightsError(f"{path} has no head; give weights of VitPoseForPoseEstimation")
    skeleton = _skeleton(path, len(state["head.conv.weight"]))
    try:
        return PretrainedPose(vitpose(state), skeleton)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{path} does not fit ViTPose: {' '.join(str(error).split())[:120]}") from None


def vitpose(state: Mapping[str, Tensor]) -> PoseNet:
    """Returns the network of ViTPose's weights, which have the names of `VitPoseForPoseEstimation`.

    Raises:
        WeightsError: If no size of ViTPose fits.
        KeyError, RuntimeError: If a tensor is missing or has another shape.
    """
    head, name = head_weights(state), backbone_name(state)
    kind: Literal["simple", "deconvolution"] = "deconvolution" if len(head) > 2 else "simple"
    config = ModelConfig(backbone=name, weights="none", head=kind)
    with torch.device("meta"):  # random weights of ViTPose-H would take ten seconds
        network = PoseNet(config, len(head["final.bias"]), pretrained=False)
    for part, tensors in ((network.backbone.model, backbone_weights(state)), (network.heads[0], head)):
        part.load_state_dict(tensors, assign=True)
    network.backbone.set_normalization(MEAN, STD)
    return network.float().eval()


def _skeleton(path: Path, joints: int) -> Skeleton:
    """Returns the joints by the names in the `config.json` beside the file; without it 17 joints are COCO's.

    Raises:
        WeightsError: If the joints have no names.
    """
    config = path.with_name("config.json")
    if config.is_file():
        try:
            labels = json.loads(config.read_text(encoding="utf-8")).get("id2label", {})
        except ValueError as error:
            raise WeightsError(f"{config} is no JSON: {error}") from None
        names = [labels.get(str(i), "") for i in range(joints)]
        if len(labels) == joints and not any(name.startswith("LABEL_") or not name for name in names):
            named = infer_skeleton(names)
            return COCO if named.keys == COCO.keys else named
    if joints == len(COCO):
        return COCO
    raise WeightsError(f"{path} has {joints} joints without names; give config.json with id2label beside it")
