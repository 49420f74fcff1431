"""report.html: complete, self-contained, for runs and for studies."""

import base64
import json
import shutil
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from semipose.config import load_config
from semipose.errors import ConfigError, DataError
from semipose.reports.examples import errors_by_person
from semipose.reports.html import write_report
from semipose.studies.grid import Grid
from semipose.trainer import train


class Page(HTMLParser):
    """Balanced tags, addresses and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.splits, self.links, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.splits += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if "href" in values else []
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def opened(path):
    page = Page(path.read_text(encoding="utf-8"))
    assert all(address.startswith("data:") for address in page.splits + page.links)  # nothing is fetched
    for address in page.splits:
        content = base64.b64decode(address.partition("base64,")[2])
        if address.startswith("data:image/jpeg"):
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            assert min(image.shape[:2]) >= 16
        else:
            assert b"</svg>" in content
            assert b'href="http' not in content
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_run):
    folder = tmp_path_factory.mktemp("report") / "run"
    train(load_config(None, {**tiny_run, "data.labels": 30, "data.validation": 12, "method": "trs"}), folder)
    return folder


def test_a_run(run):
    page = opened(write_report(run))
    text = " ".join(page.text)
    for part in (
        "trs: resnet10t, 32×32",
        "PCK@0.2 by joint",
        "95 % intervals of",
        "Instances sorted by error",
        "Easy and hard views",
        "ensemble",
    ):
        assert part in text
    assert {"G, level z", "G, level p", "R1, level z"} <= {t.strip() for t in page.text}
    assert "train.steps" in text  # an option that is not the default
    scores = json.loads((run / "scores.json").read_text())["scores"]
    assert f"{100 * scores['mean']['PCK@0.2']:.1f}" in text
    assert sum(a.startswith("data:image/svg") for a in page.splits) >= 3
    assert sum(a.startswith("data:image/jpeg") for a in page.splits) >= 12 + 32 + 12


def test_a_run_that_is_not_finished(run, tmp_path):
    """Curves and the last look at validation, also while the log's last line is being written."""
    folder = shutil.copytree(run, tmp_path / "run")
    for name in ("scores.json", "predictions.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "weights")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    looks = [json.loads(line) for line in lines if "validation/mean" in line]
    last = max(json.loads(line)["step"] for line in lines)
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 99, "ki')
    page = opened(write_report(folder))
    text = " ".join(page.text)
    assert f"No final scores: the log ends at step {last}; scores are those on validation at step {last}." in text
    assert f"{100 * looks[-1]['PCK@0.2']:.1f}" in text
    assert "Easy and hard views" in text
    assert "PCK@0.2 by joint" not in text
    losses = [line for line in lines if '"train"' in line]
    (folder / "metrics.jsonl").write_text("\n".join(losses))
    assert "and nothing to score on so far" in " ".join(opened(write_report(folder)).text)


def test_a_finished_run_that_went_on_is_not_finished(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 10**6, "kind": "train", "lr": 0.1, "supervised": 1.0}) + "\n")
    assert "No final scores: the log ends at step 1000000" in " ".join(opened(write_report(folder)).text)


def test_broken_photographs_of_the_test_set_are_passed_over(tmp_path, tiny_run):
    from semipose.data.datasets import read_dataset
    from semipose.data.formats.coco_writer import write_coco

    persons = read_dataset("people", None, "val").subset(range(12))
    (tmp_path / "images").mkdir()
    for image in persons.image_paths.values():
        shutil.copy(image, tmp_path / "images")
    write_coco(persons, tmp_path / "test.json")
    first = tmp_path / "images" / persons[0].image.name
    first.write_bytes(first.read_bytes()[:300])
    test = {"data.test": str(tmp_path / "test.json"), "data.on_error": {"test": "skip"}}
    train(load_config(None, {**tiny_run, **test, "data.labels": 30, "method": "supervised"}), tmp_path / "run")
    assert "Left out as broken: test 1 photograph" in " ".join(opened(write_report(tmp_path / "run")).text)
    (tmp_path / "run" / "scores.json").unlink()
    assert "Left out as broken: test 1 photograph" in " ".join(opened(write_report(tmp_path / "run")).text)


def test_a_study(run, tmp_path, tiny_run):
    grid = Grid(
        title="A <small> study",
        shared=tiny_run,
        rows={"trs": {"options": {"method": "trs"}}, "single": {"options": {"method": "single"}}},
        labels=[30, 60],
    )
    (tmp_path / "cells").mkdir()
    (tmp_path / "study.json").write_text(grid.model_dump_json())
    with pytest.raises(DataError, match="no finished cell"):
        write_report(tmp_path)
    for name in ("trs-30-0", "trs-60-0"):
        (tmp_path / "cells" / name).symlink_to(run)
    page = opened(write_report(tmp_path))
    text = " ".join(page.text)
    assert "A <small> study" in text  # escaped in the page, whole in the text
    assert "2 of 4 cells are done" in text
    assert "Score against labels" in text
    assert "trs on the same persons" in text


def test_folders_that_are_neither(tmp_path, tiny_run):
    with pytest.raises(ConfigError, match="neither a run"):
        write_report(tmp_path)
    load_config(None, tiny_run).save(tmp_path / "config.yaml")
    with pytest.raises(DataError, match=r"no line in metrics\.jsonl yet"):
        write_report(tmp_path)


def test_errors_are_sorted(run):
    from semipose.data.datasets import load_splits
    from semipose.structures.predictions import ground_truth_as_predictions

    truth = load_splits(load_config(run / "config.yaml").data).test.subset(range(6))
    exact = ground_truth_as_predictions(truth)
    exact[2].joints[:] += 50
    found = errors_by_person(truth, exact)
    assert found[0][1] == 2
    assert [error for error, _ in found[1:]] == [0] * (len(found) - 1)
