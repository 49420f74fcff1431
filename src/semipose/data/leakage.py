"""Leakage: which images a training used, by their content, so that scores on these images can be marked."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from semipose.structures.instances import PoseDataset
from semipose.utils.files import folders_of_run, write_text
from semipose.utils.hashing import content_digest

IMAGES = "images.json"
"""The file of a run folder with the digests of the images it used."""


@dataclass(frozen=True)
class TrainingImages:
    """Digests of the images that a training used: with labels, without labels, and for validation."""

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]
    validation: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Writes the images.json of a run folder."""
        write_text(folder / IMAGES, json.dumps(asdict(self)))

    def union(self, other: "TrainingImages") -> "TrainingImages":
        """Returns what either training used."""
        return TrainingImages(*(tuple(sorted({*a, *b})) for a, b in zip(astuple(self), astuple(other), strict=True)))

    def unused(self, digests: Mapping[Path, str]) -> list[Path]:
        """Returns the images, of those given with their digests, that the training did not use."""
        used = {digest for group in astuple(self) for digest in group}
        return [image for image, digest in digests.items() if digest not in used]

    def count(self, digests: Iterable[str]) -> dict[str, int]:
        """Returns how many of some images the training used, by purpose, and under `of` how many they are."""
        evaluated = set(digests)
        counts = {purpose: len(evaluated.intersection(used)) for purpose, used in asdict(self).items()}
        return {**counts, "of": len(evaluated)}


def read_training_images(folder: Path) -> TrainingImages | None:
    """Returns the content of the images.json of a run folder, or None if there is none."""
    try:
        content = json.loads((folder / IMAGES).read_text(encoding="utf-8"))
        return TrainingImages(
            **{purpose: tuple(map(str, content[purpose])) for purpose in ("labeled", "unlabeled", "validation")}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_training_images(path: Path) -> TrainingImages | None:
    """Returns the images of the run that a path, a run folder or a file in it, belongs to; None if unknown."""
    found = (read_training_images(folder) for folder in folders_of_run(path))
    return next((images for images in found if images is not None), None)


def describe_leakage(counts: Mapping[str, int] | None) -> str:
    """Returns the counts of `TrainingImages.count` in words, for an evaluation protocol; None means unknown."""
    if counts is None:
        return "not known whether its images were used in training"
    purposes = {
        "labeled": "were trained on with labels",
        "unlabeled": "were trained on without labels",
        "validation": "were validation images",
    }
    parts = [f"{counts[purpose]} {words}" for purpose, words in purposes.items() if counts[purpose]]
    if not parts:
        return f"none of its {counts['of']} images was used in training"
    return f"LEAKAGE: of {counts['of']} images {', '.join(parts)}"


def digest_files(paths: Iterable[Path]) -> list[str]:
    """Returns the digests of those files that exist and are not empty, each file once."""
    return [content_digest(path.read_bytes()) for path in dict.fromkeys(paths) if _size(path) > 0]


def shared_images(first: Iterable[Path], second: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Finds images that are in two sets, by content.

    Only files of equal size are read; missing files are skipped.

    Returns:
        Pairs (of `first`, of `second`) with the same bytes, in the order of `second`.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(first):
        by_size[_size(path)].append(path)
    digests: dict[Path, str] = {}
    pairs = []
    for path in dict.fromkeys(second):
        candidates = by_size.get(size, []) if (size := _size(path)) > 0 else []
        pairs += [(other, path) for other in candidates if _digest(other, digests) == _digest(path, digests)]
    return pairs


def digests_of_equal_sizes(paths: Iterable[Path]) -> dict[Path, str]:
    """Returns the digests of the files that have the size of another one: only these can be copies."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        by_size[_size(path)].append(path)
    groups = (group for size, group in by_size.items() if size > 0 and len(group) > 1)
    return {path: content_digest(path.read_bytes()) for group in groups for path in group}


def first_copies(sets: Iterable[Iterable[Path]]) -> list[dict[Path, Path]]:
    """Finds, for each image of several sets, the same image (the file or a copy of it) in an earlier set.

    Copies within a set stay apart.

    Returns:
        For each set, the first such path by image; the resolved path of an image that no earlier set has.
    """
    resolved = [{path: path.resolve() for path in images} for images in sets]
    digests = digests_of_equal_sizes(path for images in resolved for path in images.values())
    earlier: dict[Path | str, Path] = {}
    found: list[dict[Path, Path]] = []
    for images in resolved:
        keys = {file: digests.get(file, file) for file in images.values()}
        found.append({path: earlier.get(keys[file], file) for path, file in images.items()})
        for file, key in keys.items():
            earlier.setdefault(key, file)
    return found


def image_paths(dataset: PoseDataset) -> list[Path]:
    """Returns every image of a data set once, including those without persons."""
    with_persons = map(Path, dict.fromkeys(dataset.instances.paths))
    return list(dict.fromkeys([*with_persons, *(image for _, image in dataset.empty_images)]))


def _size(path: Path) -> int:
    """The size of a file in bytes, -1 for a missing one."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1


def _digest(path: Path, known: dict[Path, str]) -> str:
    if path not in known:
        known[path] = content_digest(path.read_bytes())
    return known[path]
