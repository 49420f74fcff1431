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


ALTERATIONS: tuple[type[BaseModel], ...] = (
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

KINDS = {alteration.model_fields["kind"].default: alteration for alteration in ALTERATIONS}
"""The same by the name that configurations use."""

Alteration: Any = Annotated[
    Annotated[Union[ALTERATIONS], Field(discriminator="kind")],  # noqa: UP007
    BeforeValidator(_by_name),
]
"""One alteration: called with (images, joints, scores, generator) it returns altered images of the same shape."""


def alter(
    images: Tensor,
    joints: Tensor,
    scores: Tensor,
    alterations: Sequence[Callable[[Tensor, Tensor, Tensor, torch.Generator], Tensor]],
    generator: torch.Generator,
) -> Tensor:
    """All alterations one after the other; none leaves the images as they are. The geometry is never touched."""
    for alteration in alterations:
        images = alteration(images, joints, scores, generator)
    return images
