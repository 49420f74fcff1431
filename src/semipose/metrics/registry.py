"""All metrics by the name of their main value, and how values are shown. A new metric is one file and one line here."""

from semipose.metrics.base import Metric
from semipose.metrics.oks import KeypointAP
from semipose.metrics.pck import PCK, PCKh
from semipose.metrics.pixel_error import PixelError

METRICS: dict[str, Metric] = {
    "AP": KeypointAP(),
    "PCK@0.2": PCK(),
    "PCKh@0.5": PCKh(),
    "pixel_error": PixelError(),
}


def is_error(name: str) -> bool:
    """Returns whether the value of this name is an error in pixels: the lower one is better."""
    return any(metric.is_error and (name == own or name.startswith(f"{own}_")) for own, metric in METRICS.items())


def is_of_part(name: str) -> bool:
    """Returns whether the value of this name is that of a body part, such as `PCKh@0.5/head`."""
    return "/" in name


def shown(name: str, value: float) -> float:
    """Returns a value in the unit that it is shown in: fractions × 100, errors in pixels."""
    return value if is_error(name) else 100 * value


def value_text(name: str, value: float | None) -> str:
    """Returns a value with one decimal; – for None."""
    return "–" if value is None else f"{shown(name, value):.1f}"


def column_title(name: str) -> str:
    """Returns the title of a column of values × 100; errors name their unit."""
    return f"{name} (px)" if is_error(name) else name


def in_words(name: str) -> str:
    """Returns the name of a metric in running text: errors without an underscore."""
    return name.replace("_", " ") if is_error(name) else name


def axis_title(name: str) -> str:
    """Returns the title of a chart's axis, with the unit."""
    return f"{in_words(name)} (px)" if is_error(name) else f"{name} × 100"
