"""A short training and an untrained model that the tests of inference share."""

from pathlib import Path

import pytest
import torch

from semipose.config import load_config
from semipose.data.crops import CropGeometry
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.inference.pose_model import PoseModel
from semipose.losses import LossConfig
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.structures.skeletons import COCO
from semipose.trainer import train
from tests.conftest import NO_TEST, TINY


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 60 persons (24 labeled, 28 unlabeled, 8 for validation) of people.json in the folder above."""
    folder = tmp_path_factory.mktemp("trained")
    write_coco(read_dataset("people", None).subset(range(60)), folder / "people.json")
    data = {"data.train": str(folder / "people.json"), "data.images": str(PEOPLE / "images")}
    longer = {"train.steps": 60, "train.evaluate_every": None}
    train(load_config(None, {**TINY, **data, **NO_TEST, "method": "single", **longer}), folder / "run")
    return folder / "run"


def untrained(seed: int = 0, name: str = "f", headline_networks: tuple[str, ...] = ()) -> PoseModel:
    """A small network with random weights."""
    torch.manual_seed(seed)
    network = PoseNet(ModelConfig(backbone="test_resnet", weights="none", head_channels=8), len(COCO))
    geometry = CropGeometry((64, 64))
    return PoseModel(network.eval(), name, COCO, geometry, LossConfig(), headline_networks=headline_networks)


@pytest.fixture
def model() -> PoseModel:
    """A small network with random weights."""
    return untrained()
