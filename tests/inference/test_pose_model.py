"""PoseModel: predictions on arrays, saving and loading, networks of a run and its ensemble."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from semipose.data.leakage import find_training_images
from semipose.errors import ConfigError, DataError, RunError, WeightsError
from semipose.inference.known_images import run_folder
from semipose.inference.pose_model import as_pose_model, load_pose_model, weights_of
from semipose.inference.predict import predict
from tests.inference.conftest import untrained


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC)


def fake_run(folder: Path) -> Path:
    """A run folder with two networks, whose ensemble is the method."""
    (folder / "weights").mkdir(parents=True)
    for seed, name in enumerate(("G", "F")):
        untrained(seed, name, ("G", "F")).save(folder / "weights" / f"{name}.safetensors")
    untrained(0, "G", ("G", "F")).save(folder / "best.safetensors")
    return folder


def test_a_training_that_has_not_ended_is_reported(tmp_path, caplog):
    run = fake_run(tmp_path / "run")
    (run / "config.yaml").write_text("train: {steps: 60}")
    for step in (36, 60):
        caplog.clear()
        (run / "metrics.jsonl").write_text(f'{{"step": 20}}\n{{"step": {step}}}\n')
        load_pose_model(run)
        assert (f"{run} is a training at step 36 of 60: resume it" in caplog.text) == (step == 36)


def test_poses_of_boxes(model, image):
    poses = model.predict(image, [(10, 10, 40, 60), (80, 20, 50, 90)])
    assert poses.keypoints.shape == (2, 17, 2)
    assert poses.scores.shape == (2, 17)
    assert poses.boxes.tolist() == [[10, 10, 40, 60], [80, 20, 50, 90]]
    assert poses.names == model.skeleton.joints
    second = model.predict(image, np.array([[80, 20, 50, 90]]))
    np.testing.assert_allclose(second.keypoints[0], poses.keypoints[1], atol=1e-3)


def test_the_whole_image_is_one_person_and_no_boxes_are_none(model, image):
    whole = model.predict(image)
    assert whole.boxes.tolist() == [[0, 0, 160, 120]]
    assert len(model.predict(image, [])) == 0
    assert model.predict(image, []).keypoints.shape == (0, 17, 2)
    assert not np.array_equal(model.predict(image, flip_test=True).keypoints, whole.keypoints)


@pytest.mark.parametrize(
    ("image", "boxes", "message"),
    [
        (np.zeros((4, 4), np.uint8), None, r"`image` is \(4, 4\) of uint8"),
        (np.zeros((4, 4, 3)), None, "float64"),
        ("a.jpg", None, "`image` is str"),
        (np.zeros((0, 4, 3), np.uint8), None, "no pixel"),
        (np.zeros((4, 4, 3), np.uint8), [1, 2, 3, 4], "`boxes`"),
        (np.zeros((4, 4, 3), np.uint8), "auto", "`boxes` must be finite"),
        (np.zeros((4, 4, 3), np.uint8), [[1, 2, 3, 4], [1, 2, 3]], "`boxes` must be finite"),
        (np.zeros((4, 4, 3), np.uint8), [(0, 0, 0, 4)], "width and height above 0"),
        (np.zeros((4, 4, 3), np.uint8), [(0, 0, np.nan, 4)], "finite"),
    ],
)
def test_unusable_images_and_boxes_are_refused(model, image, boxes, message):
    with pytest.raises(DataError, match=message):
        model.predict(image, boxes)


def test_a_saved_model_predicts_the_same(model, image, tmp_path):
    model.save(tmp_path / "f.safetensors")
    loaded = load_pose_model(tmp_path / "f.safetensors")
    assert np.array_equal(loaded.predict(image).keypoints, model.predict(image).keypoints)
    assert loaded.path == tmp_path / "f.safetensors"
    assert replace(loaded, network=model.network, path=None).skeleton == model.skeleton
    assert repr(loaded) == "PoseModel(f: test_resnet, 17 joints (coco), input 64×64, on cpu)"


def test_other_weights_can_be_saved_in_place_of_its_own(model, tmp_path):
    state = {name: torch.zeros_like(value) for name, value in model.network.state_dict().items()}
    model.save(str(tmp_path / "zero.safetensors"), state)
    assert all((p == 0).all() for p in load_pose_model(tmp_path / "zero.safetensors").network.parameters())


def test_networks_of_a_run_and_their_ensemble(image, tmp_path):
    run = fake_run(tmp_path / "run")
    assert list(weights_of(run)) == ["F", "G"]
    assert load_pose_model(run).name == "G"
    assert load_pose_model(run, "F").name == "F"
    ensemble = load_pose_model(str(run), "ensemble")
    assert ensemble.name == "ensemble of G and F"
    assert len(ensemble.networks) == 2
    assert not np.array_equal(ensemble.predict(image).scores, load_pose_model(run).predict(image).scores)
    with pytest.raises(ConfigError, match="one network, not the ensemble"):
        ensemble.save(tmp_path / "both.safetensors")
    (run / "weights" / "F.safetensors").unlink()
    with pytest.raises(ConfigError, match="has no network 'ensemble'; it has G"):
        load_pose_model(run, "ensemble")


def test_models_that_can_not_be_loaded_are_refused(model, tmp_path):
    run = fake_run(tmp_path / "run")
    for path, network, error, message in (
        (tmp_path / "gone", None, WeightsError, "there is no folder or file"),
        (tmp_path / "gone", "F", WeightsError, "there is no folder or file"),
        (run / "best.safetensors", "F", ConfigError, "`network`: .* is not a run folder"),
        (run, "R", ConfigError, "`network`: .* has no network 'R'; it has F, G, ensemble"),
    ):
        with pytest.raises(error, match=message):
            load_pose_model(path, network)
    (tmp_path / "early" / "last").mkdir(parents=True)
    (tmp_path / "early" / "last" / "state.pt").touch()
    with pytest.raises(WeightsError, match="stopped before its first evaluation; resume"):
        load_pose_model(tmp_path / "early")
    state = model.network.state_dict()
    state.popitem()
    model.save(tmp_path / "part.safetensors", state)
    with pytest.raises(WeightsError, match="1 tensors do not fit"):
        load_pose_model(tmp_path / "part.safetensors")


def test_a_loaded_model_is_used_as_it_is(model):
    assert as_pose_model(model) is model
    with pytest.raises(ConfigError, match="`network`"):
        as_pose_model(model, "F")


def test_a_skeleton_without_pairs_has_no_flip_test(model, caplog):
    one_sided = replace(model, skeleton=model.skeleton.with_given(flip_pairs=[]))
    assert model.predictor(flip_test=True).flip_test
    assert not one_sided.predictor(flip_test=True).flip_test
    assert "no flip test" in caplog.text


def test_auto_takes_apples_gpu_where_the_networks_run(model, monkeypatch, caplog):
    """There is none here, so that it fails; a model that predicts would stay on it."""
    monkeypatch.setattr("semipose.inference.pose_model.has_apple_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert model.to("auto").device == torch.device("cpu")
    assert [r.message.partition(":")[0] for r in caplog.records] == [
        "predictions run on the CPU, because they fail on Apple's GPU"
    ]
    with pytest.raises(ConfigError, match="'gpu' is unknown"):
        model.to("gpu")


def test_a_run_is_found_after_the_working_directory_has_changed(trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(trained_run.parent)
    model = load_pose_model("run")
    assert model.source == "run (f)"
    monkeypatch.chdir(trained_run / "weights")
    alone = load_pose_model("f.safetensors")
    monkeypatch.chdir(tmp_path)
    assert run_folder(model.path) == run_folder(alone.path) == trained_run
    assert find_training_images(alone.path) is not None


def test_predictions_that_are_not_finite_are_an_error(model, image, tmp_path):
    for parameter in model.network.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(RunError, match="the network has diverged"):
        model.predict(image)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with pytest.raises(RunError, match="the network has diverged"):
        predict(model, tmp_path / "a.png", out=tmp_path / "found")
    assert not (tmp_path / "found" / "predictions.json").exists()
