"""The union of all alterations of the hard view, as one type for configurations, and their composition."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import torch
from pydantic import BaseModel, BeforeValidator, Field
from torch import Tensor

from semipose.augment.color import RandAugment
from semipose.augment.masking import AdaptiveJointCutout, CutOcclude, Cutout, JointCutout
from semipose.augment.mixing import CutMix, KeypointMix, Mixup


def _by_name(value: Any) -> Any:
    """A bare name stands for the alteration with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


AUGMENTATIONS: dict[str, type[BaseModel]] = {
    "joint_cutout": JointCutout,
    "adaptive_joint_cutout": AdaptiveJointCutout,
    "cut_occlude": CutOcclude,
    "keypoint_mix": KeypointMix,
    "cutout": Cutout,
    "cut_mix": CutMix,
    "mixup": Mixup,
    "rand_augment": RandAugment,
}
"""All of them by the name that configurations use."""

Augmentation: Any = Annotated[
    Annotated[Union[tuple(AUGMENTATIONS.values())], Field(discriminator="kind")],  # noqa: UP007
    BeforeValidator(_by_name),
]
"""One alteration: called with (images, joints, scores, generator) it returns altered images of the same shape."""


def apply_augmentations(
    images: Tensor,
    joints: Tensor,
    scores: Tensor,
    augmentations: Sequence[Callable[[Tensor, Tensor, Tensor, torch.Generator], Tensor]],
    generator: torch.Generator,
) -> Tensor:
    """All alterations one after the other; none leaves the images as they are. The geometry is never touched."""
    for augmentation in augmentations:
        images = augmentation(images, joints, scores, generator)
    return images
