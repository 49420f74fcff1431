"""The section `train`."""

import pytest
from pydantic import ValidationError

from semipose.training.config import TrainConfig


def test_steps_replace_epochs():
    assert TrainConfig(epochs=2.5).total_steps(10) == 25
    assert TrainConfig(epochs=2.5, steps=7).total_steps(10) == 7
    assert TrainConfig(epochs=0.01).total_steps(10) == 1


@pytest.mark.parametrize(("given", "meant"), [("auto", "auto"), ("on", True), ("off", False), (True, True)])
def test_compile_is_auto_on_or_off(given, meant):
    assert TrainConfig(compile=given).compile is meant or meant == "auto"
    with pytest.raises(ValidationError):
        TrainConfig(compile="graphs")


def test_parts_of_a_batch_are_equal():
    assert TrainConfig(batch=32, unlabeled_batch=16, accumulate=4).accumulate == 4
    with pytest.raises(ValidationError, match="3 does not divide batch 32"):
        TrainConfig(accumulate=3)
