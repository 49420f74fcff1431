"""Scores during and at the end of a training, and the weights that are kept."""

import json

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file

from semipose.config import load_config
from semipose.data.datasets import PEOPLE
from semipose.errors import ConfigError
from semipose.inference.evaluation import evaluate
from semipose.inference.pose_model import load_pose_model
from semipose.metrics.gain import Gain
from semipose.reports.html import write_report
from semipose.trainer import train
from semipose.training.evaluator import Evaluator, selection_score
from tests.integration.runs import saved_state

TOO_SHORT = "labels alone after 2 steps, where a fair comparison needs about 1000"


def test_ap_selects_and_pck_decides_between_equal_aps():
    def selected(ap, pck):
        return selection_score({"AP": ap, "AP50": 0.9, "PCK@0.2": pck, "PCKh@0.5": 0.5})

    assert selected(0.2, 0.1) > selected(0.1, 0.9)
    assert selected(0.0, 0.2) > selected(0.0, 0.1)
    assert selected(None, 0.3) > selected(None, 0.2)
    assert selection_score({"AP": None, "PCK@0.2": None}) == 0


def test_the_pixel_error_selects_where_ap_measures_little():
    def selected(ap, error, caveats):
        return selection_score({"AP": ap, "PCK@0.2": 0.5, "pixel_error": error}, caveats)

    assert selected(0.9, 8.0, ()) > selected(0.8, 5.0, ())
    assert selected(0.9, 8.0, ("sizes are those of whole images",)) < selected(0.8, 5.0, ("boxes are whole images",))
    assert selected(0.9, None, ("sizes are those of whole images",)) > selected(0.8, None, ("boxes are whole images",))


@pytest.mark.parametrize(("skeleton", "step"), [("people", 2), ("parts", 3)])
def test_weights_of_a_training_are_selected(tiny, tmp_path, monkeypatch, small_people, skeleton, step):
    """AP has its best at step 2, the pixel error at step 3; joints without known sigmas are selected by the latter."""
    data = small_people
    if skeleton == "parts":
        content = json.loads(small_people.read_text())
        content["categories"][0]["keypoints"] = [f"part_{k}" for k in range(17)]
        data = tmp_path / "parts.json"
        data.write_text(json.dumps(content))
    found = iter([(0.2, 9.0), (0.4, 8.0), (0.3, 7.0), (0.3, 7.0)])

    def scores(self, predictions, which):
        ap, error = next(found)
        return {"f": {"AP": ap, "PCK@0.2": None, "pixel_error": error}}

    monkeypatch.setattr(Evaluator, "_scores", scores)
    options = {"data.train": str(data), "data.images": str(PEOPLE / "images"), "train.steps": 3}
    result = train(tiny("supervised", **options, **{"train.evaluate_every": 0.1}), tmp_path / "run")
    assert saved_state(tmp_path / "run").best_step == step
    assert ("weights: lowest pixel error on validation" in result.protocol) == (skeleton == "parts")
    content = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert content["pixel_error"] == result.pixel_error
    assert set(content["pixel_error"]) == {"mean", "median", "rmse", "p90", "by_joint"}


def test_the_leading_network_of_the_best_step_is_the_best(tiny, tmp_path, monkeypatch):
    """With few labels AP is 0 for long; PCK then selects step and network."""
    pcks = iter([(0.05, 0.02), (0.10, 0.12), (0.01, 0.02), (0.01, 0.02)])

    def scores(self, predictions, which):
        first, second = next(pcks)
        found = {name: {"AP": 0.0, "PCK@0.2": pck} for name, pck in (("f1", first), ("f2", second))}
        return found | {"mean": {"AP": 0.0, "PCK@0.2": (first + second) / 2}}

    monkeypatch.setattr(Evaluator, "_scores", scores)
    result = train(tiny("dual", **{"train.steps": 3, "train.evaluate_every": 0.1}), tmp_path / "run")
    assert (saved_state(tmp_path / "run").best_step, saved_state(tmp_path / "run").best_network) == (2, "f2")
    assert result.best == "f2"


