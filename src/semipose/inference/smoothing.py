"""Smoothing of the predictions for a video."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from semipose.errors import ConfigError
from semipose.structures.predictions import Prediction


def check_smoothing(window: int, several: bool = False) -> None:
    """Raises ConfigError if the window is even, or a frame has `several` boxes."""
    if window < 1 or window % 2 == 0:
        raise ConfigError(f"`smooth` is {window}; give an odd number of frames")
    if several:
        raise ConfigError("`smooth`: it is for videos with one person, and frames have several boxes; leave it out")


def median_filter(predictions: Sequence[Prediction], window: int) -> list[Prediction]:
    """Returns predictions whose joints are the median, in x and in y, of those in the frames around each frame.

    Frames without a prediction and frames beyond the ends of the video do not count. Scores stay.

    Args:
        predictions: At most one prediction for each frame of a video; the image ids are the frame numbers.
        window: Number of frames, odd; a joint that is wrong in fewer than half of them is corrected.

    Reference: the median filter of DeepLabCut's `filterpredictions` (Nath et al., Nature Protocols 2019).
    """
    numbers = np.array([int(p.image_id) for p in predictions])
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    joints = np.array([predictions[i].joints for i in order])
    smoothed = list(predictions)
    for i, number in zip(order.tolist(), ordered.tolist(), strict=True):
        around = slice(*np.searchsorted(ordered, (number - window // 2, number + window // 2 + 1)))
        smoothed[i] = replace(predictions[i], joints=np.median(joints[around], axis=0))
    return smoothed
