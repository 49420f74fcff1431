"""OKS and AP against pycocotools, on rendered people and on made-up crowds of them."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import semipose
from semipose.data.formats.coco import read_coco
from semipose.errors import DataError, RunError
from semipose.metrics.matching import match_dataset
from semipose.metrics.oks import NAMES, KeypointAP, object_keypoint_similarity, oks_scores
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import COCO as COCO_SKELETON
from semipose.structures.skeletons import LSP, Skeleton, infer_skeleton

PEOPLE = Path(semipose.__file__).parent / "people" / "val.json"
THREE = infer_skeleton(["nose", "left_wrist", "right_wrist"], name="three")


@pytest.fixture(scope="module")
def people() -> PoseDataset:
    return read_coco(PEOPLE)


def oracle(truth: PoseDataset, predictions: list[Prediction]) -> dict[str, float | None]:
    """The values by pycocotools; images are numbers, every prediction lies on a known or an empty image."""
    evaluation = _evaluation(truth, predictions)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {n: None if v < 0 else float(v) for n, v in zip(NAMES, evaluation.stats[:6], strict=True)}


def _evaluation(truth: PoseDataset, predictions: list[Prediction]) -> COCOeval:
    images = {p.image_id for p in truth.instances} | {p.image_id for p in predictions}
    annotations = []
    for number, person in enumerate(truth.instances, start=1):
        triples = [0.0] * 3 * len(truth.skeleton)
        if person.joints is not None:
            for k, ((x, y), v) in enumerate(zip(person.joints, person.visibility, strict=True)):
                triples[3 * k : 3 * k + 3] = [float(x), float(y), int(v)]
        annotations.append(
            {
                "id": number,
                "image_id": person.image_id,
                "category_id": 1,
                "iscrowd": int(person.is_crowd),
                "area": person.area,
                "bbox": list(person.box),
                "num_keypoints": sum(v > 0 for v in triples[2::3]),
                "keypoints": triples,
            }
        )
    results = [
        {
            "image_id": p.image_id,
            "category_id": 1,
            "score": p.score,
            "keypoints": [v for point in p.joints for v in (float(point[0]), float(point[1]), 1.0)],
        }
        for p in predictions
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": i} for i in sorted(images)],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}],
        }
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(truth.skeleton.sigmas)
    return evaluation


def assert_same(ours: dict[str, float | None], theirs: dict[str, float | None]) -> None:
    assert list(ours) == list(NAMES)
    for name in NAMES:
        if theirs[name] is None:
            assert ours[name] is None, name
        else:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name


def noisy(truth: PoseDataset, rng: np.random.Generator, deviation: float) -> list[Prediction]:
    """Labels moved by noise that grows from person to person, with scores unrelated to it."""
    moved = []
    for n, p in enumerate(ground_truth_as_predictions(truth)):
        joints = p.joints + rng.normal(0, deviation * (n % 7), p.joints.shape)
        moved.append(Prediction(p.image_id, None, joints, rng.random(len(joints)), float(rng.random()), p.box))
    return moved


def crowd_scene(rng: np.random.Generator, skeleton: Skeleton, images: int, most: int) -> PoseDataset:
    """Several overlapping persons an image, of all sizes; some crowds, some without labeled joints."""
    k, persons = len(skeleton), []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, most + 1)):
            size = float(rng.choice([20, 60, 200]))
            corner = rng.uniform(0, 150, 2)
            visibility = rng.choice([0, 1, 2], k, p=[0.3, 0.2, 0.5]) * int(rng.random() > 0.15)
            joints = np.where(visibility[:, None] > 0, corner + rng.uniform(0, size, (k, 2)), 0.0)
            persons.append(
                Instance(
                    image=Path(f"{image}.jpg"),
                    image_id=image,
                    annotation_id=len(persons),  # from 0: the metrics do not use it
                    box=(float(corner[0]), float(corner[1]), size, size),
                    joints=joints,
                    visibility=visibility,
                    area=size * size * 0.5,
                    is_crowd=bool(rng.random() < 0.1),
                )
            )
    return PoseDataset(skeleton, tuple(persons), "a made-up scene")


def scattered(truth: PoseDataset, rng: np.random.Generator, extra: int) -> list[Prediction]:
    """Good, bad and doubled predictions of everyone, false alarms, and equal scores now and then."""
    found = []
    for p in truth.instances:
        if p.joints is None:
            continue
        for _ in range(rng.integers(0, 3)):
            joints = p.joints + rng.normal(0, rng.choice([0.0, 0.02, 0.1]) * p.box[2], p.joints.shape)
            found.append(Prediction(p.image_id, None, joints, np.ones(len(joints)), float(rng.integers(1, 6)), p.box))
    for _ in range(extra):
        image = int(rng.choice([p.image_id for p in truth.instances]))
        joints = rng.uniform(0, 300, (len(truth.skeleton), 2))
        found.append(Prediction(image, None, joints, np.ones(len(joints)), float(rng.integers(1, 6)), (0, 0, 9, 9)))
    return found


def test_labels_themselves_score_one(people: PoseDataset) -> None:
    scores = oks_scores(people, ground_truth_as_predictions(people))
    assert all(value == 1.0 for value in scores.values() if value is not None)
    assert scores["AP"] == 1.0


@pytest.mark.parametrize("deviation", [0.5, 1.5, 4.0])
def test_embedded_people_score_as_by_pycocotools(people: PoseDataset, deviation: float) -> None:
    predictions = noisy(people, np.random.default_rng(3), deviation)
    theirs = oracle(people, predictions)
    assert 0 < theirs["AP"] < 1
    assert_same(oks_scores(people, predictions), theirs)


@pytest.mark.parametrize("skeleton", [COCO_SKELETON, LSP, THREE], ids=lambda s: s.name)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(1, 6), extra=st.integers(0, 60))
def test_crowded_scenes_score_as_by_pycocotools(skeleton: Skeleton, seed: int, most: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    truth = crowd_scene(rng, skeleton, images=5, most=most)
    if not any(p.labeled and not p.is_crowd for p in truth.instances):
        return
    predictions = scattered(truth, rng, extra)
    if predictions:
        assert_same(oks_scores(truth, predictions), oracle(truth, predictions))


def test_images_without_persons_and_more_than_twenty_results_count_as_in_coco() -> None:
    rng = np.random.default_rng(5)
    truth = crowd_scene(rng, COCO_SKELETON, images=3, most=6)
    predictions = scattered(truth, rng, 100)
    predictions += [Prediction(77, None, p.joints, p.scores, 9.0, p.box) for p in predictions[:3]]
    assert_same(oks_scores(truth, predictions), oracle(truth, predictions))


def test_predictions_beyond_twenty_in_an_image_are_noted(people: PoseDataset) -> None:
    truth = people.subset(range(3))
    found = ground_truth_as_predictions(truth)
    assert KeypointAP().evaluate(match_dataset(truth, found)).notes == []
    (note,) = KeypointAP().evaluate(match_dataset(truth, found[:1] * 23 + found)).notes
    assert "4 predictions beyond the 20 of an image" in note


def test_image_ids_may_be_texts_and_annotation_ids_repeat(people: PoseDataset) -> None:
    some = people.subset(range(30))
    predictions = noisy(some, np.random.default_rng(1), 2.0)
    named = PoseDataset(some.skeleton, tuple(_as_text(p) for p in some.instances), "texts")
    renamed = [Prediction(str(p.image_id), None, p.joints, p.scores, p.score, p.box) for p in predictions]
    assert oks_scores(named, renamed) == oks_scores(some, predictions)


def _as_text(p: Instance) -> Instance:
    return Instance(p.image, str(p.image_id), 1, p.box, p.joints, p.visibility, p.area)


def test_no_predictions_score_zero_and_empty_size_ranges_score_none() -> None:
    joints, visibility = np.full((17, 2), 50.0), np.full(17, 2)
    medium = PoseDataset(
        COCO_SKELETON, (Instance(Path("a"), 1, 1, (0, 0, 50, 50), joints, visibility, area=2500.0),), "one"
    )
    assert oks_scores(medium, []) == {"AP": 0, "AP50": 0, "AP75": 0, "AP_M": 0, "AP_L": None, "AR": 0}


def test_values_are_none_without_areas_or_labels(people: PoseDataset) -> None:
    flat = tuple(
        Instance(p.image, p.image_id, p.annotation_id, p.box, p.joints, p.visibility) for p in people.instances
    )
    predictions = ground_truth_as_predictions(people)
    for truth in (PoseDataset(people.skeleton, flat, "flat"), people.without_labels(), people.subset([])):
        assert oks_scores(truth, predictions) == dict.fromkeys(NAMES)


def test_nothing_is_printed(people: PoseDataset, capfd: pytest.CaptureFixture[str]) -> None:
    oks_scores(people, ground_truth_as_predictions(people))
    assert capfd.readouterr() == ("", "")


def test_predictions_that_do_not_fit_are_refused(people: PoseDataset) -> None:
    one = ground_truth_as_predictions(people)[0]
    short = Prediction(one.image_id, None, one.joints[:14], one.scores[:14], 1.0, one.box)
    with pytest.raises(DataError, match=r"prediction 1 .* joints \(14, 2\)"):
        oks_scores(people, [short])
    with pytest.raises(DataError, match=r"none of 1 predictions .*'elsewhere'"):
        oks_scores(people, [Prediction("elsewhere", None, one.joints, one.scores, 1.0, one.box)])


@pytest.mark.parametrize("what", ["joints", "scores", "score"])
def test_a_diverged_network_does_not_score_one(people: PoseDataset, what: str) -> None:
    """COCO's matching takes NaN for a match: without the check the score would be perfect."""
    one = ground_truth_as_predictions(people)[0]
    values = {"joints": one.joints, "scores": one.scores, "score": 1.0}
    values[what] = values[what] * np.nan
    with pytest.raises(RunError, match="not finite"):
        oks_scores(people, [Prediction(one.image_id, None, **values, box=one.box)])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_similarity_of_pairs_is_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = crowd_scene(rng, COCO_SKELETON, images=1, most=5)
    labeled = [p for p in truth.instances if p.labeled]
    if not labeled:
        return
    truth = PoseDataset(COCO_SKELETON, tuple(labeled), "scene")
    predictions = scattered(truth, rng, 4)
    evaluation = _evaluation(truth, predictions)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.params.imgIds, evaluation.params.catIds = [1], [1]
        evaluation._prepare()
        theirs = evaluation.computeOks(1, 1)
    ranked = sorted(predictions, key=lambda p: -p.score)[:20]
    ours = object_keypoint_similarity(
        np.stack([p.joints for p in labeled])[None],
        np.stack([p.visibility for p in labeled])[None],
        np.array([p.area for p in labeled])[None],
        np.stack([p.joints for p in ranked])[:, None],
        COCO_SKELETON.sigmas,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def test_similarity_without_labels_is_not_a_number() -> None:
    zeros = np.zeros((2, 3, 2))
    found = object_keypoint_similarity(zeros, np.array([[0, 0, 0], [0, 2, 0]]), 10.0, zeros, THREE.sigmas)
    assert np.isnan(found[0])
    assert found[1] == 1.0
