"""The registry of all methods. A new method is one file and one line in METHODS."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union

from pydantic import BeforeValidator, Field

from semipose.methods import (
    akm,
    data_distill,
    dual,
    late_teacher,
    mean_teacher,
    multi_augs,
    pseudopose,
    single,
    sspcm,
    supervised,
    trs,
)
from semipose.methods.base import Method, MethodContext, MethodOptions

METHODS: dict[str, tuple[type[MethodOptions], type[Method]]] = {
    "supervised": (supervised.Config, supervised.Supervised),
    "mean_teacher": (mean_teacher.Config, mean_teacher.MeanTeacher),
    "late_teacher": (late_teacher.Config, late_teacher.LateTeacher),
    "pseudopose": (pseudopose.Config, pseudopose.PseudoPose),
    "data_distill": (data_distill.Config, data_distill.DataDistill),
    "single": (single.Config, single.Single),
    "dual": (dual.Config, dual.Dual),
    "sspcm": (sspcm.Config, sspcm.Sspcm),
    "akm": (akm.Config, akm.AdaptiveKeypointMasking),
    "multi_augs": (multi_augs.Config, multi_augs.MultiAugs),
    "trs": (trs.Config, trs.TeacherReviewerStudent),
}
"""The option class and the method class of each name, in the order of the tables."""


class Variant(NamedTuple):
    """A second row of a method in its paper's tables: the method with other options."""

    method: str
    options: dict[str, Any]
    summary: str
    published: tuple[float, float, float]
    """Published scores, as in `Method.published`."""


VARIANTS = {
    "akm+mixup": Variant(
        "akm",
        {"mixup": {"enabled": True}},
        "akm with its Mixup branch, applied to the image and before layer 3",
        (47.3, 56.1, 59.1),
    ),
    "multi_augs+dual": Variant(
        "multi_augs",
        {"networks": 2, "supervised_weight": 0.5},
        "multi_augs with two networks, each of which is the other's teacher",
        (49.7, 58.8, 61.8),
    ),
}
"""The variants by name. A configuration can name a variant in place of a method."""


def _expand_variant(value: Any) -> Any:
    """Replaces a variant's name by its method and options; options of the configuration override those."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in VARIANTS:
        return value
    variant = VARIANTS[name]
    expanded = {**variant.options, **value, "name": variant.method}
    for key, option in variant.options.items():
        if isinstance(option, dict) and isinstance(expanded[key], dict):
            expanded[key] = {**option, **expanded[key]}
    return expanded


if TYPE_CHECKING:
    MethodConfig = MethodOptions
else:
    MethodConfig = Annotated[
        Annotated[Union[tuple(options for options, _ in METHODS.values())], Field(discriminator="name")],  # noqa: UP007
        BeforeValidator(_expand_variant),
    ]
"""The options of any method or variant, distinguished by `name`."""


def build_method(config: MethodOptions, context: MethodContext) -> Method:
    """Returns the method that `config` belongs to, with new networks."""
    _, method = METHODS[config.name]
    return method(config, context)
