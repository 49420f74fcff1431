"""Progress bars and log messages."""

import logging

import pytest

from semipose.cli import progress
from semipose.cli.progress import ConsoleProgress, configure_logging


@pytest.fixture(autouse=True)
def _handlers():
    """Leaves the loggers as they were."""
    root, package = logging.getLogger(), logging.getLogger("semipose")
    before = list(root.handlers), package.level
    yield
    root.handlers[:], level = before
    package.setLevel(level)


def test_messages_are_printed_once_however_often_logging_is_configured(capsys):
    configure_logging()
    configure_logging(lambda text: text.replace("`boxes`", "--boxes"))
    logging.getLogger("semipose.x").info("give `boxes` [red]")
    logging.getLogger("semipose.x").debug("hidden")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "give --boxes [red]\n")


def test_of_several_processes_the_first_one_prints(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    configure_logging()
    logging.getLogger("semipose.x").warning("hidden")
    logging.getLogger("semipose.x").error("shown")
    assert capsys.readouterr().err == "shown\n"


def test_without_a_terminal_a_line_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with ConsoleProgress().start("training", 100, 10) as bar:
        for done in range(11, 101):
            now[0] += 1.0
            bar.update(done, f"loss {done}")
    assert capsys.readouterr().err == "training: 71 of 100: loss 71\n"
