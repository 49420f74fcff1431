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


AUGMENTATION_TYPES: tuple[type[BaseModel], ...] = (
    JointCutout,
    AdaptiveJointCutout,
    CutOcclude,
    KeypointMix,
    Cutout,
    CutMix,
    Mixup,
    RandAugment,
)
"""All of them; a new one is a class with `kind` and a call, and a name here."""

AUGMENTATIONS = {augmentation.model_fields["kind"].default: augmentation for augmentation in AUGMENTATION_TYPES}
"""The same by the name that configurations use."""

Augmentation: Any = Annotated[
    Annotated[Union[AUGMENTATION_TYPES], Field(discriminator="kind")],  # noqa: UP007
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
