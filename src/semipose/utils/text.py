"""Text helpers for messages."""

from textwrap import shorten


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, shortened, or the error's type if it has no message."""
    return shorten(str(error).strip().partition("\n")[0], 200, placeholder=" …") or type(error).__name__


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun, for example `1 image` or `3 images`."""
    return f"{number} {noun}" + "s" * (number != 1)