def test_several_headline_networks_have_a_mean_and_an_ensemble_on_the_test_set(tiny, tmp_path, small_people):
    test_set = {"data.test": str(small_people), "data.test_images": str(PEOPLE / "images"), "train.steps": 4}
    result = train(tiny("dual", **test_set), tmp_path / "run")
    assert "60 persons" in result.protocol
    assert list(result.scores) == ["f1", "f2", "mean", "ensemble"]
    for key, value in result.scores["mean"].items():
        pair = [result.scores[name][key] for name in ("f1", "f2")]
        assert value is None if None in pair else value == pytest.approx(sum(pair) / 2)
    content = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert content["scores"] == result.scores
    assert (content["best"], content["step"], content["protocol"]) == (result.best, 4, result.protocol)
    assert len(json.loads((tmp_path / "run" / "predictions.json").read_text())) == 60


@pytest.mark.parametrize("flip", [True, False])
def test_joints_that_no_labeled_person_has_are_not_scored(tiny, tmp_path, small_people, flip):
    """The test set has labels of them; the weights, the predictions and the protocol name what was not learned.

    In flipped views the right knee is labeled as a left one, so the left knee is learned there.
    """
    content, k = json.loads(small_people.read_text()), 13
    name = content["categories"][0]["keypoints"][k]
    unlearned = () if flip else (name,)
    for record in content["annotations"]:
        record["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
    (tmp_path / "few.json").write_text(json.dumps(content))
    data = {"data.train": str(tmp_path / "few.json"), "data.test": str(small_people)}
    images = {"data.images": str(PEOPLE / "images"), "data.test_images": str(PEOPLE / "images")}
    views = {"views.flip_probability": 0.5 if flip else 0.0}
    result = train(tiny("supervised", **data, **images, **views, **{"train.steps": 2}), tmp_path / "run")
    assert (f"not scored, without labels in training: {name}" in result.protocol) == (not flip)
    assert set(result.pixel_error["by_joint"]) == set(content["categories"][0]["keypoints"]) - {*unlearned}
    records = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert ({record["keypoints"][3 * k + 2] for record in records} == {0}) == (not flip)
    model = load_pose_model(tmp_path / "run")
    assert (model.unlearned_joints, model.instance_score) == (unlearned, "rescored")
    again = evaluate(tmp_path / "run" / "predictions.json", small_people, images=PEOPLE / "images")
    assert again.scores.as_dict() == pytest.approx(result.scores["f"])


def test_scores_of_a_gpu_and_those_of_later_evaluations_say_that_they_are_of_16_bit(
    tiny, tmp_path, small_people, monkeypatch
):
    """A CPU stands for the GPU."""
    on_gpu = property(lambda self: self.precision == "auto")
    monkeypatch.setattr("semipose.inference.predictor.Predictor.in_16_bit", on_gpu)
    for precision in ("auto", "32-true"):
        run = tmp_path / precision
        result = train(tiny("supervised", **{"train.steps": 2, "evaluation.precision": precision}), run)
        assert ("heatmaps in 16 bit" in result.protocol) == (precision == "auto")
        later = evaluate(run, small_people, images=PEOPLE / "images")
        assert later.protocol.in_16_bit == (precision == "auto")


def test_the_instance_score_is_an_option_of_the_training(tiny, tmp_path):
    result = train(tiny("supervised", **{"train.steps": 2, "evaluation.instance_score": "mean"}), tmp_path / "run")
    assert "instance score: mean peak of all joints × box score;" in result.protocol
    assert load_pose_model(tmp_path / "run").instance_score == "mean"
    assert load_pose_model(tmp_path / "run").precision == "auto"
    for record in json.loads((tmp_path / "run" / "predictions.json").read_text()):
        assert record["score"] == pytest.approx(sum(record["keypoints"][2::3]) / 17)


def test_without_persons_to_evaluate_there_are_no_scores(tiny, tmp_path):
    result = train(tiny("supervised", **{"data.validation": 0, "train.steps": 1}), tmp_path / "run")
    assert (result.scores, result.best) == ({}, None)
    assert (tmp_path / "run" / "best.safetensors").exists()
    assert not (tmp_path / "run" / "scores.json").exists()


def gains(value: float):
    """Replaces the measurement: a gain of `value` on any set."""
    interval = value - 0.01, value + 0.01
    return lambda truth, ours, alone, which, baseline: Gain("PCK@0.2", value, interval, len(truth), which, baseline)


@pytest.mark.parametrize("value", [0.03, -0.03])
def test_harmful_unlabeled_images_leave_the_labels_alone_network(tiny, tmp_path, monkeypatch, caplog, value):
    monkeypatch.setattr("semipose.training.evaluator.measure_gain", gains(value))
    config = tiny("late_teacher", **{"method.burn_in": 0.5, "train.steps": 4, "train.select": "last"})
    result = train(config, tmp_path / "run")
    assert (result.gain.value, result.gain.baseline) == (
        value,
        TOO_SHORT,
    )
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["gain"]["value"] == value
    best = (tmp_path / "run" / "best.safetensors").read_bytes()
    alone = (tmp_path / "run" / "weights" / "labels_alone.safetensors").read_bytes()
    assert (best == alone) == (value < 0)
    assert (result.best == "labels_alone") == (value < 0)
    harm = "they did harm on validation persons, so best.safetensors is labels_alone; 24 labeled persons are few"
    scores_file = json.loads((tmp_path / "run" / "scores.json").read_text())
    for text in (caplog.text, scores_file["harm"], result.describe_gain(), repr(result)):
        assert (harm in text) == (value < 0)


@pytest.mark.slow
def test_training_on_images_of_something_else_ends_with_the_labels_alone_network(tmp_path):
    """Nothing is replaced: blurred noise, no threshold and a weight of 30 make a small network worse."""
    rng = np.random.default_rng(0)
    for number in range(48):
        colors = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(colors, (96, 96), interpolation=cv2.INTER_CUBIC))
    images = str(PEOPLE / "images")
    data = {"train": str(PEOPLE / "train.json"), "images": images, "val": str(PEOPLE / "val.json")}
    data |= {"val_images": images, "labels": 200, "include_labeled": False, "include_remaining": False}
    options = {
        "method": "late_teacher", "method.burn_in": 0.66, "method.min_peak": 0, "method.unlabeled_weight": 30,
        "data.unlabeled": str(tmp_path), "input.height": 64, "input.width": 64, "model.backbone": "test_resnet",
        "model.weights": "none", "model.head_channels": 16, "loss.kind": "cross_entropy", "loss.sigma": 1.0,
        "train.lr": 0.01, "train.drops": [], "train.batch": 16, "train.unlabeled_batch": 16, "train.steps": 300,
        "train.select": "last", "train.device": "cpu",
    }  # fmt: skip
    result = train(load_config(None, {f"data.{key}": value for key, value in data.items()} | options), tmp_path / "run")
    assert result.gain.is_harm
    assert result.best == "labels_alone"
    scores = {name: found["PCK@0.2"] for name, found in result.scores.items()}
    assert scores["labels_alone"] > scores["teacher"] + 0.03
    assert "they did harm on validation persons, so best.safetensors is labels_alone; " in result.describe_gain()


