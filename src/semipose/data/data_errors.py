"""Broken records and unreadable images: the policy of each data set, and the list of what was left out."""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from semipose.errors import BrokenDataError, DataError
from semipose.structures.instances import PoseDataset
from semipose.utils.files import write_text
from semipose.utils.section import Section
from semipose.utils.text import plural

log = logging.getLogger(__name__)

T = TypeVar("T")

ErrorPolicy = Literal["strict", "skip"]
"""`strict` raises an error that lists everything that is broken, `skip` leaves it out and counts it."""

OnUnreadable = Callable[[str, Mapping[Path, str], int], None]
"""Called with the source of a data set, its unreadable images with the reason of each, and the number of all its
images. It raises a BrokenDataError, or returns, and the images are left out."""

DROPPED = "dropped.json"
"""The file of a run folder that lists what was left out."""


class OnErrorConfig(Section):
    """What happens to broken records and unreadable images: `strict` stops and lists all, `skip` leaves them out."""

    train: ErrorPolicy = "strict"
    """Policy of the labeled set, and of the persons held out of it: strict or skip."""
    unlabeled: ErrorPolicy = "skip"
    """Policy of the unlabeled images."""
    val: ErrorPolicy = "strict"
    """Policy of a separate validation set."""
    test: ErrorPolicy = "strict"
    """Policy of the test set."""


@dataclass
class DataErrors:
    """The error policy of each data set, and what was left out so far.

    Attributes:
        policies: Policy by name of the set.
        default: Policy of the sets without one in `policies`.
        option: The parameter that sets a policy, for messages; `{}` stands for the name of the set.
        records: Broken records that were left out, one line each, by set.
        unreadable: Images that were left out, with the reason of each, by set.
    """

    policies: Mapping[str, ErrorPolicy] = field(default_factory=dict)
    default: ErrorPolicy = "strict"
    option: str = "data.on_error.{}"
    records: dict[str, list[str]] = field(default_factory=dict)
    unreadable: dict[str, dict[str, str]] = field(default_factory=dict)

    def read(self, name: str, reader: Callable[[list[str]], T]) -> T:
        """Reads a data set under its policy.

        Args:
            name: Name of the set.
            reader: Called with an empty list, to which it appends one line for each broken record.

        Returns:
            What `reader` returns.

        Raises:
            BrokenDataError: With all broken records, if the policy is strict or nothing usable is left.
        """
        problems: list[str] = []
        with problems_first(problems):
            found = reader(problems)
        problems = list(dict.fromkeys(problems))  # a set that was read again with another image folder
        self.add(name, problems)
        if problems:
            log.warning("%s: %s; left out", name, _summary(problems))
        return found

    def add(self, name: str, problems: list[str]) -> None:
        """Notes what is broken in a set.

        Raises:
            BrokenDataError: If there is something, and the policy is strict.
        """
        if problems and self._policy(name) == "strict":
            raise BrokenDataError(f"{_summary(problems)}; {self._remedy(name)}", problems)
        if problems:
            self.records.setdefault(name, []).extend(problems)

    def leave_out(self, name: str, path: Path, error: DataError) -> None:
        """Notes and logs that a file of a set can't be read; raises the error again if the policy is strict."""
        if self._policy(name) == "strict":
            raise error
        log.warning("%s; left out", error)
        self.unreadable.setdefault(name, {})[str(path)] = str(error)

    def fresh(self) -> "DataErrors":
        """Returns the same policies, with nothing left out so far."""
        return replace(self, records={}, unreadable={})

    def on_unreadable(self, name: str) -> OnUnreadable:
        """Returns the callback that applies the policy of a set to its unreadable images."""
        return partial(self._handle_unreadable, name)

    def _handle_unreadable(self, name: str, source: str, failed: Mapping[Path, str], total: int) -> None:
        if self._policy(name) == "strict":
            raise_unreadable(source, failed, total, self._remedy(name))
        skip_unreadable(source, failed, total)
        self.unreadable.setdefault(name, {}).update({str(path): reason for path, reason in failed.items()})

    def describe(self) -> str:
        """Returns what was left out in one line, such as "unlabeled 3 images, train 1 record"; "" if nothing was."""
        return describe_dropped(self.content())

    def write(self, folder: Path, stem: str | None = None) -> None:
        """Writes dropped.json (STEM_dropped.json) if something was left out, and removes an old one otherwise."""
        path = folder / (DROPPED if stem is None else f"{stem}_{DROPPED}")
        if content := self.content():
            write_text(path, json.dumps(content, indent=1))
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def content(self) -> dict[str, Any]:
        """Returns what was left out by set: `records` as lines, and `images` with the reason of each."""
        names = dict.fromkeys([*self.records, *self.unreadable])
        return {n: {"records": self.records.get(n, []), "images": self.unreadable.get(n, {})} for n in names}

    def _policy(self, name: str) -> ErrorPolicy:
        return self.policies.get(name, self.default)

    def _remedy(self, name: str) -> str:
        return f"repair or remove them, or leave them out: `{self.option.format(name)}`=skip"


@contextmanager
def problems_first(problems: list[str]) -> Iterator[None]:
    """Turns a DataError in the block into one that lists the broken records collected before, if there are some."""
    try:
        yield
    except DataError as error:
        if not problems:
            raise
        raise BrokenDataError(f"{_summary(problems)}; {error}", list(dict.fromkeys(problems))) from None


def raise_unreadable(
    source: str, failed: Mapping[Path, str], total: int, remedy: str = "repair or remove them"
) -> None:
    """Raises a BrokenDataError that lists every unreadable image (an `OnUnreadable`)."""
    reasons = list(failed.values())
    raise BrokenDataError(
        f"{source}: {len(failed)} of {total} images can't be read, the first: {reasons[0]}; {remedy}", reasons
    )


def skip_unreadable(source: str, failed: Mapping[Path, str], total: int) -> None:
    """Counts unreadable images in a warning (an `OnUnreadable`).

    Raises:
        BrokenDataError: If no other image is left.
    """
    reasons = list(failed.values())
    if len(failed) == total:
        raise BrokenDataError(f"{source}: no image could be read; the first: {reasons[0]}", reasons)
    log.warning("%s: %d of %d images left out; the first: %s", source, len(failed), total, reasons[0])


def without_images(dataset: PoseDataset, images: Collection[Path]) -> PoseDataset:
    """Returns the data set without the persons in some images."""
    if not images:
        return dataset
    return dataset.subset([i for i, path in enumerate(dataset.instances.paths) if Path(path) not in images])


def read_dropped(folder: Path) -> dict[str, Any]:
    """Returns the content of the dropped.json of a run folder, empty if nothing was left out."""
    path = folder / DROPPED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def describe_dropped(content: Mapping[str, Any]) -> str:
    """Returns the counts of the content of a dropped.json in one line."""
    parts = []
    for name, found in content.items():
        counts = [plural(len(found[f"{noun}s"]), noun) for noun in ("record", "image") if found[f"{noun}s"]]
        parts.append(f"{name} {' and '.join(counts)}")
    return ", ".join(parts)


def _summary(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"1 broken entry: {problems[0]}"
    return f"{len(problems)} broken entries, the first: {problems[0]}"
