"""Checks of values in annotation records."""

import numpy as np
import pytest

from semipose.data.formats.values import (
    finite_numbers,
    is_id,
    is_number,
    require_number,
)
from semipose.errors import DataError


@pytest.mark.parametrize("value", [True, None, "1", float("nan"), float("inf"), 1e10, -1e10, 10**400, [1]])
def test_values_that_are_not_usable_numbers(value):
    assert not is_number(value)
    assert finite_numbers([value], 1) is None
    with pytest.raises(DataError, match=r"area: .* is not a usable number"):
        require_number(value, "area")


def test_numbers_become_float64():
    np.testing.assert_array_equal(finite_numbers([1, 2.5], 2), np.array([1.0, 2.5]))
    assert finite_numbers([1, 2.5], 3) is None
    assert finite_numbers("12", 2) is None
    assert finite_numbers([11], 1, largest=10) is None
    assert require_number(3, "area") == 3.0


def test_ids_are_integers_or_strings():
    assert [is_id(value) for value in (1, "a", True, 1.5, None, [1])] == [True, True, False, False, False, False]
