"""Configuration: what a file, sections and overrides make, and one line for every mistake."""

import logging
import os
from pathlib import Path

import pytest

from semipose.config import (
    DEFAULT,
    RunConfig,
    config_names,
    describe_options,
    flatten,
    load_config,
    parse_override,
    read_config_file,
)
from semipose.errors import ConfigError
from semipose.methods import METHODS, VARIANTS
from semipose.studies.grid import StudyRun, load_grid


def test_defaults_are_the_papers():
    config = load_config(None, {"method": "trs"})
    assert (config.input.height, config.input.width) == (256, 192)
    assert (config.train.lr, config.train.drops, config.train.batch) == (1e-3, (0.7, 0.9), 32)
    assert (config.loss.kind, config.loss.sigma) == ("mse", 2.0)
    assert config.method.supervised_weight == 0.5
    assert config.method.levels == 2
    assert config.method.burn_in == config.method.ramp_up == config.method.min_peak == 0
    assert config.method.teacher_mode == "train"
    assert config.model.head_channels == 256
    assert load_config() == RunConfig()


@pytest.mark.parametrize(("name", "method"), [("paper", "supervised"), ("trs_paper", "trs")])
def test_papers_settings_are_those_of_the_tables(name, method):
    """The configuration is that of the row of TRS, table II, but for the data."""
    grid = load_grid("trs-table2")
    of_table = grid.run_config(StudyRun(method, 10_000, 0))
    found = load_config(name, {"data.labels": 10_000, "method": method})
    for key in ("input", "model", "method", "loss", "views", "train", "evaluation"):
        assert getattr(found, key) == getattr(of_table, key), key
    assert found.data.include_labeled is of_table.data.include_labeled is False
    assert found.data.validation == of_table.data.validation == 0
    assert found.views.seen_mask is False
    assert (found.model.backbone, found.evaluation.decoder) == ("resnet18.tv_in1k", "quarter")


def test_saved_and_read_back(tmp_path):
    config = load_config(
        None, {"method": "dual", "method.augmentations": ["cutout", {"kind": "cut_occlude", "joints": 3}]}
    )
    config.save(tmp_path / "c.yaml")
    again = load_config(tmp_path / "c.yaml")
    assert again == config
    assert [a.kind for a in again.method.augmentations] == ["cutout", "cut_occlude"]
    assert again.method.augmentations[1].joints == 3


def test_an_automatic_batch_is_chosen_when_the_training_starts(tmp_path):
    (tmp_path / "c.yaml").write_text("train: {batch: auto, lr: 0.5}\n")
    for config in (
        load_config(tmp_path / "c.yaml"),
        load_config(None, {"train.batch": "auto", "train.lr": 0.5}),
        RunConfig(train={"batch": "auto", "lr": 0.5}),
    ):
        assert (config.auto, config.train.batch, config.train.lr) == (("largest_batch",), 32, 0.5)
    assert load_config("default", {"train.batch": "auto"}).auto == ("network", "input", "steps", "largest_batch")


def test_overrides_win_over_sections_and_sections_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("method: {name: trs, levels: 3}\ntrain: {lr: 0.5, batch: 8, seed: 3}\n")
    sections = {"train": {"lr": 0.2, "batch": 16}, "method": {"reviewers": {"alpha": 0.5}}}
    config = load_config(path, {"train.lr": 0.1}, **sections)
    assert (config.train.lr, config.train.batch, config.train.seed) == (0.1, 16, 3)
    assert (config.method.name, config.method.levels, config.method.reviewers.alpha) == ("trs", 3, 0.5)
    assert load_config(data={"train": "x.json"}, method="dual").method.name == "dual"


@pytest.mark.parametrize("given", [{"method": "mean_teacher"}, {"method": {"name": "mean_teacher"}}])
def test_options_of_another_method_are_not_used(tmp_path, caplog, given):
    path = tmp_path / "c.yaml"
    path.write_text("method: {name: trs, levels: 3, burn_in: 0.1}\n")
    with caplog.at_level(logging.INFO):
        config = load_config(path, {"method.momentum": 0.5}, **given)
    assert (config.method.momentum, config.method.burn_in) == (0.5, 0)
    assert "method.levels, method.burn_in of" in caplog.text
    assert load_config(path, {"method": "trs"}).method.levels == 3


