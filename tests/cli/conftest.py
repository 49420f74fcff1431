"""Runs commands as a user does, and keeps one tiny run."""

import sys

import pytest

from semipose.cli import main
from semipose.data.sources import PEOPLE

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


@pytest.fixture
def trained(cli, small_people, tmp_path):
    """A tiny run folder."""
    out = tmp_path / "run"
    arguments = ["--data", small_people, "--images", PEOPLE / "images", "--labels", 20, "--method", "trs", "--out", out]
    code, _, err = cli("train", *TINY, *arguments)
    assert code == 0, err
    return out


def one_line(result: tuple[int, str, str], told: str) -> None:
    """Asserts exit code 2, nothing on stdout, and one line on stderr that says what is wrong."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert told in err
    assert "Traceback" not in err
    if err.startswith("semipose:"):
        assert len(err.strip().splitlines()) == 1