def test_without_validation_persons_the_test_set_measures_the_gain_and_decides_nothing(
    tiny, tmp_path, monkeypatch, small_people
):
    monkeypatch.setattr("semipose.training.evaluator.measure_gain", gains(-0.03))
    test_set = {"data.validation": 0, "data.test": str(small_people), "data.test_images": str(PEOPLE / "images")}
    result = train(tiny("late_teacher", **test_set, **{"method.burn_in": 0.5, "train.steps": 2}), tmp_path / "run")
    assert (result.gain.value, result.best) == (-0.03, "teacher")


def test_with_labels_and_no_burn_in_the_gain_is_over_the_start(tiny, tmp_path):
    options = {"method.burn_in": 0, "train.steps": 2, "train.average": 0.9, "data.validation": 16}
    with pytest.raises(ConfigError, match=r"`method\.burn_in`: with 0 no network learns from the labels alone"):
        train(tiny("late_teacher", **options), tmp_path / "run")
    train(tiny("supervised", **{"train.steps": 1}), tmp_path / "start")
    result = train(tiny("late_teacher", **options, **{"train.start": str(tmp_path / "start")}), tmp_path / "run")
    assert (result.gain.baseline, {*result.scores}) == ("the network at the start", {"teacher", "labels_alone"})
    start, alone = (
        load_file(path)
        for path in (tmp_path / "start" / "best.safetensors", tmp_path / "run" / "weights" / "labels_alone.safetensors")
    )
    assert all(alone[name].equal(start[name]) for name in start)


