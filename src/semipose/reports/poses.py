"""The same persons under several runs beside ground truth, as in figure 4 of TRS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from semipose.inference.legend import joint_colors
from semipose.metrics.pck import torso_diagonal
from semipose.reports.examples import draw_person, errors_by_person, part_around
from semipose.reports.runs import CommonPersons
from semipose.reports.sheets import Sheet, SheetRow, Tile
from semipose.structures.instances import Instance
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton

MISSED = 0.2
"""A joint that is further from ground truth than this many torso diagonals is wrong in PCK@0.2; it gets a ring."""


@dataclass(frozen=True, eq=False)
class ComparedPerson:
    """A person under several runs.

    Attributes:
        index: Position of the person among the persons that the runs have in common.
        person: The annotated person.
        predictions: The prediction of each run.
        errors: The mean joint error of each run, in torso diagonals, or in pixels if the person has no torso.
        wrong: For each run, (K,) bool, the labeled joints that PCK@0.2 counts as wrong; none without a torso.
        in_torsos: Whether errors are in torso diagonals.
    """

    index: int
    person: Instance
    predictions: Mapping[str, Prediction]
    errors: Mapping[str, float]
    wrong: Mapping[str, np.ndarray]
    in_torsos: bool


def compare_persons(common: CommonPersons, count: int = 6) -> list[ComparedPerson]:
    """Returns persons under each run, from the smallest to the largest mean error over runs.

    They are evenly spaced in that order, so that they show neither the best nor the worst persons only.

    Args:
        common: The persons that all runs were tested on.
        count: Number of persons.
    """
    ranks = [errors_by_person(common.truth, list(found)) for found in common.predictions.values()]
    by_run = [{index: error for error, index in errors} for errors in ranks]
    known = sorted(set.intersection(*map(set, by_run)) if by_run else set())
    order = sorted(known, key=lambda index: float(np.mean([errors[index] for errors in by_run])))
    chosen = [order[i] for i in np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))] if order else []
    return [_compare(common, index) for index in chosen]


def _compare(common: CommonPersons, index: int) -> ComparedPerson:
    person = common.truth[index]
    assert person.joints is not None and person.visibility is not None
    labeled, torso = person.visibility > 0, torso_diagonal(person, common.truth.skeleton)
    predictions = {name: found[index] for name, found in common.predictions.items()}
    distances = {name: np.linalg.norm(p.joints - person.joints, axis=1) for name, p in predictions.items()}
    limit = MISSED * torso if torso else np.inf
    return ComparedPerson(
        index,
        person,
        predictions,
        {name: float(d[labeled].mean()) / (torso or 1.0) for name, d in distances.items()},
        {name: labeled & (d > limit) for name, d in distances.items()},
        torso is not None,
    )


def pose_sheet(common: CommonPersons, count: int = 6) -> Sheet:
    """Draws the same persons with ground truth and with the joints that each run predicts.

    Reference: TRS, figure 4.

    Args:
        common: The persons that all runs were tested on, from `common_persons`.
        count: Number of persons.
    """
    names = list(common.predictions)
    rows = [_row(person, names, common.truth.skeleton) for person in compare_persons(common, count)]
    text = (
        "Persons of the test set with the joints that each run predicts, from the smallest to the largest mean error. "
        "Limbs are blue on the left side of the body and orange on the right. A red ring marks a joint that PCK@0.2 "
        "counts as wrong."
    )
    legend = joint_colors(common.truth.skeleton.joints)
    return Sheet("The same persons under each run", text, ["ground truth", *names], rows, legend)


def _row(compared: ComparedPerson, names: Sequence[str], skeleton: Skeleton) -> SheetRow:
    person, unit = compared.person, "torso" if compared.in_torsos else "px"
    assert person.joints is not None and person.visibility is not None
    labeled = np.where(person.visibility > 0, 1.0, -1.0)
    part = part_around(person, [person.joints[labeled > 0], *(found.joints for found in compared.predictions.values())])
    tiles = [Tile(draw_person(part, person.joints, labeled, skeleton), f"{int((labeled > 0).sum())} labeled joints")]
    for name in names:
        found, wrong = compared.predictions[name], compared.wrong[name]
        caption = f"error {compared.errors[name]:.2f} {unit}"
        caption += f", {wrong.sum()} of {(labeled > 0).sum()} wrong" if compared.in_torsos else ""
        tiles.append(Tile(draw_person(part, found.joints, found.scores, skeleton, wrong=wrong), caption))
    return SheetRow(f"person {person.annotation_id}, {person.image.name}", tiles)
