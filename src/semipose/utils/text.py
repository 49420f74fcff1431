"""Wording of messages."""


def plural(number: int, noun: str) -> str:
    """Returns for example `1 image` or `3 images`."""
    return f"{number} {noun}" + "s" * (number != 1)
