"""The exception tree of the package; the command line turns the two branches into exit codes.

SemiposeError
├── InputError        the user can mend it: exit code 2
│   ├── DataError     annotations, detections, images
│   │   ├── BrokenDataError   with the list of everything that is broken
│   │   └── MissingImagesError  the image folder is a wrong one
│   ├── ConfigError   options and configuration files
│   └── WeightsError  checkpoints and pretrained weights
└── RunError          something failed while working: exit code 1
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LONGEST_WORD = 200
"""Longer words of a message, from hostile files, are cut in their middle."""


class SemiposeError(Exception):
    """Base of everything the package raises on purpose; its text is one line for the user, whatever it quotes."""

    def __init__(self, message: str = "") -> None:
        words = (w if len(w) <= LONGEST_WORD else f"{w[:60]}…{w[-30:]}" for w in str(message).split())
        super().__init__(" ".join(words))


class InputError(SemiposeError):
    """What was handed in can't be used; the message says what, where and how to mend it."""


class DataError(InputError):
    """A data set, an annotation, a detection or an image can't be used."""


class BrokenDataError(DataError):
    """Records or photographs of a set are broken; `problems` holds one line for each."""

    def __init__(self, message: str, problems: Sequence[str]) -> None:
        super().__init__(message)
        self.problems = tuple(str(DataError(problem)) for problem in problems)

    def listing(self, most: int = 20) -> list[str]:
        """The problems to print above the message, `most` at the most; none where the message says it all."""
        if len(self.problems) < 2:
            return []
        more = len(self.problems) - most
        return [*self.problems[:most], *([f"… and {more} more"] if more > 0 else [])]


class MissingImagesError(DataError):
    """The first photograph `image` of the annotation file `source` is not there; `option` names its folder."""

    def __init__(self, image: object, source: object, option: str = "--images") -> None:
        super().__init__(f"image {image} of {source} is missing; give the image folder with {option}")
        self.image, self.source = image, source


class ConfigError(InputError):
    """An option or a combination of options can't be used."""


class WeightsError(InputError):
    """A checkpoint or a file of pretrained weights doesn't fit."""


class RunError(SemiposeError):
    """A run had to stop although its input was right."""


@contextmanager
def collect_errors(problems: list[str] | None) -> Iterator[None]:
    """A broken record ends the reading with its DataError, or, with a list to note it in, is left out."""
    try:
        yield
    except DataError as error:
        if problems is None:
            raise
        problems.append(str(error))
