"""The report of a run: finished, unfinished, continued, and with images left out."""

import json
import shutil

import pytest

from semipose.config import load_config
from semipose.data.datasets import read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.metrics.gain import Gain
from semipose.metrics.matching import match_dataset
from semipose.reports.html import write_report
from semipose.reports.run_page import _answers, _calibration_line, _reliability, _scores_by_joint, run_page
from semipose.structures.predictions import ground_truth_as_predictions
from semipose.trainer import train


def test_finished_run(finished_run, tmp_path, parse):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    videos = {
        "video": "m.mp4",
        "model": "f",
        "frames": 4,
        "movement": 2.5,
        "jumps": 0.0125,
        "swaps": None,
        "low_scores": 0,
    }
    (folder / "videos").mkdir()
    (folder / "videos/m_scores.json").write_text(json.dumps(videos))
    for number, content in enumerate(('{"AP": 0.5}', "[1]", "no JSON")):
        (folder / f"videos/others{number}_scores.json").write_text(content)
    page = parse(write_report(folder))
    for part in (
        "Predicted videos",
        "0.0125",
        "trs: test_resnet, 32×32",
        "PCK@0.2 by joint",
        "pixel error by joint",
        "pixel error on validation",
        "pixel error: mean",
        "95 % intervals of",
        "What to do next",
        f'semipose.suggest({str(folder)!r}, "VIDEO", count=20, boxes="FILE", out="to_label")',
        "Half of the joints are within",
        "The largest errors",
        "Easy and hard views",
        "Heatmaps by joint, networks of run, ",
        "PCK@0.2 by joint of G, R1, F, R2",
        "ensemble",
        "train.steps",  # an option that is not the default
        "left out: ",
    ):
        assert part in page.text
    assert {"ground truth", "G", "R1", "F", "R2", "labels", "prediction", "easy view", "hard view"} <= set(page.texts)
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert f"{100 * scores['mean']['PCK@0.2']:.1f}" in page.text
    opening = page.text.partition("What to do next")[0]
    best = scores[json.loads((folder / "scores.json").read_text())["best"]]
    assert f"{100 * best['PCK@0.2']:.1f} %" in opening
    assert f"{best['pixel_error']:.1f} px" in opening
    assert "Options that differ" in page.text.rpartition("How this was measured")[2]
    assert sum(address.startswith("data:image/svg") for address in page.images) >= 3
    assert sum(address.startswith("data:image/jpeg") for address in page.images) >= 12 + 2 * 32 + 12


def test_the_reliability_diagram_says_how_it_was_measured():
    bins = {"error": 0.21, "bins": [[30, 0.5, 0.3], [10, 0.9, 0.7]]}
    found = {"calibration": {"slope": 1.5, "intercept": 0}, "reason": "", "persons": 5, "joints": 40}
    found |= {"criterion": "within 0.2 × the torso's diagonal", "before": bins, "after": {**bins, "error": 0.034}}
    [chart] = _reliability({"calibration": found})
    for part in ("0.210 before", "0.034 after", "40 joints of 5 validation persons", "fitted to the other half"):
        assert part in chart.title
    assert _calibration_line({"calibration": found}) == ""
    reason = {"calibration": None, "reason": "no validation labels"}
    assert _calibration_line({"calibration": reason}).endswith("not calibrated: no validation labels")
    assert _reliability({"calibration": reason}) == _reliability({}) == []
    assert _calibration_line({}) == ""


def test_the_gain_is_part_of_the_answer(finished_run):
    results = json.loads((finished_run / "scores.json").read_text())
    truth = read_dataset("people", None, "val").subset(range(12))
    for metric, value, interval, expected in (
        ("PCK@0.2", 0.031, (0.02, 0.042), ("+3.1 PCK@0.2", "95 % interval +2.0 to +4.2. They help.")),
        ("pixel_error", -1.5, (-2.5, 0.5), ("-1.5 px", "-2.5 to +0.5. Whether they help is not certain.")),
        ("pixel_error", 3.1, (0.5, 5.9), ("+3.1 px", "+0.5 to +5.9. They did harm.")),
    ):
        answer = _answers(results, Gain(metric, value, interval, 12, "validation"), truth)[1]
        assert answer.value == expected[0]
        assert answer.text.endswith(expected[1])
    harmful = Gain("PCK@0.2", -0.03, (-0.04, -0.02), 12, "validation")
    answer = _answers({**results, "harm": "they did harm, so best.safetensors is labels_alone"}, harmful, truth)[1]
    assert answer.text.endswith("-4.0 to -2.0. They did harm, so best.safetensors is labels_alone.")


