"""The section `train`."""

import pytest
from pydantic import ValidationError

from semipose.training.config import TrainConfig


def test_steps_replace_epochs():
    assert TrainConfig(epochs=2.5).total_steps(10) == 25
    assert TrainConfig(epochs=2.5, steps=7).total_steps(10) == 7
    assert TrainConfig(epochs=0.01).total_steps(10) == 1


def test_cuda_graphs_need_compiled_networks():
    with pytest.raises(ValidationError, match="set compile to true"):
        TrainConfig(cuda_graphs=True)
