"""Photographs that two sets share, found by content: figures on a set that was trained on are worth nothing."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from semipose.structures.instances import PoseDataset
from semipose.utils.files import write_text
from semipose.utils.hashing import content_digest

RECORD = "photographs.json"
"""File of a run folder with the digests of the photographs it saw."""


@dataclass(frozen=True)
class TrainingImages:
    """Digests of the photographs a training saw: with labels, without, and those that chose its best weights."""

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    validation: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Writes photographs.json."""
        write_text(folder / RECORD, json.dumps(asdict(self)))

    def concat(self, other: "TrainingImages") -> "TrainingImages":
        """What either saw."""
        return TrainingImages(*(tuple(sorted({*a, *b})) for a, b in zip(astuple(self), astuple(other), strict=True)))

    def new_among(self, image_paths: Mapping[Path, str]) -> list[Path]:
        """Those of `photographs` (file to digest) whose content served no purpose here."""
        known = {value for values in astuple(self) for value in values}
        return [image for image, value in image_paths.items() if value not in known]

    def among(self, image_paths: Iterable[str]) -> dict[str, int]:
        """How many of `photographs` (digests) served each purpose, and `of` how many."""
        judged = set(image_paths)
        counts = {name: len(judged.intersection(known)) for name, known in asdict(self).items()}
        return {**counts, "of": len(judged)}


def read_record(folder: Path) -> TrainingImages | None:
    """The photographs.json of a run folder; None where there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / RECORD).read_text())
        return TrainingImages(
            **{name: tuple(map(str, content[name])) for name in ("labeled", "unlabeled", "validation")}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_seen(what: Path) -> TrainingImages | None:
    """The photographs of the run that `what`, its folder or one of its files, belongs to; None where none is known."""
    found = (read_record(folder) for folder in (what, what.parent, what.parent.parent))
    return next((seen for seen in found if seen is not None), None)


def describe_seen(counts: dict[str, int] | None) -> str:
    """The counts of `Seen.among` for a protocol, in words."""
    if counts is None:
        return "not known whether its photographs were trained on"
    purposes = {
        "labeled": "were trained on with labels",
        "unlabeled": "were trained on without labels",
        "validation": "chose the best weights",
    }
    parts = [f"{counts[name]} {words}" for name, words in purposes.items() if counts[name]]
    if not parts:
        return f"none of its {counts['of']} photographs was seen in training"
    return f"SEEN IN TRAINING: of {counts['of']} photographs {', '.join(parts)}"


def digests(paths: Iterable[Path]) -> list[str]:
    """Digests of the files that are there."""
    return [content_digest(path.read_bytes()) for path in dict.fromkeys(paths) if _size(path) > 0]


def shared_images(first: Iterable[Path], second: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Pairs (of `first`, of `second`) with the same bytes, in the order of `second`; missing files are passed over.

    Only files of equal size are read.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(first):
        by_size[_size(path)].append(path)
    hashes: dict[Path, str] = {}
    pairs = []
    for path in dict.fromkeys(second):
        same = by_size.get(_size(path), []) if _size(path) > 0 else []
        pairs += [(other, path) for other in same if _hash(other, hashes) == _hash(path, hashes)]
    return pairs


def image_paths(persons: PoseDataset) -> list[Path]:
    """Every photograph of a set, those without persons included."""
    shown = map(Path, dict.fromkeys(persons.instances.paths))
    return list(dict.fromkeys([*shown, *(image for _, image in persons.empty_images)]))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def _hash(path: Path, known: dict[Path, str]) -> str:
    if path not in known:
        known[path] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return known[path]
