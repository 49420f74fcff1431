"""The table of methods: passes are those of a real step, scores are those of the papers."""

import math

import pytest
import torch

from semipose.config import load_config
from semipose.methods import METHODS, VARIANTS
from semipose.methods.cost import describe_methods, step_cost


@pytest.fixture(scope="module")
def rows():
    return {row["method"]: row for row in describe_methods()}


def test_every_method_and_variant_is_listed(rows):
    assert list(rows) == [*METHODS, *VARIANTS]
    for row in rows.values():
        assert row["paper"]
        assert len(row["summary"]) > 30
        assert row["units"] == 3 * row["trained"] + row["forward"]


@pytest.mark.parametrize(
    ("name", "networks", "trained", "forward"),
    [
        ("supervised", 1, 1, 0),
        ("single", 1, 2, 1),
        ("dual", 2, 4, 2),
        ("data_distill", 2, 2, 6),  # flip, three scales
        ("sspcm", 5, 6, 4),  # three networks on labels, each on a hard view; two teachers and two copies
        ("akm+mixup", 1, 4, 1),
        ("multi_augs+dual", 2, 10, 2),  # four paths
        ("trs", 4, 6, 4),
    ],
)
def test_cost(rows, name, networks, trained, forward):
    row = rows[name]
    assert (row["networks"], row["trained"], row["forward"]) == (networks, trained, forward)


def test_cost_follows_the_configuration():
    plain = load_config(None, {"method": "trs", "method.reviewers.supervised": False}).method
    assert (step_cost(plain).trained, step_cost(plain).forward) == (4, 4)
    alone = load_config(None, {"method": "trs", "method.reviewers.enabled": False}).method
    assert step_cost(alone).units == 14


def test_cost_of_batches():
    """late_teacher: a trained pass on labels, and on unlabeled images one of the teacher and a trained one."""
    cost = step_cost(METHODS["late_teacher"][0]())
    assert (cost.of_batch(16, 0), cost.of_batch(16, 32)) == (3 * 16, 3 * 16 + 4 * 32)
    assert step_cost(METHODS["trs"][0]()).of_batch(1, 1) == step_cost(METHODS["trs"][0]()).units


def test_counting_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    step_cost(METHODS["dual"][0]())
    assert torch.equal(before, torch.get_rng_state())


def test_published_scores(rows):
    assert rows["trs"]["published"] == [50.9, 60.4, 62.9]
    assert rows["akm+mixup"]["published"] == [47.3, 56.1, 59.1]
    assert rows["mean_teacher"]["published"] == [None] * 3
    for row in rows.values():
        assert all(score is None or not math.isnan(score) for score in row["published"])


def test_a_variant_is_its_method_with_options():
    config = load_config(None, {"method": "akm+mixup", "method.mixup.places": ["image"]}).method
    assert (config.name, config.mixup.enabled, config.mixup.places) == ("akm", True, ["image"])
    assert load_config(None, {"method": "multi_augs+dual", "method.networks": 1}).method.networks == 1
    assert load_config(None, {"method": "multi_augs+dual"}).method.supervised_weight == 0.5
