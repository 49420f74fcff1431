"""All methods by name. Adding one: its file and its line in METHODS."""

from typing import Annotated, Any, Union

from pydantic import Field
from torch import nn

from semipose.methods import (
    akm,
    data_distill,
    dual,
    mean_teacher,
    multi_augs,
    pseudopose,
    single,
    sspcm,
    supervised,
    trs,
)
from semipose.methods.base import Workbench

METHODS: dict[str, tuple[type, type]] = {
    "supervised": (supervised.Config, supervised.Supervised),
    "mean_teacher": (mean_teacher.Config, mean_teacher.MeanTeacher),
    "pseudopose": (pseudopose.Config, pseudopose.PseudoPose),
    "data_distill": (data_distill.Config, data_distill.DataDistill),
    "single": (single.Config, single.Single),
    "dual": (dual.Config, dual.Dual),
    "sspcm": (sspcm.Config, sspcm.Sspcm),
    "akm": (akm.Config, akm.AdaptiveKeypointMasking),
    "multi_augs": (multi_augs.Config, multi_augs.MultiAugs),
    "trs": (trs.Config, trs.TeacherReviewerStudent),
}
"""Name -> (options, method); the order is that of tables."""

MethodConfig: Any = Annotated[Union[tuple(config for config, _ in METHODS.values())], Field(discriminator="name")]  # noqa: UP007
"""Options of any method, told apart by `name`."""


def build_method(config: Any, bench: Workbench) -> nn.Module:
    """The method whose Config `config` is, with new networks."""
    return METHODS[config.name][1](config, bench)
