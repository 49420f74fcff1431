"""Parameter names become options of the running command, and any name can be printed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from semipose.cli import app
from semipose.cli.common import OPTIONS, print_table, suggest_command, translator
from semipose.data.datasets import PEOPLE
from tests.cli.conftest import coco


def command(*words):
    found = get_command(app)
    for word in words:
        found = found.commands[word]
    return found


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["train"], "`data.images`: no folder x", "--images: no folder x"),
        (["train"], "give `data.val` or `train.select=last`", "give --val or `train.select=last`"),
        (["train"], "`model.weights=none` or `model.weights=FILE`", "--weights none or --weights FILE"),
        (["train"], "continue with `resume`, `resume=True`", "continue with --resume, --resume"),
        (["evaluate"], "`data.images` and `flip_test`", "--images and --flip-test"),
        (["evaluate"], "`data.val` of `run`", "`data.val` of `run`"),
        (["data", "check"], "`against_images`", "--against-images"),
        (["predict"], "`min_score` without `boxes`; `f(x)`", "--min-score without --boxes; `f(x)`"),
    ],
)
def test_messages_name_options_of_the_command(words, text, expected):
    assert translator(command(*words))(text) == expected


def test_the_suggested_command_runs_as_it_is_written():
    for folder, with_boxes in (("runs/mice", False), ("my runs/mice", True)):
        _, name, *arguments = shlex.split(suggest_command(folder, with_boxes))
        given = command(name).make_context(name, arguments).params
        assert (str(given["run"]), str(given["frames"]), str(given["out"])) == (folder, "VIDEO", "to_label")
        assert given["boxes"] == (Path("FILE") if with_boxes else None)


def test_every_option_of_the_table_is_one_of_train():
    options = {option for parameter in command("train").params for option in parameter.opts}
    assert set(OPTIONS.values()) <= options


def test_tables_print_text_as_it_is(capsys):
    print_table("title", ["name", "meaning"], [["[bold]a[/bold]", "b"], [], ["c", "d"]])
    out = capsys.readouterr().out
    assert "[bold]a[/bold]" in out
    assert out.count("├") == 1


def test_names_that_the_encoding_of_the_terminal_lacks_stop_nothing(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    path = coco(tmp_path / "größe.json")
    arguments = ["data", "check", str(path), "--images", str(PEOPLE / "images")]
    done = subprocess.run(
        [sys.executable, "-m", "semipose", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "gr\\xf6\\xdfe.json" in done.stdout + done.stderr
