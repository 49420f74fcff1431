"""A run small enough to be made in a test."""

from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_run() -> dict[str, Any]:
    """Overrides: two steps of a tiny network on the embedded people."""
    return {
        "data.train": "people",
        "data.validation": 8,
        "model.backbone": "resnet10t",
        "model.weights": "none",
        "model.head_channels": 8,
        "input.height": 32,
        "input.width": 32,
        "train.steps": 2,
        "train.batch": 2,
        "train.unlabeled_batch": 2,
        "train.select": "last",
    }
