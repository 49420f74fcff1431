"""Checks of the values in annotation records that all readers share."""

from typing import Any, TypeGuard

import numpy as np

from semipose.errors import DataError

LARGEST_NUMBER = 1e9
"""No coordinate or area of an image is larger; a larger number is a mistake."""


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number of plausible size; booleans are not."""
    return type(value) in (int, float) and -LARGEST_NUMBER <= value <= LARGEST_NUMBER


def is_id(value: Any) -> TypeGuard[int | str]:
    """Returns whether a value can be an id: an integer or a string."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def require_number(value: Any, what: str) -> float:
    """Returns the value as a float; raises DataError that begins with `what` if it is not a usable number."""
    if not is_number(value):
        raise DataError(f"{what}: {str(value)[:40]!r} is not a usable number")
    return float(value)


def finite_numbers(values: Any, count: int, largest: float = LARGEST_NUMBER) -> np.ndarray | None:
    """Returns a list of numbers as a float64 array.

    Args:
        values: The value of a JSON field.
        count: The length that the list must have.
        largest: The largest absolute value that is allowed.

    Returns:
        The numbers (count,), or None if `values` is not a list of `count` finite numbers of that size.
    """
    if not isinstance(values, list) or len(values) != count or not set(map(type, values)) <= {int, float}:
        return None
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    return numbers if (np.abs(numbers) <= largest).all() else None
