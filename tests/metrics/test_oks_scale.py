"""Where OKS AP measures little: boxes that are whole images or come from the labels, and unknown sigmas."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semipose.data.images import write_image
from semipose.metrics.oks_scale import ap_caveats
from semipose.metrics.scores import EvaluationProtocol, score
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.structures.skeletons import LSP, Skeleton, infer_skeleton

WHOLE, SMALL = (0.0, 0.0, 60.0, 40.0), (10.0, 10.0, 20.0, 20.0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(np.zeros((40, 60, 3), np.uint8), tmp_path / "image.png", 90)
    return tmp_path / "image.png"


def persons(image: Path, boxes: list[tuple], skeleton: Skeleton = LSP, **fields: object) -> PoseDataset:
    joints = np.random.default_rng(0).uniform(0, 40, (len(skeleton), 2))
    found = [
        Instance(image, n, n, box, joints, np.full(len(skeleton), 2), **{"area": box[2] * box[3], **fields})
        for n, box in enumerate(boxes)
    ]
    return PoseDataset(skeleton, found, "set")


def test_boxes_that_are_whole_images(image: Path) -> None:
    assert ap_caveats(persons(image, [WHOLE] * 3)) == ("sizes are those of whole images",)
    assert ap_caveats(persons(image, [WHOLE] * 3, area=0.53 * 60 * 40)) == ("sizes are those of whole images",)
    assert ap_caveats(persons(image, [WHOLE] * 3, area=500.0)) == ()  # the outline of the person was measured
    assert ap_caveats(persons(image, [WHOLE, SMALL, SMALL])) == ()
    assert ap_caveats(persons(image, [WHOLE, WHOLE, SMALL])) == ("sizes are those of whole images",)
    assert ap_caveats(persons(image, [(0.0, 0.0, 30.0, 40.0)] * 3)) == ()
    assert ap_caveats(persons(image.with_name("missing.png"), [WHOLE] * 3)) == ()


def test_boxes_that_come_from_the_labels(image: Path) -> None:
    truth = persons(image, [SMALL] * 3, box_from_labels=True)
    assert ap_caveats(truth) == ("sizes come from the labeled joints",)
    assert ap_caveats(truth.subset([0])) == ("sizes come from the labeled joints",)
    own = [replace(p, box_from_labels=p.annotation_id == 0) for p in truth.instances]
    assert ap_caveats(PoseDataset(LSP, own, "set")) == ()


def test_sigmas_of_unknown_parts(image: Path) -> None:
    mouse = infer_skeleton(["paw1LH_top", "tailBase", "left_whisker"], name="mouse")
    assert ap_caveats(persons(image, [SMALL] * 3, mouse)) == ("no joint has a known OKS sigma",)
    half = infer_skeleton(["snout", "leftear", "rightear", "tailbase"], name="half")
    assert ap_caveats(persons(image, [SMALL] * 3, half)) == ()


def test_persons_that_are_not_evaluated_do_not_count(image: Path) -> None:
    truth = persons(image, [WHOLE] * 3)
    crowds = [replace(p, is_crowd=True) for p in truth.instances]
    assert ap_caveats(PoseDataset(LSP, [*crowds, persons(image, [SMALL])[0]], "set")) == ()
    assert ap_caveats(truth.without_labels()) == ()


def test_scores_and_protocol_have_the_note(image: Path) -> None:
    truth = persons(image, [WHOLE] * 3)
    note = "AP measures little here: sizes are those of whole images; compare pixel errors"
    assert note in score(truth, ground_truth_as_predictions(truth)).notes
    protocol = EvaluationProtocol.of(truth, boxes="ground truth", flip_test=False, weights_selection="last")
    assert "AP measures little: sizes are those of whole images;" in protocol.describe()
