"""What is let in: broken records and photographs stop a set, all of them listed, or are left out and counted."""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from semipose.errors import BrokenDataError, DataError
from semipose.structures.instances import PoseDataset
from semipose.utils.files import write_text
from semipose.utils.section import Section

log = logging.getLogger(__name__)

ErrorPolicy = Literal["strict", "skip"]
TrainResult = TypeVar("TrainResult")
Decide = Callable[[str, Mapping[Path, str], int], None]
"""Takes a set's source, its unreadable photographs with what is wrong, and the number of all; raises or notes them."""

DROPPED = "dropped.json"
"""File of a run folder that lists what was left out."""


class OnErrorConfig(Section):
    """Broken records and unreadable photographs: `strict` stops with a list of all, `skip` leaves them out."""

    train: ErrorPolicy = "strict"
    """Of the labeled set, and of the persons held out of it: strict or skip."""
    unlabeled: ErrorPolicy = "skip"
    """Of the unlabeled images."""
    val: ErrorPolicy = "strict"
    """Of a validation set of its own."""
    test: ErrorPolicy = "strict"
    """Of the test set."""


@dataclass
class DataErrors:
    """The policy of each set, and what was left out so far: broken records as lines, photographs with their reason.

    A set without a policy has `usual`. `remedy` says how to leave things out; `{}` stands for the set's name.
    """

    policies: Mapping[str, ErrorPolicy] = field(default_factory=dict)
    usual: ErrorPolicy = "strict"
    remedy: str = "data.on_error.{}=skip"
    records: dict[str, list[str]] = field(default_factory=dict)
    unreadable: dict[str, dict[str, str]] = field(default_factory=dict)

    def read(self, name: str, read: Callable[[list[str]], TrainResult]) -> TrainResult:
        """What `read(problems)` returns, where it notes every broken record in `problems`.

        Raises BrokenDataError with all of them when the set is strict, or nothing is left.
        """
        problems: list[str] = []
        try:
            found = read(problems)
        except DataError as error:
            if not problems:
                raise
            raise BrokenDataError(f"{error}; {_counted(problems)}", problems) from None
        if problems and self._policy(name) == "strict":
            raise BrokenDataError(f"{_counted(problems)}; mend or remove {self._remedy(name)}", problems)
        if problems:
            log.warning("%s: %s; left out", name, _counted(problems))
            self.records[name] = self.records.get(name, []) + problems
        return found

    def image_errors(self, name: str) -> Decide:
        """What decides about unreadable photographs of the set `name`."""

        def decide(source: str, failed: Mapping[Path, str], total: int) -> None:
            if self._policy(name) == "strict":
                refuse(source, failed, total, f"mend or remove {self._remedy(name)}")
            leave_out(source, failed, total)
            self.unreadable.setdefault(name, {}).update({str(path): text for path, text in failed.items()})

        return decide

    def describe(self) -> str:
        """What was left out in one line: 'unlabeled 3 photographs, train 1 record'; empty when nothing was."""
        return describe_dropped(self.content())

    def write(self, folder: Path) -> None:
        """Writes dropped.json where something was left out."""
        if content := self.content():
            write_text(folder / DROPPED, json.dumps(content, indent=1))
        else:
            with suppress(OSError):
                (folder / DROPPED).unlink(missing_ok=True)

    def content(self) -> dict[str, Any]:
        """What was left out: by set, `records` as lines and `photographs` with what is wrong."""
        names = [*self.records, *(n for n in self.unreadable if n not in self.records)]
        return {n: {"records": self.records.get(n, []), "photographs": self.unreadable.get(n, {})} for n in names}

    def _policy(self, name: str) -> ErrorPolicy:
        return self.policies.get(name, self.usual)

    def _remedy(self, name: str) -> str:
        return f"them, or leave them out: {self.remedy.format(name)}"


def refuse(source: str, failed: Mapping[Path, str], total: int, remedy: str = "repair or remove them") -> None:
    """Raises BrokenDataError with every unreadable photograph."""
    first = next(iter(failed.values()))
    raise BrokenDataError(
        f"{source}: {len(failed)} of {total} photographs can't be read, the first: {first}; {remedy}",
        list(failed.values()),
    )


def leave_out(source: str, failed: Mapping[Path, str], total: int) -> None:
    """Counts unreadable photographs in a warning. Raises BrokenDataError when there is no other."""
    if len(failed) == total:
        raise BrokenDataError(
            f"{source}: no photograph could be read; the first: {next(iter(failed.values()))}", list(failed.values())
        )
    first = next(iter(failed.values()))
    log.warning("%s: %d of %d photographs left out; the first: %s", source, len(failed), total, first)


def without_images(persons: PoseDataset, images: Collection[Path]) -> PoseDataset:
    """The set without the persons in some photographs."""
    if not images:
        return persons
    return persons.subset([i for i, path in enumerate(persons.instances.paths) if Path(path) not in images])


def read_dropped(folder: Path) -> dict[str, Any]:
    """The content of a run folder's dropped.json; empty when nothing was left out."""
    path = folder / DROPPED
    return json.loads(path.read_text()) if path.is_file() else {}


def describe_dropped(content: Mapping[str, Any]) -> str:
    """The counts of dropped.json in one line."""
    parts = []
    for name, found in content.items():
        counts = [(len(found["records"]), "record"), (len(found["photographs"]), "photograph")]
        parts.append(f"{name} " + " and ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts if n))
    return ", ".join(parts)


def _counted(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"1 broken entry: {problems[0]}"
    return f"{len(problems)} broken entries, the first: {problems[0]}"
