"""The boxes that predictions are made in, compared with those that a network was trained in."""

import logging
import os

from semipose.inference.pose_model import PoseModel
from semipose.structures.boxes import WHOLE, BoxFacts

log = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]

REMEDIES = {
    "whole": "set `boxes=whole`",
    "given": "give boxes of the same kind as `boxes`",
    "joints": "give boxes of a detector around the subjects as `boxes`, or train again with `boxes=auto`",
    "found": "set `boxes=auto`",
}
"""What makes the boxes of a prediction like those of the training, by how the latter were made."""


def is_box_file(boxes: PathLike | None) -> bool:
    """Returns whether the parameter `boxes` names a file of detections, and neither is missing nor a word."""
    return boxes is not None and os.fspath(boxes) != WHOLE


def warn_of_other_boxes(model: PoseModel, facts: BoxFacts | None, source: str) -> None:
    """Warns in one line, with the remedy, if boxes are clearly unlike those that a model was trained in.

    Args:
        model: The model.
        facts: The boxes that predictions are made in; None if there are none.
        source: The images, for the message.
    """
    trained = model.boxes
    if trained is None or facts is None or not trained.differ_from(facts):
        return
    log.warning(
        f"{source}: the network was trained in {trained.describe()}, and the boxes here are {facts.describe()}: "
        f"predictions will be far worse than those in like boxes; {REMEDIES[trained.kind]}"
    )
