"""The base class of the augmentations of hard views."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from semipose.utils.section import Section


class HardViewAugmentation(Section, ABC):
    """Changes the pixels of easy images before the second affine makes hard views of them.

    The fields are the options of the augmentation. No augmentation moves the person, so that the heatmaps of the easy
    view stay valid. A new one is a subclass with its own `kind` and a line in `augment/registry.py`.
    """

    kind: str
    """Name of the augmentation."""

    @abstractmethod
    def __call__(
        self,
        images: Float[Tensor, "B 3 H W"],
        joints: Float[Tensor, "B K 2"],
        scores: Float[Tensor, "B K"],
        generator: torch.Generator,
    ) -> Float[Tensor, "B 3 H W"]:
        """Returns augmented images; the given ones stay unchanged.

        Args:
            images: Normalized images, in which 0 is the mean color.
            joints: Joints predicted by the teacher, in pixels.
            scores: Peak values of the teacher's heatmaps.
            generator: Source of every random draw, on the device of the images.
        """