def test_a_training_without_a_use_of_its_unlabeled_images_says_so_first(tiny_run, tmp_path, parse):
    """Before, it showed two identical rows, and views of the unlabeled images "as the training sees them"."""
    options = {"data.labels": 30, "data.validation": 12, "method": "late_teacher"}
    train(load_config(None, {**tiny_run, **options}), tmp_path / "run")
    page = parse(write_report(tmp_path / "run"))
    opening = page.text.partition("What to do next")[0]
    assert "not used are the unlabeled images: the burn-in on labels alone takes all of the 2 steps" in opening
    table = run_page(tmp_path / "run").tables[0]
    assert [row[0] for row in table.rows] == ["teacher"]
    assert not [
        words for words in ("Easy and hard views", "as the training sees", "did not learn") if words in page.text
    ]


def test_the_first_answer_says_that_boxes_are_made_from_the_labels(finished_run):
    results = json.loads((finished_run / "scores.json").read_text())
    truth = read_dataset("people", None, "val").subset(range(12))
    for boxes, said in (("around the labels", True), (results["boxes"], False)):
        answers = _answers({**results, "boxes": boxes}, None, truth)
        assert [", measured in boxes around the labels" in answer.text for answer in answers] == [said] * len(answers)


def test_scores_by_joint_have_no_chart_without_a_bar():
    """Joints without a label are named."""
    truth = read_dataset("people", None, "val").subset(range(12))
    found = ground_truth_as_predictions(truth)
    truth.instances.visibility[:, 3:] = 0
    charts, notes = _scores_by_joint(match_dataset(truth, found))
    assert charts == []  # all errors are zero
    for prediction in found:
        prediction.joints[:] += 5
    charts, notes = _scores_by_joint(match_dataset(truth, found))
    assert [chart.title for chart in charts] == ["pixel error by joint"]
    assert "Not measured, because no evaluated pose has it labeled: left_ear, " in notes[1]


def test_unfinished_run(finished_run, tmp_path):
    """Curves and the last scores on validation, also while the log's last line is being written."""
    folder = shutil.copytree(finished_run, tmp_path / "run")
    for name in ("scores.json", "predictions.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "weights")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    evaluations = [json.loads(line) for line in lines if "validation/mean" in line]
    last = max(json.loads(line)["step"] for line in lines)
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 99, "ki')
    page = run_page(folder)
    expected = f"No final scores: the log ends at step {last}; the scores are validation scores at step {last}."
    assert page.lines[0] == expected
    table = {row[0]: dict(zip(page.tables[0].head, row, strict=True)) for row in page.tables[0].rows}
    assert table["mean"]["PCK@0.2"] == f"{100 * evaluations[-1]['PCK@0.2']:.1f}"
    assert [sheet.title for sheet in page.sheets] == ["Easy and hard views"]
    assert (page.answers, page.suggestions) == ((), ())
    assert "PCK@0.2 by joint" not in [chart.title for chart in page.charts]
    (folder / "metrics.jsonl").write_text("\n".join(line for line in lines if '"train"' in line))
    assert "there are no scores yet" in run_page(folder).lines[0]


def test_finished_run_that_went_on_is_unfinished(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 10**6, "kind": "train", "lr": 0.1, "supervised": 1.0}) + "\n")
    assert run_page(folder).lines[0].startswith("No final scores: the log ends at step 1000000")


def test_the_scores_of_a_run_whose_data_have_moved(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    train = load_config(folder / "config.yaml").data.train
    (folder / "config.yaml").write_text(text.replace(f"train: {train}", f"train: {tmp_path}/gone.json"))
    page, whole = run_page(folder), run_page(finished_run)
    assert page.lines[-1].startswith("Examples and errors are missing, because the data can't be read: ")
    assert "gone.json" in page.lines[-1]
    assert (page.title, [row[0] for row in page.tables[0].rows]) == (
        whole.title,
        [row[0] for row in whole.tables[0].rows],
    )
    assert json.loads((folder / "scores.json").read_text())["protocol"] in page.details


@pytest.mark.slow
def test_broken_images_of_the_test_set_are_left_out(tmp_path, tiny_run):
    persons = read_dataset("people", None, "val").subset(range(12))
    (tmp_path / "images").mkdir()
    for image in persons.image_paths.values():
        shutil.copy(image, tmp_path / "images")
    write_coco(persons, tmp_path / "test.json")
    first = tmp_path / "images" / persons[0].image.name
    first.write_bytes(first.read_bytes()[:300])
    files = {"data.test": str(tmp_path / "test.json"), "data.test_images": str(tmp_path / "images")}
    test = {**files, "data.on_error": {"test": "skip"}}
    train(load_config(None, {**tiny_run, **test, "data.labels": 30, "method": "supervised"}), tmp_path / "run")
    assert "Left out because of errors: test 1" in " ".join(run_page(tmp_path / "run").details)
    (tmp_path / "run" / "scores.json").unlink()
    assert "Left out because of errors: test 1" in " ".join(run_page(tmp_path / "run").details)
