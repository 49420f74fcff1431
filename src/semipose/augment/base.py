"""The base class of the augmentations of hard views."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from semipose.structures.batches import Mixture
from semipose.utils.section import Section


class HardViewAugmentation(Section, ABC):
    """An augmentation of easy views, applied before the second affine turns them into hard views.

    The fields are its options. An augmentation must not move the person, because the heatmaps of the easy view have to
    stay valid; one that mixes samples inherits `MixingAugmentation`. A new augmentation is a subclass with its own
    `kind` and one line in `augment/registry.py`.
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
        """Returns augmented images; `images` is not changed.

        Args:
            images: Normalized images, in which 0 is the mean color.
            joints: Joints predicted by the teacher, in pixels.
            scores: Scores of the joints: the peak values of the teacher's heatmaps.
            generator: Source of every random draw, on the device of the images.
        """


class MixingAugmentation(HardViewAugmentation, ABC):
    """An augmentation that mixes the samples of a batch."""

    mix_targets: bool = True
    """Whether the target is mixed like the image; otherwise it stays that of the sample itself."""

    @abstractmethod
    def draw(self, images: Float[Tensor, "B 3 H W"], generator: torch.Generator) -> Mixture:
        """Draws how the samples are mixed."""

    def __call__(self, images: Tensor, joints: Tensor, scores: Tensor, generator: torch.Generator) -> Tensor:
        """Mixes the images."""
        return self.draw(images, generator)(images)


def draw_partners(batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draws the index of another sample for each sample, (B,); the only sample of a batch is its own partner."""
    step = torch.randint(1, max(2, batch), (batch,), generator=generator, device=device)
    return (torch.arange(batch, device=device) + step) % batch
