"""The registry of augmentations, their type in configurations, and their composition."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeAlias, Union

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from semipose.augment.base import HardViewAugmentation, MixingAugmentation
from semipose.augment.color import RandAugment
from semipose.augment.masking import AdaptiveJointCutout, CutOcclude, Cutout, CutoutPatches, JointCutout
from semipose.augment.mixing import CutMix, CutMixPatches, KeypointMix, Mixup
from semipose.structures.batches import Mixture

AUGMENTATIONS: dict[str, type[HardViewAugmentation]] = {
    "joint_cutout": JointCutout,
    "adaptive_joint_cutout": AdaptiveJointCutout,
    "cut_occlude": CutOcclude,
    "keypoint_mix": KeypointMix,
    "cutout": Cutout,
    "cutout_patches": CutoutPatches,
    "cut_mix": CutMix,
    "cut_mix_patches": CutMixPatches,
    "mixup": Mixup,
    "rand_augment": RandAugment,
}
"""The augmentations by their name in configurations, which is the value of the field `kind`."""


def _expand_name(value: object) -> object:
    """Expands the name of an augmentation to the augmentation with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


if TYPE_CHECKING:
    Augmentation: TypeAlias = HardViewAugmentation
else:
    Augmentation = Annotated[
        Annotated[Union[tuple(AUGMENTATIONS.values())], Field(discriminator="kind")],  # noqa: UP007
        BeforeValidator(_expand_name),
    ]
    """An augmentation in a configuration: its name, or a mapping with the name as `kind` and with options."""


def apply_augmentations(
    images: Tensor,
    joints: Tensor,
    scores: Tensor,
    augmentations: Sequence[HardViewAugmentation],
    generator: torch.Generator,
) -> tuple[Tensor, tuple[Mixture, ...]]:
    """Applies augmentations in sequence; the other arguments are those of `HardViewAugmentation`.

    Returns:
        The images, and how targets have to be mixed, in this order.
    """
    mixtures = []
    for augmentation in augmentations:
        if isinstance(augmentation, MixingAugmentation):
            mixture = augmentation.draw(images, generator)
            images = mixture(images)
            if augmentation.mix_targets:
                mixtures.append(mixture)
        else:
            images = augmentation(images, joints, scores, generator)
    return images, tuple(mixtures)
