"""The report of a run: finished, unfinished, continued, and with images left out."""

import json
import shutil

import pytest

from semipose.config import load_config
from semipose.data.datasets import read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.reports.html import write_report
from semipose.reports.run_page import run_page
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
    page = parse(write_report(folder))
    for part in (
        "Predicted videos",
        "0.0125",
        "trs: resnet10t, 32×32",
        "PCK@0.2 by joint",
        "pixel_error by joint",
        "pixel_error on validation",
        "pixel error: mean",
        "95 % intervals of",
        "Persons sorted by error",
        "Easy and hard views",
        "Networks of run by joint",
        "PCK@0.2 by joint of G, R1, F, R2",
        "ensemble",
        "train.steps",  # an option that is not the default
        "left out: ",
    ):
        assert part in page.text
    assert {"G, level z", "G, level p", "R1, level z"} <= set(page.texts)
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert f"{100 * scores['mean']['PCK@0.2']:.1f}" in page.text
    assert sum(address.startswith("data:image/svg") for address in page.images) >= 3
    assert sum(address.startswith("data:image/jpeg") for address in page.images) >= 12 + 32 + 12


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
    assert [example.title for example in page.examples] == ["Easy and hard views"]
    assert "PCK@0.2 by joint" not in [chart.title for chart in page.charts]
    (folder / "metrics.jsonl").write_text("\n".join(line for line in lines if '"train"' in line))
    assert "there are no scores yet" in run_page(folder).lines[0]


def test_finished_run_that_went_on_is_unfinished(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 10**6, "kind": "train", "lr": 0.1, "supervised": 1.0}) + "\n")
    assert run_page(folder).lines[0].startswith("No final scores: the log ends at step 1000000")


@pytest.mark.slow
def test_broken_images_of_the_test_set_are_left_out(tmp_path, tiny_run):
    persons = read_dataset("people", None, "val").subset(range(12))
    (tmp_path / "images").mkdir()
    for image in persons.image_paths.values():
        shutil.copy(image, tmp_path / "images")
    write_coco(persons, tmp_path / "test.json")
    first = tmp_path / "images" / persons[0].image.name
    first.write_bytes(first.read_bytes()[:300])
    test = {"data.test": str(tmp_path / "test.json"), "data.on_error": {"test": "skip"}}
    train(load_config(None, {**tiny_run, **test, "data.labels": 30, "method": "supervised"}), tmp_path / "run")
    assert "Left out because of errors: test 1" in " ".join(run_page(tmp_path / "run").lines)
    (tmp_path / "run" / "scores.json").unlink()
    assert "Left out because of errors: test 1" in " ".join(run_page(tmp_path / "run").lines)
