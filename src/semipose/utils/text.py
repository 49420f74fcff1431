"""Text helpers for messages."""


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun, for example `1 image` or `3 images`."""
    return f"{number} {noun}" + "s" * (number != 1)
