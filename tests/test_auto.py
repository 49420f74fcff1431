"""What is chosen for the machine and the data, where nothing is given."""

import pytest
import torch

from semipose.auto import (
    BOX_FINDER_SIDE,
    BOX_FINDER_STEPS,
    SEVERAL_BATCH,
    SEVERAL_SIDE,
    SHIFT,
    Budget,
    box_finder_options,
    choose_options,
    with_shift,
)
from semipose.config import DEFAULT, load_config
from semipose.data.datasets import PEOPLE, load_splits
from semipose.errors import ConfigError, RunError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def choose(small_people):
    def make(device=CPU, dry_run=None, **given):
        data = {"data.train": str(small_people), "data.images": str(PEOPLE / "images"), "data.labels": 24}
        config = load_config(DEFAULT, {**data, **given})
        return choose_options(config, load_splits(config.data), device, dry_run)

    return make


def test_a_cpu_keeps_the_small_network(choose):
    config, reasons = choose()
    assert (config.model.backbone, config.input.height, config.input.width) == ("tf_efficientnet_lite0", 96, 96)
    assert (config.train.batch, config.train.unlabeled_batch) == (16, 32)
    assert config.train.steps == 1000 + 1000
    assert config.train.drops == ()
    assert config.auto == ()
    assert reasons[0].startswith("network: tf_efficientnet_lite0 at 96×96 (small enough for a CPU")
    assert reasons[1].startswith("steps: 2000, 1000 on 24 labeled persons alone, then 1000 with ")


def test_the_rate_drops_late_where_no_average_is_the_result(choose):
    assert choose(method="trs")[0].train.drops == (0.9,)
    assert choose(**{"train.steps": 1500})[0].train.drops == ()


def test_a_gpu_takes_the_papers_network(choose):
    config, reasons = choose(GPU)
    assert (config.model.backbone, config.model.stage, config.model.head_channels) == ("resnet50", -1, 256)
    assert (config.input.height, config.input.width, config.loss.sigma) == (256, 192, 2)
    assert config.train.steps == 1000 + 5000
    assert "the usual size on a GPU" in reasons[0]


def test_several_processes_need_fewer_steps_for_as_many_passes(choose, monkeypatch):
    """Of 50 unlabeled persons and 24 labeled ones, one each a step and process."""
    given = {"train.batch": 1, "train.unlabeled_batch": 1}
    monkeypatch.setattr("semipose.auto.BUDGETS", {"gpu": Budget(400, 1, 40_000)})
    monkeypatch.setattr("semipose.auto.automatic_burn_in", lambda passes_per_step: round(20 / passes_per_step))
    for processes in (1, 4):
        monkeypatch.setattr("semipose.auto.world_size", lambda number=processes: number)
        config, reasons = choose(GPU, **given)
        burn_in, teaching = 20 * 24 // processes, 400 * 50 // processes
        assert config.train.steps == burn_in + teaching
        assert f"{burn_in} on 24 labeled persons alone, then {teaching} with 50 unlabeled ones (400.0 pa" in reasons[1]


def test_without_unlabeled_images_the_steps_are_those_of_the_labels(choose):
    config, reasons = choose(**{"data.labels": None})
    assert config.method.name == "supervised"
    assert config.train.steps == 1000
    assert (config.train.drops, config.train.average, config.method.levels) == ((), 0.99, 2)
    assert choose(**{"data.labels": None, "method.levels": 1})[0].method.levels == 1
    assert reasons[1].startswith("steps: 1000, 1000 on ")
    assert "unlabeled" not in reasons[1]


def test_only_the_method_of_labels_alone_is_averaged_for_lack_of_unlabeled_images(choose):
    config, _ = choose(method="mean_teacher", **{"data.labels": None})
    assert (config.train.drops, config.train.average) == ((0.7, 0.9), 0.0)


def test_steps_do_not_depend_on_where_given_drops_are(choose):
    assert choose(**{"data.labels": None, "train.drops": [0.0, 0.5]})[0].train.steps == round(1000 / 0.7)


@pytest.mark.parametrize("given", [{"data.validation": 0}, {"train.drops": [0.7, 0.9]}, {"train.average": 0.0}])
def test_without_a_validation_set_or_with_a_given_rate_labels_alone_end_at_a_lower_one(choose, given):
    """Without validation the kept network is not the average."""
    config, _ = choose(**{"data.labels": None}, **given)
    assert (config.train.drops, config.train.average) == ((0.7, 0.9), 0.0)
    assert config.train.steps == round(1000 / 0.7)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"method": "trs"}, "steps: 1000, 1000 with "),  # no burn-in
        ({"method": "mean_teacher", "method.burn_in": 0.2}, "steps: 1250, 250 on 24 labeled persons alone, then 1000 "),
        ({"train.steps": 400}, "steps: 400, 400 on 24 labeled persons alone"),  # too few for the unlabeled images
        ({"train.epochs": 3}, "steps: those of 3 epochs"),
    ],
)
def test_the_reason_is_that_of_the_method_and_of_given_steps(choose, given, steps):
    _, reasons = choose(**given)
    assert reasons[1].startswith(steps)


