"""semipose config."""

import json

import pytest

from semipose.config import config_names
from semipose.data.datasets import PEOPLE
from tests.cli.conftest import one_line


def test_options_with_type_default_and_meaning(cli):
    code, out, _ = cli("config", "--method", "trs", "--json")
    assert code == 0
    options = json.loads(out)
    assert options["method.reviewers.alpha"]["default"] == 0.99
    assert options["train.select"]["type"] == "best | last"
    assert all(option["meaning"] for option in options.values())
    variant = json.loads(cli("config", "--method", "akm+mixup", "--json")[1])
    assert variant["method.mixup.enabled"]["default"] is True


def test_the_table_shows_where_each_section_begins(cli):
    out = cli("config", "--method", "supervised")[1]
    first = [line.split()[1] for line in out.splitlines() if line.startswith("│ ") and line[2] != " "]
    assert first[first.index("train:") + 1].startswith("train.")
    assert first[first.index("train:") - 1].startswith("views.")
    assert first[:2] == ["data:", "data.train"]
    assert "small_trs" in out.splitlines()[-1]


@pytest.mark.parametrize("name", config_names())
def test_what_a_named_configuration_sets(cli, name):
    code, out, err = cli("config", name, "--json")
    assert code == 0, err
    values = json.loads(out)
    code, table, err = cli("config", name)
    assert code == 0, err
    assert all(f"│ {key} " in table for key in values)
    if name == "small":
        assert values["input.height"] == 96


def test_a_file_and_a_wrong_file(cli, tmp_path):
    (tmp_path / "mine.yaml").write_text("method: {name: dual, backbones: {f1: resnet34}}\ntrain: {drops: []}\n")
    assert json.loads(cli("config", tmp_path / "mine.yaml", "--json")[1]) == {
        "method": "dual",
        "method.backbones.f1": "resnet34",
        "train.drops": [],
    }
    (tmp_path / "mine.yaml").write_text("train: {stps: 3}\n")
    one_line(cli("config", tmp_path / "mine.yaml"), "did you mean 'steps'")
    one_line(cli("config", "small", "--method", "trs"), "--method")


def test_the_choices_for_this_machine_without_training(cli, small_people):
    where = ("--data", str(small_people), "--images", str(PEOPLE / "images"), "--labels", "24")
    code, out, err = cli("config", "--explain", *where)
    assert code == 0, err
    assert out.splitlines()[1].startswith("steps: ")
    assert "method: late_teacher" in out
    chosen = json.loads(cli("config", "--explain", *where, "--boxes", "whole", "--json")[1])
    assert chosen["config"]["data"]["boxes"] == "whole"
    assert chosen["config"]["auto"] == []
    assert len(chosen["reasons"]) == 2
    given = ("--val", str(small_people), "--steps", "500", "--backbone", "resnet18", "train.batch=8")
    chosen = json.loads(cli("config", "--explain", *where, *given, "--json")[1])
    assert chosen["reasons"][0].startswith("network: resnet18 at 96×96, batch 8 + 32")
    assert chosen["reasons"][1].startswith("steps: 500, ")
    one_line(cli("config", "--explain", "small", "train.stps=3", *where), "did you mean 'steps'")
    one_line(cli("config", "train.steps=3"), "--steps: belongs to --explain")
    one_line(cli("config", "--explain"), "give --data")
    one_line(cli("config", *where), "--data, --images, --labels: belongs to --explain")
