"""Configuration: what a file and overrides make, and one line for every mistake."""

import pytest
import yaml

from semipose.config import SHIPPED, augmentation_options, left_behind, load_config, options, parse_override
from semipose.errors import ConfigError
from semipose.methods import METHODS


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


def test_saved_and_read_back(tmp_path):
    config = load_config(
        None, {"method": "dual", "method.augmentations": ["cutout", {"kind": "cut_occlude", "joints": 3}]}
    )
    config.save(tmp_path / "c.yaml")
    again = load_config(tmp_path / "c.yaml")
    assert again == config
    assert [a.kind for a in again.method.augmentations] == ["cutout", "cut_occlude"]
    assert again.method.augmentations[1].joints == 3


def test_overrides_win_and_methods_do_not_mix(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("method: {name: trs, levels: 3}\ntrain: {lr: 0.5}\n")
    config = load_config(path, {"train.lr": 0.1, "method.reviewers.alpha": 0.5})
    assert (config.train.lr, config.method.levels, config.method.reviewers.alpha) == (0.1, 3, 0.5)
    assert load_config(path, {"method": "trs"}).method.levels == 3
    assert load_config(path, {"method.momentum": 0.5, "method": "mean_teacher"}).method.momentum == 0.5


def test_options_of_alterations_by_their_listed_names():
    """Every listed name is one that can be set; of the entries of its kind alone."""
    plain = load_config(None, {"method": "single"})
    listed = [row[0] for row in augmentation_options(type(plain.method))]
    assert "method.augmentations.cutout.side" in listed
    for name in listed:
        kind, option = name.split(".")[2:]
        given = {"method": "single", "method.augmentations": [kind, "joint_cutout"]}
        usual = load_config(None, given).method.augmentations[0]
        nearly = (
            getattr(usual, option) * 0.99 if isinstance(getattr(usual, option), float) else getattr(usual, option) + 1
        )
        nearly = nearly if option != "half_size_min" else 9
        changed = load_config(None, {**given, name: nearly}).method.augmentations[0]
        assert changed.model_dump() == {**usual.model_dump(), option: nearly}
        with pytest.raises(ConfigError, match=option):
            load_config(None, {**given, name: "none"})
    both = load_config(
        None, {"method": "akm", "method.augmentations": ["cutout", "mixup"], "method.augmentations.cutout.side": 0.25}
    )
    assert [a.model_dump() for a in both.method.augmentations] == [
        {"kind": "cutout", "side": 0.25},
        {"kind": "mixup", "beta": 1.0},
    ]
    assert (
        load_config(None, {"method": "trs", "method.augmentations.keypoint_mix.joints": 2})
        .method.augmentations[0]
        .joints
        == 2
    )
    variant = load_config(None, {"method": "akm+mixup", "method.augmentations.adaptive_joint_cutout.joints": 6})
    assert (variant.method.augmentations[0].joints, variant.method.mixup.enabled) == (6, True)
    assert augmentation_options(type(load_config(None, {"method": "multi_augs"}).method)) == []


def test_options_of_another_method_are_told(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("method: {name: trs, levels: 3, burn_in: 0.1}\n")
    assert left_behind(path, "dual") == ["method.levels", "method.burn_in"]
    assert left_behind(path, "trs") == []
    path.write_text("method: dual\n")
    assert left_behind(path, "trs") == []


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            {"method": "trs", "method.augmentations.cutout.side": 0.2},
            "method.augmentations of trs has no 'cutout', it has keypoint_mix",
        ),
        ({"method": "trs", "method.augmentations.keypoint_mix": 2}, "method.augmentations.KIND.OPTION=value"),
        ({"method": "trs", "method.augmentations.keypoint_mix.joint": 2}, "did you mean 'joints'"),
        ({"method": "trs", "method.augmentations": "cutout", "method.augmentations.cutout.side": 0.2}, "for the list"),
        ({"method": "trs", "method.augmentations.keypoint_mix.kind": "cutout"}, "for the list"),
        ({"method.name": ["trs"]}, "method"),
        (
            {"method": "multi_augs", "method.augmentations.cutout.side": 0.2},
            "multi_augs has no list method.augmentations",
        ),
        ({"method.augmentations.cutout.side": 0.2}, "supervised has no list method.augmentations"),
        ({"method": "unknown", "method.augmentations.cutout.side": 0.2}, "'trs'"),
        ({"method": ["trs"], "method.augmentations.cutout.side": 0.2}, "method"),
        ({"train.stps": 3}, "train.stps: unknown option; did you mean 'steps'"),
        ({"trian.steps": 3}, "did you mean 'train'"),
        ({"method": "trs", "method.reviewer.alpha": 0.5}, "did you mean 'reviewers'"),
        ({"method": "trs", "method.levels": 7}, "method.levels"),
        ({"method": "unknown"}, "'trs'"),
        ({"input.height": 100}, "input.height"),
        ({"method": "single", "method.augmentations": ["cutot"]}, "method.augmentations"),
    ],
)
def test_mistakes_are_one_line(overrides, told):
    with pytest.raises(ConfigError) as found:
        load_config(None, overrides)
    assert told in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("text", ["- a list", "train: [", "just words"])
def test_files_that_are_no_configuration(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(path)


def test_parse_override():
    assert parse_override("a.b=[1, x]") == ("a.b", [1, "x"])
    for text in ("nothing", "=3", "a=[1"):
        with pytest.raises(ConfigError, match=r"override|YAML"):
            parse_override(text)


def test_options_read_as_configuration():
    """Every listed option exists and is set by its listed name."""
    for name, (config, _) in METHODS.items():
        rows = options(config, "method.")
        assert all(meaning for *_, meaning in rows)
        for option, _, default, _ in rows:
            load_config(None, {"method": name, option: yaml.safe_load(default)})


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configurations_load(path):
    assert load_config(path).model.backbone
