"""Splits: which persons keep their labels, which lose them, and which are held out for validation."""

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from semipose.data.clips import copies_by_name, neighbors
from semipose.data.leakage import shared_images
from semipose.errors import ConfigError
from semipose.structures.instances import PoseDataset
from semipose.utils.files import write_text
from semipose.utils.text import plural


@dataclass(frozen=True)
class Split:
    """A split of a data set with `persons` persons, as positions in it.

    `labeled_ids` are the annotation ids of the labeled persons, so that the hash identifies them.
    """

    labeled: tuple[int, ...]
    unlabeled: tuple[int, ...]
    validation: tuple[int, ...]
    labeled_ids: tuple[int, ...]
    seed: int
    persons: int

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with any of the fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Writes the split and its hash as JSON."""
        write_text(path, json.dumps({"hash": self.hash, **asdict(self)}))


def draw_split(
    dataset: PoseDataset,
    labels: int | None,
    *,
    seed: int,
    unlabeled_includes_labeled: bool = True,
    validation: int = 0,
) -> Split:
    """Draws the persons that keep their labels and those that are held out for validation.

    One permutation serves every number of labels and of held-out persons (labels from its front, validation from its
    end), so for one seed a smaller labeled set is part of a larger one. All persons in an image are held out together;
    those who would exceed the number, and those in copies of the image (files of the same content, or that Roboflow
    made of the same one), take no part, so that no image is both trained on and used to select weights. Where images
    are frames of a clip (see `clips.neighbors`), blocks of neighbors are held out, and the frames next to a block take
    no part either, because they look like those in it.

    Args:
        dataset: The persons; only those with a box and a labeled joint are drawn.
        labels: Number of persons that keep their labels; all of them by default.
        seed: Seed of the permutation.
        unlabeled_includes_labeled: Whether the unlabeled set also holds the labeled persons.
        validation: Number of persons held out.

    Raises:
        ConfigError: If the data set has fewer persons than asked for.
    """
    usable = np.flatnonzero(dataset.instances.trainable).tolist()
    available = len(usable) - validation
    wanted = available if labels is None else labels
    if not 1 <= wanted <= available:
        held_out_note = f", {validation} of them held out for validation" if validation else ""
        raise ConfigError(
            f"`data.labels`: {plural(wanted, 'label')} requested, but {dataset.source} has "
            f"{plural(len(usable), 'labeled person')}{held_out_note}; request fewer"
        )
    order = [usable[int(i)] for i in np.random.Generator(np.random.PCG64(seed)).permutation(len(usable))]
    held_out, rest = _hold_out(dataset, order, validation) if validation else ([], order)
    least = 1 if labels is None else wanted
    if len(rest) < least:
        remedy = "set a smaller `data.validation`" + ("" if labels is None else " or request fewer labels")
        raise ConfigError(
            f"`data.{'validation' if labels is None else 'labels'}`: {plural(least, 'label')} needed, but "
            f"{dataset.source} has {plural(len(rest), 'labeled person')} in other images than those of the "
            f"{validation} held out for validation and their neighbors in a clip; {remedy}"
        )
    labeled = sorted(rest[:wanted])
    unlabeled = rest if unlabeled_includes_labeled else rest[wanted:]
    return Split(
        labeled=tuple(labeled),
        unlabeled=tuple(sorted(unlabeled)),
        validation=tuple(sorted(held_out)),
        labeled_ids=tuple(dataset.instances.annotation_ids[labeled].tolist()),
        seed=seed,
        persons=len(dataset),
    )


def draw_at_most(wanted: int | None, indices: Sequence[int], seed: int) -> list[int]:
    """Returns `wanted` of the indices in ascending order, or all of them if that many are not there or None is given.

    For one seed a smaller draw is part of a larger one.
    """
    if wanted is None or wanted >= len(indices):
        return list(indices)
    order = np.random.default_rng([seed, len(indices)]).permutation(len(indices))
    return sorted(indices[int(i)] for i in order[:wanted])


def hold_out_images(persons: PoseDataset, count: int, seed: int) -> tuple[PoseDataset, PoseDataset]:
    """Returns about `count` persons, all those in images that are drawn, and the others.

    Of a set with one image, some of its persons are drawn.
    """
    paths = persons.instances.paths
    unit_of: list[str | int] = list(paths) if len({*paths}) > 1 else list(range(len(paths)))
    units = list(dict.fromkeys(unit_of))
    drawn = draw_at_most(max(1, round(count * len(units) / len(paths))), range(len(units)), seed)
    chosen = {units[n] for n in drawn}
    parts = [[n for n, unit in enumerate(unit_of) if (unit in chosen) == held_out] for held_out in (True, False)]
    return persons.subset(parts[0]), persons.subset(parts[1])


def _hold_out(dataset: PoseDataset, order: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Returns `count` persons of a permutation, and those who are in no image of them, next to one or like one."""
    images = [Path(path) for _, path in dataset.instances.images]
    paths = [images[i] for i in dataset.instances.image_index.tolist()]
    near = neighbors(paths[i] for i in sorted(order))
    for image, copies in copies_by_name(paths).items():
        near[image] = near.get(image, set()) | copies
    held_out = _blocks(order, paths, near, count)
    excluded = {paths[i] for i in held_out}
    excluded |= {other for image in excluded for other in near.get(image, ())}
    excluded |= {copy for _, copy in shared_images(excluded, paths)}
    return held_out, [i for i in order if paths[i] not in excluded]


def _blocks(order: Sequence[int], paths: Sequence[Path], near: dict[Path, set[Path]], count: int) -> list[int]:
    """Takes `count` persons from the end of a permutation, each with those in its image, then in neighboring images.

    So few persons are neither held out nor trained on.
    """
    persons: dict[Path, list[int]] = defaultdict(list)
    for person in order:
        persons[paths[person]].append(person)
    held_out: dict[int, None] = {}
    for seed in reversed(order):
        waiting = deque([paths[seed]] if seed not in held_out else [])
        while waiting and len(held_out) < count:
            image = waiting.popleft()
            held_out |= dict.fromkeys(persons[image][: count - len(held_out)])
            waiting.extend(other for other in sorted(near.get(image, ())) if persons[other][0] not in held_out)
    return list(held_out)


def fingerprint(dataset: PoseDataset) -> str:
    """Returns twelve hexadecimal digits that change with any joint name, image name, box or joint of a data set.

    The folder of the images does not matter.
    """
    found = hashlib.sha256(" ".join(dataset.skeleton.joints).encode())
    found.update("\n".join(Path(path).name for path in dataset.instances.paths).encode(errors="surrogatepass"))
    for column in (dataset.instances.boxes, dataset.instances.joints.astype(np.float64), dataset.instances.visibility):
        found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()[:12]
