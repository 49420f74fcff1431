"""What flows through a step: labeled and unlabeled batches of source crops, and views of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor


@dataclass(frozen=True)
class UnlabeledBatch:
    """Source crops of B persons without joints.

    `crops` (B, 3, S, T) uint8 RGB with context around the person; `to_input` (B, 3, 3) maps crop pixels to input
    pixels of the upright, unscaled view.
    """

    crops: UInt8[Tensor, "B 3 S T"]
    to_input: Float[Tensor, "B 3 3"]

    def __len__(self) -> int:
        return len(self.crops)

    def to(self, device: torch.device) -> "UnlabeledBatch":
        """The batch on `device`."""
        return UnlabeledBatch(*(_moved(t, device) for t in (self.crops, self.to_input)))

    def pin_memory(self) -> "UnlabeledBatch":
        """The batch in memory from which a GPU copies while the host goes on."""
        return UnlabeledBatch(self.crops.pin_memory(), self.to_input.pin_memory())


@dataclass(frozen=True)
class LabeledBatch:
    """Source crops of B persons with joints in crop pixels and their weights (0 where unlabeled)."""

    crops: UInt8[Tensor, "B 3 S T"]
    to_input: Float[Tensor, "B 3 3"]
    joints: Float[Tensor, "B K 2"]
    weights: Float[Tensor, "B K"]

    def __len__(self) -> int:
        return len(self.crops)

    def to(self, device: torch.device) -> "LabeledBatch":
        """The batch on `device`."""
        return LabeledBatch(*(_moved(t, device) for t in (self.crops, self.to_input, self.joints, self.weights)))

    def pin_memory(self) -> "LabeledBatch":
        """The batch in memory from which a GPU copies while the host goes on."""
        return LabeledBatch(*(t.pin_memory() for t in (self.crops, self.to_input, self.joints, self.weights)))


@dataclass(frozen=True)
class View:
    """Network input made from source crops.

    `images` (B, 3, H, W) normalized float; `from_crop` (B, 3, 3) maps crop pixels to this view's pixels; `flipped`
    says which samples it mirrors.
    """

    images: Float[Tensor, "B 3 H W"]
    from_crop: Float[Tensor, "B 3 3"]
    flipped: Bool[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class LabeledView:
    """A view with its targets: Gaussian heatmaps (B, K, h, w) and joint weights (B, K)."""

    view: View
    targets: Float[Tensor, "B K h w"]
    weights: Float[Tensor, "B K"]


@dataclass(frozen=True)
class HardView:
    """A hard view, the matrix M from the easy view's input pixels to its own, and nothing about joints."""

    images: Float[Tensor, "B 3 H W"]
    from_easy: Float[Tensor, "B 3 3"]


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On `device`; only CUDA keeps the source until a copy that nobody waits for is done."""
    return tensor.to(device, non_blocking=device.type == "cuda")
