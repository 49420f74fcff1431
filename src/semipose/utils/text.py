"""Counts in words."""


def plural(number: int, noun: str) -> str:
    """`1 image`, `3 images`; for nouns that take an s."""
    return f"{number} {noun}" + "s" * (number != 1)
