"""Splits: which persons keep their labels, which lose them, which are held out; drawn by seed, saved with a hash."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semipose.errors import ConfigError, DataError
from semipose.structures.instances import PoseDataset
from semipose.utils.files import write_text
from semipose.utils.text import plural


@dataclass(frozen=True)
class Split:
    """Positions in a set of `persons` persons, and what identifies them: annotation ids of the labeled persons."""

    labeled: tuple[int, ...]
    unlabeled: tuple[int, ...]
    validation: tuple[int, ...]
    labeled_ids: tuple[int, ...]
    seed: int
    persons: int

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with any of the above."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Writes split.json."""
        write_text(path, json.dumps({"hash": self.hash, **asdict(self)}))


def fingerprint(persons: PoseDataset) -> str:
    """Twelve hexadecimal digits that change with any image name, box or joint of a set, wherever it lies."""
    found = hashlib.sha256(" ".join(persons.skeleton.joints).encode())
    found.update("\n".join(Path(path).name for path in persons.instances.paths).encode())
    for column in (persons.instances.boxes, persons.instances.joints.astype(np.float64), persons.instances.visibility):
        found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()[:12]


def load_split(path: Path) -> Split:
    """Reads split.json; DataError when it is missing, no split, or changed since it was written."""
    try:
        content = json.loads(path.read_text())
        claimed = content.pop("hash")
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        split = Split(**fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"split file {path} can't be read ({type(error).__name__}: {error}); start a new run") from None
    if split.hash != claimed:
        raise DataError(f"split file {path} was changed: its hash is {split.hash}, not {claimed}; restore it")
    return split


def keep_labels(
    persons: PoseDataset,
    labels: int | None,
    *,
    seed: int,
    unlabeled_includes_labeled: bool = True,
    validation: int = 0,
) -> Split:
    """Draws who keeps labels among the persons one can learn from; `validation` others are held out.

    One permutation serves every number of labels and of held-out persons (labels from its front, validation from its
    end), so for a seed the smaller labeled set is part of the larger. The unlabeled persons are the rest, and the
    labeled ones too if asked; others in the photographs of those held out take no part. Raises ConfigError when more
    are asked than there are.
    """
    usable = np.flatnonzero(persons.instances.trainable).tolist()
    available = len(usable) - validation
    wanted = available if labels is None else labels
    if wanted > available or wanted < 1 or validation < 0 or seed < 0:
        held = f", {validation} of them held out for validation" if validation else ""
        raise ConfigError(
            f"data.labels: {plural(wanted, 'label')} asked, {persons.source} has "
            f"{plural(len(usable), 'labeled person')}{held}; ask fewer"
        )
    order = [usable[int(i)] for i in np.random.Generator(np.random.PCG64(seed)).permutation(len(usable))]
    rest, held_out = order[:available], order[available:]
    if held_out:  # nobody is learned from whose photograph helps to choose the weights
        shared = np.isin(persons.instances.image_index, persons.instances.image_index[held_out])
        rest = [i for i in rest if not shared[i]]
        if labels is not None and len(rest) < wanted:
            raise ConfigError(
                f"data.labels: {plural(wanted, 'label')} asked, {persons.source} has "
                f"{plural(len(rest), 'labeled person')} in photographs "
                f"other than those of the {validation} held out for validation; ask fewer of one or the other"
            )
    chosen = rest[:wanted]
    unlabeled = rest if unlabeled_includes_labeled else rest[wanted:]
    return Split(
        labeled=tuple(sorted(chosen)),
        unlabeled=tuple(sorted(unlabeled)),
        validation=tuple(sorted(held_out)),
        labeled_ids=tuple(persons.instances.annotation_ids[sorted(chosen)].tolist()),
        seed=seed,
        persons=len(persons),
    )
