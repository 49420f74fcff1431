"""The monitor samples the networks at each evaluation, and warns of collapse, blank networks and drift once."""

import json
import logging

import pytest

from semipose.trainer import train
from semipose.training import monitor
from semipose.training.checkpoint import MonitorMemory
from semipose.training.monitor import PERSONS, Sample, TrainingMonitor, diagnose

OPTIONS = {"train.steps": 12, "train.log_every": 4, "train.checkpoint_every": 4}
HEALTHY = Sample(0.6, 0.5, 3.0)


def log_of(folder, kind):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def diagnoses(evaluations, weight=1.0):
    """The failures at each evaluation: (changes of a healthy sample, validation score); the first half has four."""
    memory = MonitorMemory()
    return [
        diagnose(Sample(**{**vars(HEALTHY), **changes}), memory, score, weight, second_half=n > 4)
        for n, (changes, score) in enumerate(evaluations, start=1)
    ]


def names(evaluations):
    return [list(found) for found in diagnoses(evaluations)]


def test_every_evaluation_logs_a_sample(tiny, tmp_path):
    train(tiny("trs", **OPTIONS), tmp_path / "run")
    samples = log_of(tmp_path / "run", "monitor")
    assert len(samples) >= 3
    assert all(sample["peak_unlabeled"] > 0 and sample["distance"] >= 0 for sample in samples)


@pytest.mark.slow
def test_averages_of_weights_are_left_out(tiny, tmp_path):
    """The second network of a sample is a trained one, or the first one on the mirror image."""
    for name, average in (("plain", 0.0), ("averaged", 0.9)):
        train(tiny("single", **OPTIONS, **{"train.average": average}), tmp_path / name)
    plain, averaged = (log_of(tmp_path / name, "monitor") for name in ("plain", "averaged"))
    assert plain == averaged != []


def test_a_supervised_training_has_no_samples(tiny, tmp_path):
    train(tiny("supervised", **OPTIONS), tmp_path / "run")
    assert log_of(tmp_path / "run", "monitor") == []


def test_joints_that_no_labeled_person_has_do_not_count(tiny, tmp_path, small_people, monkeypatch):
    content, k = json.loads(small_people.read_text()), 13
    for record in content["annotations"]:
        record["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
    small_people.write_text(json.dumps(content))
    heatmaps = TrainingMonitor._heatmaps

    def with_high_peaks(self, network, images):
        maps = heatmaps(self, network, images)
        maps[:, k] = 1000
        return maps

    monkeypatch.setattr(TrainingMonitor, "_heatmaps", with_high_peaks)
    train(tiny("single", **OPTIONS), tmp_path / "run")
    assert all(line["peak_unlabeled"] < 10 for line in log_of(tmp_path / "run", "monitor"))


def test_each_warning_is_given_once(tiny, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(monitor, "FIRST_STEP", 0)
    monkeypatch.setattr(monitor, "COLLAPSED", 100.0)
    monkeypatch.setattr(monitor, "BLANK", 0.0)
    train(tiny("single", **OPTIONS), tmp_path / "run")
    assert caplog.text.count("unlabeled images collapse to background") == 1
    assert [line["what"] for line in log_of(tmp_path / "run", "warning")] == ["collapse"]


def test_a_collapse_is_a_low_peak_on_unlabeled_images_alone():
    found = names([({}, 0.4), ({"peak_unlabeled": 0.3}, 0.4), ({"peak_unlabeled": 0.2}, 0.4)])
    assert found == [[], [], ["collapse"]]
    blank = {"peak_labeled": 0.01, "peak_unlabeled": 0.01}
    assert names([(blank, 0.0)] * 6)[3:] == [[], ["blank"], ["blank"]]


def test_the_remedy_for_a_blank_network_depends_on_the_unlabeled_loss():
    blank = [({"peak_labeled": 0.03, "peak_unlabeled": 0.03}, 0.0)] * 6
    assert "unlabeled loss of weight 100: lower `method.unlabeled_weight`" in diagnoses(blank, weight=100)[5]["blank"]
    without = diagnoses(blank, weight=0)[5]["blank"]
    assert "raise `train.lr`" in without
    assert "unlabeled_weight" not in without


def test_drift_is_agreement_that_grows_while_validation_falls():
    closer = [({"distance": 3.0 - n}, score) for n, score in enumerate([0.5, 0.42, 0.41, 0.4])]
    assert names(closer) == [[], [], [], ["drift"]]
    apart = [({"distance": 3.0 + n}, score) for n, score in enumerate([0.5, 0.42, 0.41, 0.4])]
    assert names(apart) == [[], [], [], []]
    recovering = [({"distance": 1.0}, score) for score in [0.5, 0.42, 0.41, 0.45, 0.42, 0.41]]
    assert not any(names(recovering))


def test_a_score_that_stays_below_half_its_best_is_drift():
    """The scores of a training with pseudo labels of weight 30, whose networks agree less than at their best."""
    scores = (0.0, 0.004, 0.002, 0.0, 0.0, 0.0, 0.0)
    evaluations = [({"distance": 1 + 0.3 * n}, score) for n, score in enumerate(scores)]
    found = diagnoses(evaluations, weight=30)
    assert [list(failures) for failures in found] == [[], [], [], [], [], ["drift"], ["drift"]]
    assert "from 0.4 to 0.0 under an unlabeled loss of weight 30" in found[5]["drift"]
    assert not any(diagnoses(evaluations, weight=0))


def test_a_pixel_error_falls_by_rising():
    """Validation scores are then negative: 8 pixels at best, and more than half of that above it."""
    found = diagnoses([({"distance": 3.0}, -score) for score in (9.0, 8.0, 9.0, 12.5, 13.0, 13.0)])
    assert [list(failures) for failures in found] == [[], [], [], [], [], ["drift"]]
    assert "from pixel error 8.0 to pixel error 13.0" in found[5]["drift"]
    assert not any(diagnoses([({"distance": 3.0 - n}, -8.0 + n / 10) for n in range(6)]))


def test_the_unlabeled_sample_shows_other_images_than_the_labeled_one(tiny, tmp_path):
    """The unlabeled set begins with the labeled persons where `data.unlabeled` adds images to a labeled file."""
    sampled = []
    sample = TrainingMonitor._sampled

    def recorded(self, crops):
        sampled.append((crops, sample(self, crops)))
        return sampled[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingMonitor, "_sampled", recorded)
        train(tiny("single", **OPTIONS, **{"data.include_labeled": True}), tmp_path / "run")
    (labeled, _), (unlabeled, others) = sampled
    assert len(others) == len({*others}) == min(PERSONS, len(unlabeled) - len(labeled))
    shown = [{crops.dataset.instances.paths[k] for k in chosen} for crops, chosen in sampled]
    assert not shown[0] & shown[1]
    assert others != list(range(others[0], others[0] + len(others)))  # evenly spaced, not a run of neighboring frames
