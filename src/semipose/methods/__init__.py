"""All methods by name. Adding one: its file and its line in METHODS."""

from typing import Annotated, Any, Union

from pydantic import BeforeValidator, Field
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
from semipose.methods.base import MethodContext

METHODS: dict[str, tuple[Any, Any]] = {
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

VARIANTS: dict[str, tuple[str, dict[str, Any], tuple[float, float, float]]] = {
    "akm+mixup": ("akm", {"mixup": {"enabled": True}}, (47.3, 56.1, 59.1)),
    "multi_augs+dual": ("multi_augs", {"networks": 2, "supervised_weight": 0.5}, (49.7, 58.8, 61.8)),
}
"""Configurations that the papers list beside a method: name -> (method, options, published figures as in Method)."""


def _expand(value: Any) -> Any:
    """A variant's name stands for its method with its options; options given beside it win."""
    if isinstance(value, dict) and isinstance(value.get("name"), str) and value["name"] in VARIANTS:
        name, options, _ = VARIANTS[value["name"]]
        given = {k: v for k, v in value.items() if k != "name"}
        merged = {k: {**v, **given.get(k, {})} if isinstance(v, dict) else given.get(k, v) for k, v in options.items()}
        return {**given, **merged, "name": name}
    return value


MethodConfig: Any = Annotated[
    Annotated[Union[tuple(config for config, _ in METHODS.values())], Field(discriminator="name")],  # noqa: UP007
    BeforeValidator(_expand),
]
"""Options of any method or variant, told apart by `name`."""


def build_method(config: Any, context: MethodContext) -> nn.Module:
    """The method whose Config `config` is, with new networks."""
    return METHODS[config.name][1](config, context)
