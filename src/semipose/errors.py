"""The exceptions that the package raises on purpose.

SemiposeError
├── InputError                  the user can correct the input
│   ├── DataError               annotations, detections, images
│   │   ├── BrokenDataError     with a list of all broken records and images
│   │   └── MissingImagesError  the image folder is wrong or missing
│   ├── ConfigError             parameters and configuration files
│   └── WeightsError            checkpoints and pretrained weights
└── RunError                    a failure with correct input
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

MAX_WORD_LENGTH = 200
"""Longer words, such as a file name in a corrupt annotation file, are shortened in messages."""


class SemiposeError(Exception):
    """Base class of the package's exceptions; the message is always one line."""

    def __init__(self, message: str = "") -> None:
        words = (w if len(w) <= MAX_WORD_LENGTH else f"{w[:60]}…{w[-30:]}" for w in message.split())
        super().__init__(" ".join(words))

    def __reduce__(self) -> tuple[object, ...]:
        """Makes errors with other parameters than a message survive pickling, as between processes."""
        return _unpickled, (type(self), self.args, vars(self))


class InputError(SemiposeError):
    """An input can't be used; the message names the input, the place and the remedy."""


class DataError(InputError):
    """A data set, an annotation, a detection or an image can't be used."""


class BrokenDataError(DataError):
    """Some annotations or images of a data set are broken.

    Attributes:
        problems: One line for each broken annotation or image.
    """

    def __init__(self, message: str, problems: Sequence[str]) -> None:
        super().__init__(message)
        self.problems = tuple(str(DataError(problem)) for problem in problems)

    def listing(self, limit: int = 20) -> list[str]:
        """Returns the first `limit` problems and the number of others; empty if there is only one problem."""
        if len(self.problems) < 2:
            return []
        remaining = len(self.problems) - limit
        return [*self.problems[:limit], *([f"… and {remaining} more"] if remaining > 0 else [])]


class MissingImagesError(DataError):
    """The first image of an annotation file does not exist.

    Args:
        image: The missing image.
        source: The annotation file.
        parameter: Name of the parameter that gives the image folder.
        cause: What is there in its place, in words.
    """

    def __init__(self, image: object, source: object, parameter: str = "images", cause: str = "") -> None:
        reason = f": {cause}" if cause else ""
        super().__init__(f"image {image} of {source} is missing{reason}; give the image folder with `{parameter}`")
        self.image, self.source, self.cause = image, source, cause


class ConfigError(InputError):
    """A parameter, an option or a combination of options can't be used."""


class WeightsError(InputError):
    """A checkpoint or a weights file can't be used."""


class RunError(SemiposeError):
    """A run failed although its input was correct."""


def _unpickled(kind: type[SemiposeError], args: tuple[object, ...], state: dict[str, object]) -> SemiposeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


@contextmanager
def collect_errors(problems: list[str] | None) -> Iterator[None]:
    """Appends the message of a DataError in the block to `problems`; without a list, raises the error."""
    try:
        yield
    except DataError as error:
        if problems is None:
            raise
        problems.append(str(error))
