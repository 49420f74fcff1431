"""What a training sees: its image_digests, told where they are the test's or have changed, and joints nobody shows."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semipose.data.crop_cache import CropCache
from semipose.data.leakage import TrainingImages, find_training_images, read_training_images
from semipose.metrics.bootstrap import FEWEST
from semipose.structures.instances import PoseDataset
from semipose.training.checkpoint import TrainingState
from semipose.training.evaluator import Evaluator
from semipose.utils.hashing import content_digest
from semipose.utils.text import plural

log = logging.getLogger(__name__)


def look_through(
    labeled: CropCache,
    unlabeled: CropCache | None,
    evaluator: Evaluator,
    *,
    select: str,
    own_validation: bool,
    beginnings: Sequence[str],
) -> TrainingImages:
    """The photographs that a training sees, or what it begins with saw; says so when some are the test set's.

    So too of a validation set, unless it is held out of the labeled persons (`own_validation`), who may share
    image_digests with them. `select`: whether validation chooses the weights. `beginnings`: runs or weights files that
    the training takes networks from.
    """
    learned = labeled.image_digests | (unlabeled.image_digests if unlabeled else {})
    chosen = evaluator.image_digests("validation").values() if select == "best" else ()
    judged = [("test", learned)] + ([("validation", labeled.image_digests)] if not own_validation else [])
    for which, taught in judged:
        names = {value: image for image, value in taught.items()}
        shared = [(image, names[value]) for image, value in evaluator.image_digests(which).items() if value in names]
        if shared:
            log.info(
                f"the training sees {plural(len(shared), 'photograph')} of the {which} set (the first: {shared[0][0]} "
                f"is {shared[0][1]}); its figures come out too high"
            )
    without = set(learned.values()) - set(labeled.image_digests.values())
    own = TrainingImages(*(tuple(sorted(set(values))) for values in (labeled.image_digests.values(), without, chosen)))
    return _with_beginnings(own, evaluator, beginnings)


def _with_beginnings(seen: TrainingImages, evaluator: Evaluator, beginnings: Sequence[str]) -> TrainingImages:
    """Says so when it is not known what a beginning was trained on, or when validation photographs are among it."""
    for path in beginnings:
        before = find_training_images(Path(path))
        if before is None:
            log.info(
                f"{path} does not tell which photographs it was trained on: figures on them would come out too high"
            )
            continue
        shared = before.count(evaluator.image_digests("validation").values())
        if shared["labeled"]:
            log.info(
                f"{path} was trained on {shared['labeled']} of the {shared['of']} photographs of the validation set: "
                "its figures come out too high; give others with --val"
            )
        seen = seen.union(before)
    return seen


def tell_small_validation(evaluator: Evaluator, select: str) -> None:
    """Says so when too few persons choose the weights."""
    persons = evaluator.persons("validation")
    if select == "best" and persons is not None and len(persons) < FEWEST:
        log.info(
            f"{plural(len(persons), 'person')} for validation: too few to choose weights by; give --val, "
            "data.validation=N or train.select=last"
        )


def image_digests(labeled: CropCache, unlabeled: CropCache | None, evaluator: Evaluator) -> dict[str, dict[Path, str]]:
    """Digests of the photographs of each set, in the order of its persons."""
    return {
        "labeled": labeled.image_digests,
        "unlabeled": unlabeled.image_digests if unlabeled else {},
        "validation": evaluator.image_digests("validation"),
    }


def contents(sets: dict[str, dict[Path, str]]) -> dict[str, str]:
    """One hash a set over what its image_digests hold."""
    return {name: content_digest("".join(digests.values()).encode()) for name, digests in sets.items()}


def with_before(
    seen: TrainingImages, out: Path, state: TrainingState, sets: dict[str, dict[Path, str]]
) -> TrainingImages:
    """What the run saw before it was stopped as well; says so when photographs are not what they were at its start."""
    before, now = read_training_images(out), contents(sets)
    began = state.extra.get("photographs", now)  # checkpoints of before know nothing of them
    changed = [name for name in now if now[name] != began[name]]
    if changed:
        new = before.unused({image: v for name in changed for image, v in sets[name].items()}) if before else []
        first = f" ({plural(len(new), 'new one')}, the first: {new[0]})" if new else ""
        log.info(
            f"photographs of the {' and '.join(changed)} set changed since the run began{first}: it goes on with what "
            "is there now; put the old ones back to continue exactly"
        )
    return before.union(seen) if before else seen


def tell_untaught_joints(labeled: PoseDataset) -> None:
    """Says which joints nobody of the labeled set has: networks predict them all the same."""
    known = np.any(labeled.instances.visibility > 0, axis=0).tolist()
    untold = [name for name, some in zip(labeled.skeleton.joints, known, strict=True) if not some]
    if untold:
        log.info(f"no labeled person shows {', '.join(untold)}: what networks predict there is noise")
