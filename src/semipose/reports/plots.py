"""Figures of reports as SVG and JPEG data addresses: nothing is fetched when the page is viewed."""

import base64
import io
from collections.abc import Mapping, Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.rcParams.update(
    {"svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)

COLORS = ("#1b6ca8", "#d1495b", "#3c896d", "#edae49", "#6a4c93", "#66666e", "#00a6a6", "#8d5b4c")

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Curves by name: points (x, y)."""


def curves(
    series: Series, x: str, y: str, *, log_x: bool = False, bands: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Lines with a legend; `bands` gives a half-width per point (a standard deviation)."""
    figure = Figure(figsize=(5.2, 3.1), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(series.items()):
        xs, ys = zip(*points, strict=True)
        color = COLORS[number % len(COLORS)]
        axes.plot(xs, ys, label=name, color=color, linewidth=1.6, marker="o" if len(xs) < 15 else None, markersize=3)
        if bands and name in bands:
            low, high = (np.array(ys) + sign * np.array(bands[name]) for sign in (-1, 1))
            axes.fill_between(xs, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel=x, ylabel=y)
    if log_x:
        axes.set_xscale("log")
        ticks = sorted({point[0] for points in series.values() for point in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def bars(groups: Mapping[str, Mapping[str, float]], y: str) -> str:
    """Grouped horizontal bars: one group per outer name, one bar per inner name."""
    names = list(dict.fromkeys(inner for values in groups.values() for inner in values))
    figure = Figure(figsize=(5.2, 0.6 + 0.12 * (len(names) * (len(groups) + 1))), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(groups)
    for number, (group, values) in enumerate(groups.items()):
        places = [i + number * height for i in range(len(names))]
        axes.barh(places, [values.get(n, 0) for n in names], height, label=group, color=COLORS[number % len(COLORS)])
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel(y)
    if len(groups) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def dots(groups: Mapping[str, Sequence[float]], y: str) -> str:
    """One row per name: a dot per seed and a bar at the mean."""
    figure = Figure(figsize=(5.2, 0.7 + 0.26 * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    for number, (_, values) in enumerate(groups.items()):
        color = COLORS[number % len(COLORS)]
        axes.plot(values, [number] * len(values), "o", color=color, markersize=5, alpha=0.8)
        axes.plot([np.mean(values)] * 2, [number - 0.3, number + 0.3], color=color, linewidth=2)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.25)
    axes.set_xlabel(y)
    return _svg(figure)


def picture(image: np.ndarray) -> str:
    """RGB (H, W, 3) uint8 as a JPEG data address."""
    done, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def heat(image: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 under the highest of K heatmaps (K, h, w), red where a joint is seen."""
    strength = np.clip(heatmaps.max(axis=0), 0, 1).astype(np.float32)
    strength = cv2.resize(strength, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    return (gray * (1 - 0.8 * strength) + np.array([230, 40, 50]) * 0.8 * strength).astype(np.uint8)


def _svg(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()
