"""Counts in words."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `3 images`; `plural` for nouns that take no s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