def test_too_few_validation_images_to_measure_the_gain_are_said(tiny, tmp_path):
    options = {"method.burn_in": 0.5, "train.steps": 2, "data.validation": 8}
    result = train(tiny("late_teacher", **options), tmp_path / "run")
    reason = "8 labeled validation images of 10 that are needed; give others as data.val, or raise data.validation"
    assert result.gain is None
    assert result.describe_gain() == f"unlabeled images: gain not measured, {reason}"
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["gain_not_measured"] == reason
    page = write_report(tmp_path / "run").read_text()
    assert f"is the gain from unlabeled images: {reason}." in page
    assert train(tiny("mean_teacher", **options), tmp_path / "other").describe_gain() == ""


@pytest.mark.parametrize("which", ["val", "test"])
def test_a_given_set_that_is_too_small_for_the_gain_is_named(tiny, tmp_path, small_people, which):
    content = json.loads(small_people.read_text())
    kept = {image["id"] for image in content["images"][:8]}
    content["images"] = content["images"][:8]
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] in kept]
    (tmp_path / "few.json").write_text(json.dumps(content))
    given = {f"data.{which}": str(tmp_path / "few.json"), f"data.{which}_images": str(PEOPLE / "images")}
    options = {"method.burn_in": 0.5, "train.steps": 2, "data.validation": None if which == "val" else 0, **given}
    result = train(tiny("late_teacher", **options), tmp_path / "run")
    assert result.gain_not_measured.endswith(f"of 10 that are needed; give more as data.{which}")


def test_a_budget_too_short_is_spent_on_labels(tiny, tmp_path, caplog):
    result = train(tiny("late_teacher", **{"train.steps": 2, "train.select": "last"}), tmp_path / "run")
    assert result.gain is None
    reason = (
        "the burn-in on labels alone takes all of the 2 steps; raise train.steps above 1000, best to 2000 or more, or "
        "set method.burn_in to a fraction of the steps"
    )
    assert f"no unlabeled image is used: {reason}" in caplog.text
    content = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert (content["gain"], content["unlabeled_not_used"], result.unlabeled_not_used) == (None, reason, reason)
    assert repr(result).splitlines()[-1].startswith(f"  unlabeled images: not used, {reason}")
    teacher, alone = (load_file(tmp_path / "run" / "weights" / f"{n}.safetensors") for n in ("teacher", "labels_alone"))
    assert all(teacher[name].equal(alone[name]) for name in teacher)


def test_without_validation_persons_the_gain_is_said_not_to_be_measured(tiny, tmp_path):
    options = {"data.validation": 0, "method.burn_in": 0.5, "train.steps": 2}
    result = train(tiny("late_teacher", **options), tmp_path / "run")
    reason = "there are no validation or test persons; give data.val or data.validation"
    assert result.describe_gain() == f"unlabeled images: gain not measured, {reason}"


def test_a_run_is_not_resumed_with_fewer_steps_than_it_has_made(tiny, tmp_path):
    train(tiny("supervised", **{"train.steps": 2}), tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="this run has made 2 steps already, and now has 1"):
        train(tiny("supervised", **{"train.steps": 1}), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_text() == before