def test_the_method_where_none_is_named(tmp_path):
    """The recipe of the default configuration where there are unlabeled images, else the labels alone."""
    recipe = read_config_file(DEFAULT)["method"]
    path = tmp_path / "c.yaml"
    path.write_text("loss: {kind: cross_entropy}\nmethod: {burn_in: 0.2}\n")
    data = tmp_path / "data.yaml"
    data.write_text("train: labels.json\nunlabeled: frames\n")
    for given in ({"data.labels": 20}, {"data.unlabeled": "frames"}, {"data.train": str(data)}):
        config = load_config(path, {"data.train": "labels.json", **given})
        assert (config.method.name, config.method.burn_in) == (recipe["name"], 0.2)
        assert load_config(DEFAULT, {"data.train": "labels.json", **given}).method.name == recipe["name"]
    assert load_config(DEFAULT, {"data.train": "labels.json"}).method == RunConfig().method
    assert load_config("small", {"data.train": "labels.json"}).method == RunConfig().method
    assert load_config(None, {"data.train": "labels.json", "data.labels": 20}).method == RunConfig().method
    assert load_config("trs_paper", {"data.train": "labels.json"}).method.name == "trs"


def test_an_option_of_other_methods_where_none_is_named(tmp_path):
    (tmp_path / "c.yaml").write_text("train: {steps: 3}\n")
    for file in (DEFAULT, tmp_path / "c.yaml"):
        with pytest.raises(ConfigError, match=r"burn_in`: unknown option; .* the method is supervised, because"):
            load_config(file, {"data.train": "labels.json", "method.burn_in": 0.3})
    named = {"data.train": "labels.json", "method": "supervised", "method.burn_in": 0.3}
    for file, given in ((DEFAULT, named), (None, {"method.burn_in": 0.3})):
        with pytest.raises(ConfigError, match=r"unknown option; known: name, levels$"):
            load_config(file, given)


@pytest.mark.parametrize(
    ("value", "words"), [(10, "a fraction of the training below 1 or 'auto'"), ("x", "a valid number or 'auto'")]
)
def test_a_burn_in_that_is_no_fraction(value, words):
    with pytest.raises(ConfigError) as raised:
        load_config(DEFAULT, {"data.train": "a.json", "data.labels": 3, "method.burn_in": value})
    assert str(raised.value) == f"`method.burn_in`: Input should be {words}, not {value!r}"


def test_epochs_replace_the_steps_of_the_file(tmp_path):
    assert load_config(DEFAULT, {"train.epochs": 7}).train.steps is None
    assert load_config(DEFAULT, {"train.epochs": 7, "train.steps": 3}).train.steps == 3


def test_options_of_augmentations_by_their_listed_names():
    """Every listed name can be set, in the entries of its kind alone."""
    prefix = "method.augmentations."
    listed = [row.name for row in describe_options("single") if row.name.startswith(prefix)]
    assert "method.augmentations.cutout.side" in listed
    for name in listed:
        kind, option = name.split(".")[2:]
        given = {"method": "single", "method.augmentations": [kind, "joint_cutout"]}
        usual = load_config(None, given).method.augmentations[0]
        value = getattr(usual, option)
        nearly = value * 0.99 if isinstance(value, float) else 9 if option == "half_size_min" else value + 1
        nearly = not value if isinstance(value, bool) else nearly
        changed = load_config(None, {**given, name: nearly}).method.augmentations[0]
        assert changed.model_dump() == {**usual.model_dump(), option: nearly}
        with pytest.raises(ConfigError, match=option):
            load_config(None, {**given, name: "none"})
    changed = load_config(None, {"method": "trs", "method.augmentations.keypoint_mix.joints": 2})
    assert changed.method.augmentations[0].joints == 2
    variant = load_config(None, {"method": "akm+mixup", "method.augmentations.adaptive_joint_cutout.joints": 6})
    assert (variant.method.augmentations[0].joints, variant.method.mixup.enabled) == (6, True)
    assert not [row for row in describe_options("multi_augs") if row.name.startswith(prefix)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"method": "trs", "method.augmentations.cutout.side": 0.2}, "the list, which is [keypoint_mix]"),
        ({"method": "trs", "method.augmentations.keypoint_mix": 2}, "method.augmentations.KIND.OPTION=value"),
        ({"method": "trs", "method.augmentations.keypoint_mix.joint": 2}, "did you mean 'joints'"),
        ({"method": "trs", "method.augmentations": "cutout", "method.augmentations.cutout.side": 0.2}, "which is []"),
        ({"method": "trs", "method.augmentations.keypoint_mix.kind": "cutout"}, "KIND.OPTION"),
        ({"method.name": ["trs"]}, "method"),
        ({"method": "unknown"}, "trs"),
        ({"method": "unknown", "method.momentum": 0.2}, "trs"),
        ({"method": ["trs"]}, "method"),
        ({"train.stps": 3}, "`train.stps`: unknown option; did you mean 'steps'"),
        ({"trian.steps": 3}, "did you mean 'train'"),
        ({"steps": 3}, "steps: unknown option; known: data, input, model, method, loss, views, train, evaluation, "),
        ({"steps": 3}, "did you mean train.steps?"),
        ({"padding": 1}, "did you mean input.padding?"),
        (
            {"method": "trs", "method.reviewer.alpha": 0.5},
            "`method.reviewer`: unknown option; did you mean 'reviewers'",
        ),
        ({"method": "trs", "method.levels": 7}, "`method.levels`"),
        ({"input.height": 100}, "`input.height`: Input should be a multiple of 32, such as 96 or 128, not 100"),
        ({"method": "single", "method.augmentations": ["cutot"]}, "did you mean 'cutout'"),
    ],
)
def test_mistakes_are_one_line(overrides, expected):
    with pytest.raises(ConfigError) as found:
        load_config(None, overrides)
    assert expected in str(found.value)
    assert "\n" not in str(found.value)


