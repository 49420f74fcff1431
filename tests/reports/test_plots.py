"""Charts are SVG with their text as text, and leave matplotlib's settings as they were."""

import base64

import cv2
import matplotlib
import numpy as np
import pytest

from semipose.reports.plots import bars, curves, dots, grouped_bars, jpeg, overlay, reliability, scatter


@pytest.mark.parametrize(
    ("draw", "texts"),
    [
        (lambda: curves({"f": [(0, 1.0), (10, 2.0)]}, "step", "loss", bands={"f": [0.1, 0.2]}), ["f", "step", "loss"]),
        (
            lambda: curves({"a $x$ y$": [(0, 1.0), (1, 2.0)], "_b": [(0, 1.0), (1, 2.0)]}, "step", "loss"),
            ["a $x$ y$", "_b"],
        ),
        (lambda: grouped_bars({"_b": {"$nose$": 1.0, "hip": 2.0}}, "PCK"), ["_b", "$nose$"]),
        (lambda: scatter({"_b": (15.4, 42.9)}, "parameters", "AP"), ["_b"]),
        (lambda: reliability({"_b": [(31, 0.25, 0.5)]}, "score", "right", "n"), ["_b"]),
        (lambda: curves({"f": [(100, 1.0), (1600, 2.0)]}, "labels", "AP", log_x=True), ["100", "1600"]),
        (lambda: bars({"left_wrist": 51.0, "nose": 73.46}, "PCK"), ["left_wrist", "nose", "PCK", "51", "73.5"]),
        (lambda: bars({"nose": 0.0}, "PCK"), ["nose", "0"]),
        (
            lambda: grouped_bars({"G": {"nose": 1.0, "hip": 2.0}, "R1": {"nose": 3.0}}, "PCK"),
            ["G", "R1", "nose", "hip"],
        ),
        (
            lambda: scatter({"akm": (15.4, 42.9), "dual": (30.8, 44.6)}, "parameters", "AP"),
            ["akm", "dual", "parameters"],
        ),
        (
            lambda: reliability(
                {"peak": [(31, 0.25, 0.5), (7, 0.9, 0.7)], "after": [(38, 0.6, 0.6)]}, "score", "right", "n"
            ),
            ["peak", "after", "score", "right", "n", "31", "7", "38"],
        ),
        (lambda: dots({"single": [40.0, 41.0], "dual": [44.0]}, "AP"), ["single", "dual", "AP"]),
    ],
)
def test_chart(draw, texts):
    before = dict(matplotlib.rcParams)
    url = draw()
    assert url.startswith("data:image/svg+xml;base64,")
    svg = base64.b64decode(url.partition(",")[2]).decode()
    assert all(f">{text}<" in svg for text in texts)
    assert dict(matplotlib.rcParams) == before


def test_jpeg():
    image = np.zeros((20, 30, 3), np.uint8)
    image[..., 0] = 200
    content = base64.b64decode(jpeg(image).partition(",")[2])
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == image.shape
    assert np.abs(decoded[..., ::-1].astype(int) - image).max() < 5


def test_overlay_is_red_at_the_peak_only():
    heatmaps = np.zeros((2, 4, 4), np.float32)
    heatmaps[1, 1, 2] = 1
    drawn = overlay(np.full((16, 16, 3), 100, np.uint8), heatmaps)
    assert drawn[6, 10, 0] > drawn[6, 10, 1] + 50
    assert (drawn[15, 0] == 100).all()
