"""Fixtures of the methods' tests."""

import pytest

from semipose.methods.base import StepInfo
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from tests.methods import helpers


@pytest.fixture
def labeled() -> LabeledBatch:
    """Four labeled crops of 32×32."""
    return helpers.make_labeled()


@pytest.fixture
def unlabeled() -> UnlabeledBatch:
    """Four unlabeled crops of 32×32."""
    return helpers.make_unlabeled()


@pytest.fixture
def batches() -> tuple[LabeledBatch, UnlabeledBatch]:
    """Four labeled and four unlabeled crops of 64×48: not square, for the methods' formulas."""
    return helpers.make_labeled((64, 48)), helpers.make_unlabeled((64, 48))


@pytest.fixture
def start() -> StepInfo:
    """The first of ten steps."""
    return StepInfo(0, 10)
