"""Batches of source crops, and the views made from them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class UnlabeledBatch:
    """Source crops of B persons without joints.

    Attributes:
        crops: RGB crops with context around the person, in which random views still find pixels.
        to_input: From crop pixels to input pixels of the view without random changes.
    """

    crops: UInt8[Tensor, "B 3 S T"]
    to_input: Float[Tensor, "B 3 3"]

    def __len__(self) -> int:
        return len(self.crops)

    def split(self, parts: int) -> list["UnlabeledBatch"]:
        """Returns the batch in `parts` equal parts."""
        fields = (self.crops, self.to_input)
        return [UnlabeledBatch(*tensors) for tensors in zip(*(t.chunk(parts) for t in fields), strict=True)]

    def to(self, device: torch.device) -> "UnlabeledBatch":
        """Returns the batch on `device`."""
        return UnlabeledBatch(*(_to(t, device) for t in (self.crops, self.to_input)))

    def pin_memory(self) -> "UnlabeledBatch":
        """Returns the batch in pinned memory, from which copies to a GPU are asynchronous."""
        return UnlabeledBatch(self.crops.pin_memory(), self.to_input.pin_memory())


@dataclass(frozen=True)
class LabeledBatch:
    """Source crops of B persons with joints.

    Attributes:
        crops: RGB crops with context around the person.
        to_input: From crop pixels to input pixels of the view without random changes.
        joints: Positions in crop pixels.
        weights: 1 where the joint is labeled, 0 where it is not.
    """

    crops: UInt8[Tensor, "B 3 S T"]
    to_input: Float[Tensor, "B 3 3"]
    joints: Float[Tensor, "B K 2"]
    weights: Float[Tensor, "B K"]

    def __len__(self) -> int:
        return len(self.crops)

    def split(self, parts: int) -> list["LabeledBatch"]:
        """Returns the batch in `parts` equal parts."""
        return [
            LabeledBatch(*t)
            for t in zip(*(t.chunk(parts) for t in (self.crops, self.to_input, self.joints, self.weights)), strict=True)
        ]

    def to(self, device: torch.device) -> "LabeledBatch":
        """Returns the batch on `device`."""
        return LabeledBatch(*(_to(t, device) for t in (self.crops, self.to_input, self.joints, self.weights)))

    def pin_memory(self) -> "LabeledBatch":
        """Returns the batch in pinned memory, from which copies to a GPU are asynchronous."""
        return LabeledBatch(*(t.pin_memory() for t in (self.crops, self.to_input, self.joints, self.weights)))


@dataclass(frozen=True)
class View:
    """Network input made from source crops.

    Attributes:
        images: Normalized images.
        from_crop: From crop pixels to pixels of this view.
        flipped: Whether the sample is flipped horizontally.
    """

    images: Float[Tensor, "B 3 H W"]
    from_crop: Float[Tensor, "B 3 3"]
    flipped: Bool[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> "View":
        return View(self.images[part], self.from_crop[part], self.flipped[part])


@dataclass(frozen=True)
class LabeledView:
    """A view of labeled persons.

    Attributes:
        view: The network input.
        targets: Gaussian heatmaps.
        weights: Joint weights; 0 where a joint is unlabeled or outside the view.
    """

    view: View
    targets: Float[Tensor, "B K h w"]
    weights: Float[Tensor, "B K"]


@dataclass(frozen=True)
class Mixture:
    """How each sample of a batch is mixed with another one.

    Attributes:
        partners: Index of the other sample.
        share: Share of the sample itself in each pixel; H = W = 1 for one share in all pixels.
    """

    partners: Int[Tensor, " B"]
    share: Float[Tensor, "B 1 H W"]

    def __call__(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Mixes images or heatmaps; the share of a heatmap cell is the mean over its pixels."""
        share = self.share
        if share.shape[-2:] != (1, 1):
            share = F.adaptive_avg_pool2d(share, (maps.shape[-2], maps.shape[-1]))
        return share * maps + (1 - share) * maps[self.partners]


@dataclass(frozen=True)
class HardView:
    """An augmented and transformed easy view.

    Attributes:
        images: Normalized images.
        from_easy: The matrix M from pixels of the easy view to pixels of this view.
        mixtures: How the images were mixed, in this order, where the targets have to be mixed likewise.
    """

    images: Float[Tensor, "B 3 H W"]
    from_easy: Float[Tensor, "B 3 3"]
    mixtures: tuple[Mixture, ...] = ()


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    """Only CUDA keeps the source alive until an asynchronous copy is done."""
    return tensor.to(device, non_blocking=device.type == "cuda")
