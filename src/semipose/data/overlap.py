"""Photographs that two sets share, found by content: figures on a set that was trained on are worth nothing."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from semipose.data.records import PersonSet


def shared_photographs(first: Iterable[Path], second: Iterable[Path]) -> list[tuple[Path, Path]]:
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


def photographs(persons: PersonSet) -> list[Path]:
    """Every photograph of a set, those without persons included."""
    shown = map(Path, dict.fromkeys(persons.persons.paths))
    return list(dict.fromkeys([*shown, *(image for _, image in persons.empty)]))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def _hash(path: Path, known: dict[Path, str]) -> str:
    if path not in known:
        known[path] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return known[path]
