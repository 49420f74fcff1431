"""The account of a data set: what a command read, what it used, and what it left out for which reason."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from semipose.data.data_errors import DataErrors
from semipose.structures.instances import PoseDataset
from semipose.utils.text import plural


@dataclass(frozen=True)
class DataAccount:
    """The numbers of a data set.

    Attributes:
        source: The annotation file or folder.
        images: Number of images that were read.
        persons: Number of persons that were read.
        used: By purpose, the number of persons that serve it.
        left_out: By reason, the number of records, persons or images that were left out.
        boxes_from_labels: Number of persons whose box is the extent of their labeled joints.
    """

    source: str
    images: int
    persons: int
    used: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    boxes_from_labels: int = 0

    @classmethod
    def of(cls, persons: PoseDataset, used: Mapping[str, int], left_out: Mapping[str, int]) -> "DataAccount":
        """Returns the account of a data set as it was read; what its reader left out is added."""
        return cls(
            persons.source,
            len(persons.image_paths),
            len(persons),
            dict(used),
            _positive({**persons.left_out, **left_out}),
            persons.boxes_from_labels,
        )

    def with_errors(self, errors: DataErrors, name: str) -> "DataAccount":
        """Returns the account with the broken records and unreadable images of the set `name`."""
        broken = {
            "broken records": len(errors.records.get(name, ())),
            "unreadable images": len(errors.unreadable.get(name, ())),
        }
        return replace(self, left_out=_positive({**self.left_out, **broken}))

    def describe(self) -> str:
        """Returns the account in one line."""
        used = ", ".join(f"{count} {purpose}" for purpose, count in self.used.items())
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        parts = [
            f"{self.source}: {plural(self.persons, 'person')} in {plural(self.images, 'image')}",
            used,
            f"left out: {left_out or 'nothing'}",
            f"boxes that come from the labels: {self.boxes_from_labels}" if self.boxes_from_labels else "",
        ]
        return "; ".join(part for part in parts if part)

    def as_dict(self) -> dict[str, Any]:
        """Returns the account, ready for JSON."""
        return {
            "source": self.source,
            "images": self.images,
            "persons": self.persons,
            "used": dict(self.used),
            "left_out": dict(self.left_out),
            "boxes_from_labels": self.boxes_from_labels,
        }


def unlabeled_by_reason(persons: PoseDataset) -> dict[str, int]:
    """Returns how many persons are not scored: crowds, and persons without labeled joints."""
    instances = persons.instances
    return {
        "crowds": int(instances.is_crowd.sum()),
        "without labeled joints": int((~instances.labeled & ~instances.is_crowd).sum()),
    }


class WrittenFiles(list[Path]):
    """Paths of the files that a function wrote, with the account of the data set that it read."""

    def __init__(self, paths: Iterable[Path], account: DataAccount) -> None:
        """Sets the paths and the account."""
        super().__init__(paths)
        self.account = account


def untrainable_by_reason(persons: PoseDataset) -> dict[str, int]:
    """Returns how many persons are not trained on, by reason."""
    instances = persons.instances
    no_area = instances.labeled & ~instances.is_crowd & ~instances.usable
    return {**unlabeled_by_reason(persons), "with a box of no area": int(no_area.sum())}


def unusable_by_reason(persons: PoseDataset) -> dict[str, int]:
    """Returns how many persons no pose is predicted for, by reason."""
    instances = persons.instances
    return {
        "crowds": int(instances.is_crowd.sum()),
        "with a box of no area": int((~instances.is_crowd & ~instances.usable).sum()),
    }


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