def test_mistakes_name_the_file_that_they_are_in(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("train: {lr: fast}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: `train\.lr`"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"^`train\.lr`"):
        load_config(path, {"train.lr": "slow"})


def test_a_project_of_deeplabcut_is_no_configuration(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("Task: reach\nscorer: Ana\nbodyparts: [nose]\n")
    with pytest.raises(ConfigError, match=r"config\.yaml is a DeepLabCut project; give it as `data\.train`"):
        load_config(path)


@pytest.mark.parametrize("text", ["- a list", "train: [", "just words"])
def test_files_that_are_no_configuration(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(path)


def test_unknown_names_list_the_configurations():
    with pytest.raises(ConfigError, match="default, paper, small"):
        load_config("smal")


def test_a_file_wins_over_a_configuration_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("small").write_text("train: {seed: 9}\n")
    assert load_config("small").train.seed == 9
    os.mkdir("paper")  # noqa: PTH102
    assert load_config("paper").evaluation.decoder == "quarter"


def test_parse_override():
    assert parse_override("a.b=[1, x]") == ("a.b", [1, "x"])
    assert parse_override("train.steps=1_000") == ("train.steps", 1000)
    for name in ("2024_05_01", "2024-05-01", "7", "no"):
        assert parse_override(f"data.unlabeled={name}") == ("data.unlabeled", name)
    assert parse_override("data.unlabeled=null") == ("data.unlabeled", None)
    for text in ("nothing", "=3", "a=[1"):
        with pytest.raises(ConfigError, match=r"override|YAML"):
            parse_override(text)


@pytest.mark.parametrize("method", [*METHODS, *VARIANTS])
def test_every_option_is_described_and_can_be_set_to_its_default(method):
    rows = describe_options(method)
    assert all(row.meaning and row.type for row in rows)
    single = {row.name: row.default for row in rows if not row.name.startswith("method.augmentations.")}
    assert load_config(None, single) == load_config(None, {"method": method})


@pytest.mark.parametrize("name", config_names())
def test_configurations_of_the_package(name):
    known = {row.name for row in describe_options(read_config_file(name).get("method", {}).get("name", "supervised"))}
    assert {key for key, _ in flatten(read_config_file(name))} <= {*known, "method.name"}
    assert load_config(name).model.backbone
    assert "--" not in config_names()[name].read_text()


def test_given_are_overrides_and_the_files_of_users(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: {lr: 0.1}\nmethod: {name: single}\n")
    overrides = {"train.batch": 4}
    assert load_config("small", overrides).given == load_config(DEFAULT, overrides).given == {"train.batch"}
    assert load_config(path, overrides).given == {"train.batch", "train.lr", "method.name"}
    assert RunConfig(train={"lr": 0.1}, auto=("network",)).given == {"train.lr"}
    path.write_text("auto: [network]\ntrain: {lr: 0.1}\n")
    assert load_config(path).given == set()
    load_config(DEFAULT).model_copy(update={"auto": ()}).save(path)
    assert load_config(path).given >= {"model.stage", "train.lr", "loss.kind"}  # a run that is resumed


def test_values_are_replaced_by_dotted_key_and_count_as_given_only_if_asked():
    config = load_config(None, {"train.lr": 0.1})
    changed = config.with_values({"train.steps": 7, "auto": ("steps",)})
    assert (changed.train.steps, changed.train.lr, changed.auto, changed.given) == (7, 0.1, ("steps",), {"train.lr"})
    assert config.with_given({"train.steps": 7}).given == {"train.lr", "train.steps"}
    assert (config.train.steps, config.given) == (load_config().train.steps, {"train.lr"})


def test_paths_are_accepted_as_values():
    config = load_config("small", {"train.start": Path("runs/a")}, data={"train": Path("labels.json")})
    assert (config.train.start, config.data.train) == (str(Path("runs/a")), "labels.json")
