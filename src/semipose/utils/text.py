"""Text helpers for messages."""

from collections.abc import Sequence
from textwrap import shorten


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, shortened, or the error's type if it has no message."""
    return shorten(str(error).strip().partition("\n")[0], 200, placeholder=" …") or type(error).__name__


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun, for example `1 image` or `3 images`."""
    return f"{number} {noun}" + "s" * (number != 1)


def some_of(names: Sequence[str], conjunction: str = "and") -> str:
    """Returns names in words: `a, b and c`, or `a, b, c and 2 more`."""
    named = list(names[:3]) + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return f" {conjunction} ".join(filter(None, (", ".join(named[:-1]), *named[-1:])))


def as_utf8(name: str) -> str:
    """Returns the name of a file with escapes in the place of bytes that are not UTF-8, which no text file can hold."""
    return name.encode(errors="backslashreplace").decode()
