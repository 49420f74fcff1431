"""Charts as SVG and images as JPEG, both as data URLs, so that a page needs no other files."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from semipose.utils.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of runs and joints may have two $
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLORS = ("#1b6ca8", "#d1495b", "#3c896d", "#edae49", "#6a4c93", "#66666e", "#00a6a6", "#8d5b4c")
LINES = ("-", "--", ":")
MARKERS = "osD^vP*"

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Curves by name: points (x, y)."""


class Chart:
    """A chart; after the block of `new_chart`, `url` is its SVG as a data URL."""

    def __init__(self, axes: "Axes") -> None:
        self.axes, self.url = axes, ""


@contextmanager
def new_chart(height: float) -> Iterator[Chart]:
    """Opens a chart with a height in inches, without a lasting change of matplotlib's settings.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    matplotlib = import_extra("matplotlib", "reports", "writing reports")
    figures = import_extra("matplotlib.figure", "reports", "writing reports")
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(figsize=(5.2, height), layout="constrained")
        chart = Chart(figure.add_subplot())
        yield chart
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
        chart.url = _url("image/svg+xml", content.getvalue())


def _legend(axes: "Axes", drawn: Mapping[str, Any], **options: Any) -> None:
    """Adds a legend; without explicit handles matplotlib leaves out names that begin with _."""
    axes.legend(list(drawn.values()), list(drawn), frameon=False, fontsize=8, **options)


def curves(
    series: Series, x: str, y: str, *, log_x: bool = False, bands: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Draws lines with a legend.

    Args:
        series: The curves.
        x: Label of the x axis.
        y: Label of the y axis.
        log_x: Whether the x axis is logarithmic, with a tick at each point.
        bands: Half-width of a band around each point, by curve (a standard deviation).

    Returns:
        The chart as a data URL.
    """
    with new_chart(3.1) as chart:
        axes, drawn = chart.axes, {}
        for number, (name, points) in enumerate(series.items()):
            xs, ys = np.array(points, dtype=float).T
            color = COLORS[number % len(COLORS)]
            marker, style = "o" if len(xs) < 15 else None, LINES[number // len(COLORS) % len(LINES)]
            (drawn[name],) = axes.plot(xs, ys, style, color=color, linewidth=1.6, marker=marker, markersize=3)
            if bands and name in bands:
                width = np.array(bands[name])
                axes.fill_between(xs, ys - width, ys + width, color=color, alpha=0.15, linewidth=0)
        axes.set(xlabel=x, ylabel=y)
        if log_x:
            axes.set_xscale("log")
            ticks = sorted({point[0] for points in series.values() for point in points})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        _legend(axes, drawn)
    return chart.url


def bars(values: Mapping[str, float], x: str) -> str:
    """Draws one horizontal bar per name with its value; returns the chart as a data URL."""
    with new_chart(0.6 + 0.24 * len(values)) as chart:
        drawn = chart.axes.barh(list(values), list(values.values()), 0.8, color=COLORS[0])
        chart.axes.bar_label(
            drawn, [f"{value:.1f}".removesuffix(".0") for value in values.values()], padding=3, fontsize=8
        )
        chart.axes.set_xlim(0, 1.12 * max([*values.values(), 1e-9]))
        chart.axes.invert_yaxis()
        chart.axes.set_xlabel(x)
    return chart.url


def grouped_bars(groups: Mapping[str, Mapping[str, float]], x: str) -> str:
    """Draws one horizontal bar for each group and name, with a legend of the groups; returns the chart as a data URL.

    Args:
        groups: Values by name, by group.
        x: Label of the x axis.
    """
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    height = 0.8 / max(1, len(groups))
    with new_chart(0.9 + 0.12 * len(names) * (len(groups) + 0.6)) as chart:
        axes, drawn = chart.axes, {}
        for number, (group, values) in enumerate(groups.items()):
            places = [names.index(name) + (number + 0.5) * height - 0.4 for name in values]
            drawn[group] = axes.barh(places, list(values.values()), height, color=COLORS[number % len(COLORS)])
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(x)
        axes.grid(axis="x", alpha=0.25)
        _legend(axes, drawn, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    return chart.url


def scatter(points: Mapping[str, tuple[float, float]], x: str, y: str) -> str:
    """Draws one marker for each name, with a legend beside the chart; returns the chart as a data URL."""
    with new_chart(max(3.1, 0.4 + 0.2 * len(points))) as chart:
        axes, drawn = chart.axes, {}
        for number, (name, (across, up)) in enumerate(points.items()):
            color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
            (drawn[name],) = axes.plot(across, up, marker, color=color, markersize=7, alpha=0.85)
        axes.set(xlabel=x, ylabel=y)
        axes.margins(0.15)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        _legend(axes, drawn, loc="center left", bbox_to_anchor=(1, 0.5))
    return chart.url


def dots(groups: Mapping[str, Sequence[float]], x: str) -> str:
    """Draws one line per name with a dot for each value and a bar at their mean; returns the chart as a data URL."""
    with new_chart(0.7 + 0.26 * len(groups)) as chart:
        axes = chart.axes
        for number, values in enumerate(groups.values()):
            color = COLORS[number % len(COLORS)]
            axes.plot(values, [number] * len(values), "o", color=color, markersize=5, alpha=0.8)
            axes.plot([np.mean(values)] * 2, [number - 0.3, number + 0.3], color=color, linewidth=2)
        axes.set_yticks(range(len(groups)), list(groups))
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.25)
        axes.set_xlabel(x)
    return chart.url


def reliability(groups: Mapping[str, Sequence[tuple[int, float, float]]], x: str, y: str, counts: str) -> str:
    """Draws reliability diagrams of ten bins, with their numbers of joints as bars; returns the chart as a data URL.

    Args:
        groups: Number of joints, mean confidence and share of right joints of each bin, by name.
        x: Label of the confidences.
        y: Label of the shares.
        counts: Label of the numbers.
    """
    with new_chart(3.6) as chart:
        axes, below, lines = chart.axes, chart.axes.twinx(), {}
        axes.plot([0, 1], [0, 1], "--", color=COLORS[5], linewidth=1)
        for number, (name, bins) in enumerate(groups.items()):
            sizes, confidences, shares = np.array(bins, dtype=float).T
            color = COLORS[number % len(COLORS)]
            (lines[name],) = axes.plot(confidences, shares, color=color, linewidth=1.6, alpha=0.6)
            axes.scatter(confidences, shares, 4 + 60 * sizes / sizes.max(), color=color)
            places = np.minimum(np.floor(10 * confidences), 9) / 10 + (number + 1) / 10 / (len(groups) + 1)
            drawn = below.bar(places, sizes, 0.06 / len(groups), color=color, alpha=0.35)
            below.bar_label(drawn, [f"{size:.0f}" for size in sizes], fontsize=6, color=color)
        below.set_ylim(0, 4 * below.dataLim.y1)
        below.set_yticks([])
        below.set_ylabel(counts)
        axes.set(xlabel=x, ylabel=y, xlim=(0, 1.02), ylim=(0, 1.02))
        _legend(axes, lines, loc="upper left")
    return chart.url


def jpeg(image: np.ndarray) -> str:
    """Encodes an RGB image (H, W, 3) uint8 as a data URL."""
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return _url("image/jpeg", content.tobytes())


def overlay(image: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Draws the maximum over the heatmaps (K, h, w) in red on the grayscale image (H, W, 3) uint8."""
    strength = np.clip(heatmaps.max(axis=0), 0, 1).astype(np.float32)
    strength = cv2.resize(strength, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    return (gray * (1 - 0.8 * strength) + np.array([230, 40, 50]) * 0.8 * strength).astype(np.uint8)


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
