"""Exit codes, messages and the help of the program."""

import resource
import subprocess
import sys

import pytest
from typer.main import get_command

import semipose
from semipose.cli import app
from semipose.data.datasets import PEOPLE
from semipose.errors import DataError, RunError
from tests.cli.conftest import coco, one_line

COMMANDS = get_command(app).commands


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--data", "gone.json"], "gone.json"),
        (["train", "gone.yaml"], "gone.yaml"),
        (["train", "smal", "--data", "people"], "small"),
        (["train", "--data", "people", "--labels", "99999"], "1598"),
        (["train", "train.stepz=3"], "did you mean 'steps'"),
        (["train", "method.momentum=2", "--method", "mean_teacher"], "a fraction below 1, not 2"),
        (["train", "--method", "teacher"], "known"),
        (["train", "--steps", "0"], "--steps: Input should be greater than or equal to 1"),
        (["train", "--data", "people", "--backbone", "resnet19"], "resnet19"),
        (["train", "--data", "people", "--weights", "gone.pth", "--labels", "10"], "gone.pth"),
        (["train", "--data", "people", "--device", "cuda:99", "--weights", "none"], "cuda:99"),
        (["train", "--data", "people", "--unlabeled", "gone"], "gone"),
        (["evaluate", "gone", "--data", "people"], "gone"),
        (["predict", "gone", "photos"], "gone"),
        (["export", "gone", "--out", "x.onnx"], "gone"),
        (["suggest", "gone", "photos", "--count", "1", "--out", "x"], "gone"),
        (["report", "gone"], "gone"),
        (["config", "--method", "gone"], "known: supervised, "),
        (["config", "--method", "gone"], "trs, akm+mixup, multi_augs+dual"),
        (["config", "--method", "akm+mixu"], "did you mean 'akm+mixup'?"),
        (["config", "gone"], "gone"),
        (["study", "gone"], "gone"),
        (["train", "--no-such-option"], "no-such-option"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_exit_code_2(cli, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    one_line(cli(*arguments), expected)


def test_the_version(cli):
    assert cli("--version") == (0, f"semipose {semipose.__version__}\n", "")


def test_debug_shows_a_traceback(cli, tmp_path):
    with pytest.raises(DataError):
        cli("train", "--data", "gone.json", "--out", tmp_path, "--debug")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunError("it diverged"), 1, "semipose: it diverged"),
        (ZeroDivisionError("by\nzero"), 1, "semipose: ZeroDivisionError: by zero (--debug shows where)"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(cli, monkeypatch, error, code, line):
    def fail():
        raise error

    monkeypatch.setattr("semipose.methods.cost.describe_methods", fail)
    assert cli("methods") == (code, "", line + "\n")


def test_broken_records_are_listed_before_the_line(cli, tmp_path):
    content = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [0, 0, -1], "keypoints": []} for n in (1, 2)]
    path = coco(tmp_path / "bad.json", annotations=content)
    code, out, err = cli("train", "--data", path, "--images", PEOPLE / "images", "--out", tmp_path / "run")
    *problems, line = err.splitlines()
    assert (code, out, len(problems)) == (2, "", 2)
    assert line.startswith("semipose:")


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_takes_less_than_a_second(command):
    """Counts time on a processor, which other work on the machine does not change."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "semipose", *command, "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
