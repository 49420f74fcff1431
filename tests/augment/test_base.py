"""A new augmentation: one class."""

import pytest
import torch

from semipose.augment.base import HardViewAugmentation
from semipose.augment.registry import apply_augmentations


class Brighten(HardViewAugmentation):
    kind: str = "brighten"
    amount: float = 0.5

    def __call__(self, images, joints, scores, generator):
        return images + self.amount


def test_an_augmentation_needs_a_call():
    with pytest.raises(TypeError, match="abstract"):
        HardViewAugmentation(kind="none")


def test_a_new_augmentation_is_applied():
    images = torch.zeros(2, 3, 8, 6)
    brighter, _ = apply_augmentations(images, torch.zeros(2, 4, 2), torch.ones(2, 4), [Brighten()], torch.Generator())
    assert (brighter == 0.5).all()


def test_unknown_options_raise():
    with pytest.raises(ValueError, match="strength"):
        Brighten(strength=1)
