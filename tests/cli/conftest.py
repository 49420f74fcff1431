"""Runs commands as a user does, and keeps one tiny run."""

import shutil
import sys
from contextlib import suppress

import pytest

from semipose.cli import main
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco

TINY = """
data.validation=8 input.height=64 input.width=64 model.backbone=test_resnet model.weights=none model.head_channels=8
train.steps=4 train.batch=4 train.unlabeled_batch=4 train.device=cpu --no-report
""".split()  # noqa: SIM905


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
    """A tiny run folder that nobody changes."""
    folder = tmp_path_factory.mktemp("trained")
    people = folder / "people.json"
    write_coco(read_dataset("people", None).subset(range(60)), people)
    arguments = ["--data", people, "--images", PEOPLE / "images", "--labels", 20, "--method", "trs"]
    before, sys.argv = sys.argv, ["semipose", "train", *TINY, *map(str, arguments), "--out", str(folder / "run")]
    with suppress(SystemExit):
        main()
    sys.argv = before
    return folder / "run"


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy of a tiny run folder."""
    return shutil.copytree(trained_once, tmp_path / "run")


def one_line(result: tuple[int, str, str], told: str) -> None:
    """Asserts exit code 2, nothing on stdout, and one line on stderr that says what is wrong."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert told in err
    assert "Traceback" not in err
    if err.startswith("semipose:"):
        assert len(err.strip().splitlines()) == 1
