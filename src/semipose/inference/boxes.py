"""The boxes that predictions are made in, compared with those that a network was trained in."""

import logging
import os

from semipose.errors import ConfigError
from semipose.inference.box_finder import BoxFinder
from semipose.inference.pose_model import PoseModel
from semipose.structures.boxes import AUTO, BOX_EACH, WHOLE, BoxFacts
from semipose.utils.files import from_here

log = logging.getLogger(__name__)
PathLike = str | os.PathLike[str]

REMEDIES = {
    "whole": "set `boxes=whole`",
    "given": "give boxes of the same kind as `boxes`",
    "joints": f"train with `boxes={AUTO}`, or give boxes around the subjects as `boxes`",
}
"""What makes the boxes of a prediction like those of the training, by how these were made, unless they were found."""


def _finding(model: PoseModel) -> str:
    """What makes a model find the boxes."""
    if model.box_finder:
        return f"set `boxes={AUTO}`"
    found = model.boxes is not None and model.boxes.kind == "found"
    return "give the run folder, which has the box network" if found else f"train with `boxes={AUTO}`"


def is_box_file(boxes: PathLike | None) -> bool:
    """Returns whether the parameter `boxes` names a file of detections, and neither is missing nor a word."""
    return boxes is not None and os.fspath(boxes) not in (WHOLE, AUTO)


def box_finder_for(model: PoseModel, boxes: PathLike | None) -> BoxFinder | None:
    """Returns what finds the boxes of a prediction: that of a model that has one, unless other boxes are given.

    Raises:
        ConfigError: If `boxes` is `auto` and the model has none.
    """
    if boxes is None:
        return model.box_finder
    if os.fspath(boxes) != AUTO:
        return None
    if model.box_finder is None:
        source = from_here(model.path) if model.path else "the model"
        raise ConfigError(
            f"`boxes={AUTO}`: {source} has no box network; train with `boxes={AUTO}` and give the run folder, or give "
            "the boxes of a detector"
        )
    return model.box_finder


def warn_of_other_boxes(model: PoseModel, facts: BoxFacts | None, source: str) -> None:
    """Warns in one line, with the remedy, if boxes are clearly unlike those that a model was trained in.

    Args:
        model: The model.
        facts: The boxes that predictions are made in; None if there are none.
        source: The images, for the message.
    """
    trained = model.boxes
    if trained is None or facts is None:
        return
    if trained.subjects > 1 and facts.kind == "whole":
        log.warning(
            f"{source}: the labels of the training show up to {trained.subjects} subjects in an image, and one box an "
            f"image finds at most one of them; {_finding(model)}, or give {BOX_EACH}"
        )
        return
    if not trained.differ_from(facts):
        return
    log.warning(
        f"{source}: the network was trained in {trained.describe()}, and the boxes here are {facts.describe()}: "
        f"expect far larger errors; {REMEDIES.get(trained.kind) or _finding(model)}"
    )