def test_a_given_network_has_no_reason(choose):
    assert choose(**{"model.backbone": "resnet18"})[1][0] == "network: resnet18 at 96×96, batch 16 + 32"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"train.steps": 7}, ("train", "steps", 7)),
        ({"train.drops": [0.5]}, ("train", "drops", (0.5,))),
        ({"train.batch": 4}, ("train", "batch", 4)),
        ({"input.height": 128}, ("input", "height", 128)),
        ({"model.backbone": "resnet18"}, ("model", "backbone", "resnet18")),
        ({"model.weights": "none"}, ("model", "backbone", "tf_efficientnet_lite0")),
        ({"model.frozen_stages": 5}, ("model", "backbone", "tf_efficientnet_lite0")),
        ({"train.lr": 0.01}, ("train", "lr", 0.01)),
        ({"train.lr": 0.01}, ("model", "backbone", "resnet50")),
        ({"train.drops": [0.7, 0.9]}, ("train", "drops", (0.7, 0.9))),
        ({"train.epochs": 3}, ("train", "steps", None)),
    ],
)
def test_given_values_are_kept(choose, given, kept):
    config, _ = choose(GPU, **given)
    section, option, value = kept
    assert getattr(getattr(config, section), option) == value


def test_other_configurations_leave_nothing_open(choose):
    config = load_config("small", {"data.train": "people"})
    assert choose_options(config, load_splits(config.data), GPU, None) == (config, [])


def gpu_for(most):
    """A GPU whose memory is sufficient for `most` persons of a step, and what was tried on it."""
    tried = []

    def dry_run(config):
        tried.append((config.train.batch, config.train.unlabeled_batch))
        if sum(tried[-1]) > most:
            raise torch.OutOfMemoryError

    return dry_run, tried


@pytest.mark.parametrize(
    ("most", "given", "tried"),
    [
        (1000, {}, [(16, 16)]),  # 24 persons have labels
        (10, {}, [(16, 16), (8, 8), (4, 4)]),
        (30, {"train.unlabeled_batch": 64}, [(16, 32), (8, 16)]),
        (30, {"train.accumulate": 8, "train.unlabeled_batch": 8}, [(16, 8)]),
    ],
)
def test_the_largest_batch_that_fits_the_memory(choose, most, given, tried):
    dry_run, seen = gpu_for(most)
    config, reasons = choose(GPU, dry_run, **{"train.batch": "auto", "train.steps": 9}, **given)
    assert seen == tried
    assert (config.train.batch, config.train.unlabeled_batch) == tried[-1]
    assert config.auto == ()
    assert f"batch {tried[-1][0]} + {tried[-1][1]} (the largest that fits the memory)" in reasons[0]


def test_a_gpu_too_small_for_one_person_and_several_processes_are_errors(choose, monkeypatch):
    with pytest.raises(RunError, match="no step of resnet50 fits the memory of cuda:0"):
        choose(GPU, gpu_for(1)[0], **{"train.batch": "auto"})
    monkeypatch.setattr("semipose.auto.world_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"`train\.batch`: auto finds the batch of one process; give a number"):
        choose(GPU, gpu_for(9)[0], **{"train.batch": "auto"})


def test_a_cpu_has_no_largest_batch(choose):
    config, reasons = choose(**{"train.batch": "auto"})
    assert (config.train.batch, config.train.unlabeled_batch) == (16, 32)
    assert "largest" not in reasons[0]


def test_the_box_network_learns_from_labels_on_whole_images(tiny):
    config = tiny("trs", **{"train.steps": 5000, "train.drops": [0.9], "train.average": 0.9, "data.boxes": "auto"})
    coarse = box_finder_options(config, several=False)
    assert (coarse.method.name, coarse.data.boxes, coarse.train.steps) == ("supervised", "whole", BOX_FINDER_STEPS)
    assert (coarse.input.height, coarse.input.width, coarse.input.padding) == (BOX_FINDER_SIDE, BOX_FINDER_SIDE, 1)
    assert (coarse.train.average, coarse.train.drops, coarse.views.shift) == (0, (0.7, 0.9), SHIFT)
    assert coarse.model == config.model
    assert box_finder_options(tiny("single", **{"train.steps": 7}), several=False).train.steps == 7
    several = box_finder_options(config, several=True)
    assert (several.input.height, several.input.width, several.loss.kind) == (SEVERAL_SIDE, SEVERAL_SIDE, "mse")
    assert several.train.batch == min(config.train.batch, SEVERAL_BATCH)


def test_views_of_found_boxes_are_shifted_unless_a_shift_is_given(tiny):
    assert with_shift(tiny("single")).views.shift == SHIFT
    assert with_shift(tiny("single", **{"views.shift": 0.2})).views.shift == 0.2
