"""Checks of the values in annotation records that all readers share."""

from typing import Any, TypeGuard

import numpy as np

from semipose.errors import DataError

LARGEST_NUMBER = 1e9
"""No coordinate or area of an image is larger; a larger number is a mistake."""
NO_BOX = "without a box and with less than two labeled joints"
"""Why a record is left out: a box around one joint would give its position away."""


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


def box_of_joints(
    joints: np.ndarray, labeled: np.ndarray, share: float | None = None
) -> tuple[float, float, float, float] | None:
    """Returns the extent of the labeled joints with a margin, as x, y, width and height.

    One joint has no extent: a box of a fixed size around it would give its position away.

    Args:
        joints: (K, 2) in pixels.
        labeled: (K,) whether a joint is labeled.
        share: The margin as a share of the longer extent; a tenth of each extent if not given.

    Returns:
        The box, or None if fewer than two positions are labeled.
    """
    if not labeled.any():
        return None
    low, high = joints[labeled].min(axis=0), joints[labeled].max(axis=0)
    extent = high - low
    if not extent.any():
        return None
    margin = (0.1 * extent if share is None else share * float(extent.max())) + 1
    x, y = (low - margin).tolist()
    width, height = (extent + 2 * margin).tolist()
    return x, y, width, height
