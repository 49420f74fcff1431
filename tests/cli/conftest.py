"""Runs commands as a user does, and trains one tiny run for all tests."""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from semipose.cli import main
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco

IMAGES = ["--images", PEOPLE / "images"]
"""The image folder of the embedded data set."""

TINY = """
data.validation=8 input.height=64 input.width=64 model.backbone=test_resnet model.weights=none model.head_channels=8
train.steps=4 train.batch=4 train.unlabeled_batch=4 train.device=cpu --no-report
""".split()  # noqa: SIM905
"""A training of seconds."""


@pytest.fixture
def cli(capsys):
    """Runs `semipose ARGUMENTS`: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        before, sys.argv = sys.argv, ["semipose", *map(str, arguments)]
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            sys.argv = before
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """A tiny run of two networks and their reviewers, which no test may change; its test set is test.json beside it."""
    folder = tmp_path_factory.mktemp("trained")
    write_coco(read_dataset("people", None).subset(range(60)), folder / "people.json")
    write_coco(read_dataset("people", None, "val").subset(range(60)), folder / "test.json")
    arguments = ["--data", folder / "people.json", *IMAGES, f"data.test={folder / 'test.json'}", "--labels", 20]
    arguments += ["--method", "trs", "--out", folder / "run"]
    before, sys.argv = sys.argv, ["semipose", "train", *TINY, *map(str, arguments)]
    with suppress(SystemExit):
        main()
    sys.argv = before
    return folder / "run"


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy of the run."""
    return shutil.copytree(trained_once, tmp_path / "run")


@pytest.fixture
def test_set(trained_once):
    """The options that name the test set of the run."""
    return ["--data", trained_once.with_name("test.json"), *IMAGES]


def one_line(result: tuple[int, str, str], expected: str) -> None:
    """Asserts exit code 2, nothing on stdout, and one line on stderr that holds the text."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert expected in err
    assert "Traceback" not in err
    if err.startswith("semipose:"):
        assert len(err.strip().splitlines()) == 1


def coco(path: Path, **changes: object) -> Path:
    """Writes the test part of the embedded data set, with some parts changed, as a COCO file."""
    content = json.loads((PEOPLE / "val.json").read_text())
    content.update(changes)
    path.write_text(json.dumps(content))
    return path
