"""Labels as predictions, and who is evaluated."""

from pathlib import Path

import numpy as np

from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import ground_truth_as_predictions, is_evaluated
from semipose.structures.skeletons import infer_skeleton

TWO = infer_skeleton(["nose", "neck"], name="two")


def test_labels_become_predictions_of_those_who_are_evaluated() -> None:
    def person(number: int, visibility: list[int] | None, crowd: bool = False) -> Instance:
        labels = (None, None) if visibility is None else (np.full((2, 2), 5.0), np.array(visibility))
        return Instance(Path("x"), 1, number, (0, 0, 9, 9), *labels, area=9.0, is_crowd=crowd)

    persons = PoseDataset(TWO, (person(1, [2, 0]), person(2, [0, 0]), person(3, None), person(4, [2, 2], True)), "four")
    assert [is_evaluated(p) for p in persons.instances] == [True, False, False, False]
    (only,) = ground_truth_as_predictions(persons)
    assert only.annotation_id == 1
    assert only.scores.tolist() == [1, 0]
