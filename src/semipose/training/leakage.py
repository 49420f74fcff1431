"""Warnings about images that are both in the training and in the sets on which it is evaluated."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from semipose.data.crop_cache import CropCache
from semipose.data.leakage import TrainingImages, find_training_images, read_training_images
from semipose.training.evaluator import Evaluator, SetName
from semipose.utils.hashing import content_digest
from semipose.utils.text import plural

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSets:
    """The crops of a training.

    Attributes:
        labeled: The labeled crops.
        unlabeled: The unlabeled crops, if the method uses any.
        evaluator: The evaluator, with the validation and test sets.
        held_out: The unlabeled crops on which an adaptation is checked.
        shards: The folder of shards with more unlabeled crops, if the method uses them.
    """

    labeled: CropCache
    unlabeled: CropCache | None
    evaluator: Evaluator
    held_out: CropCache | None = None
    shards: Path | None = None

    @property
    def crops(self) -> dict[str, CropCache]:
        """The crops of the labeled, unlabeled, held-out, validation and test set, as far as they exist."""
        found = {"labeled": self.labeled}
        for name, crops in (("unlabeled", self.unlabeled), ("held out without labels", self.held_out)):
            if crops is not None:
                found[name] = crops
        return found | {str(name): crops for name, crops in self.evaluator.crops.items()}

    @property
    def digests(self) -> dict[str, dict[Path, str]]:
        """The digest of each image of the labeled, unlabeled and validation set."""
        return {
            "labeled": self.labeled.image_digests,
            "unlabeled": self.unlabeled.image_digests if self.unlabeled else {},
            "validation": self.evaluator.image_digests("validation"),
        }

    @cached_property
    def packed(self) -> TrainingImages:
        """The images of the shards."""
        found = read_training_images(self.shards) if self.shards else TrainingImages((), (), ())
        if found is None:
            log.warning(f"{self.shards} does not list its images, so scores on them are not marked; pack again")
        return found or TrainingImages((), (), ())

    @property
    def hashes(self) -> dict[str, str]:
        """One hash per set over the content of its images, in the order of the persons."""
        return {name: content_digest("".join(images.values()).encode()) for name, images in self.digests.items()}


def training_images(sets: TrainingSets) -> TrainingImages:
    """Returns the images that a training uses, by purpose.

    Validation images select the weights or the network that is kept, and calibrate its scores.
    """
    digests = {name: set(images.values()) for name, images in sets.digests.items()}
    with_labels = digests["labeled"]
    without = (digests["unlabeled"] | set(sets.packed.unlabeled)) - with_labels
    return TrainingImages(*(tuple(sorted(values)) for values in (with_labels, without, digests["validation"])))


def warn_of_shared_images(sets: TrainingSets, *, held_out: bool) -> None:
    """Warns if training images are in the test set, or in a validation set given by the user.

    Args:
        sets: The crops of the training.
        held_out: Whether the validation persons were held out of the labeled set; they may then share its images.
    """
    digests = sets.digests
    compared: list[tuple[SetName, dict[Path, str]]] = [("test", digests["labeled"] | digests["unlabeled"])]
    if not held_out:
        compared.append(("validation", digests["labeled"] | digests["unlabeled"]))
    for which, trained in compared:
        names = dict.fromkeys(sets.packed.unlabeled, f"in {sets.shards}")
        names |= {value: str(image) for image, value in trained.items()}
        shared = [
            (image, names[value]) for image, value in sets.evaluator.image_digests(which).items() if value in names
        ]
        if shared:
            log.warning(
                f"the training uses {plural(len(shared), 'image')} of the {which} set (the first: {shared[0][0]} is "
                f"{shared[0][1]}); its scores will be too high"
            )


def with_images_of(images: TrainingImages, starts: Sequence[str], evaluator: Evaluator) -> TrainingImages:
    """Adds the images of earlier trainings; warns if these are unknown or include validation images.

    Args:
        images: The images of this training.
        starts: Run folders and weights files from which this training starts.
        evaluator: The evaluator, with the validation set.
    """
    for start in starts:
        before = find_training_images(Path(start))
        if before is None:
            log.warning(f"{start} does not list its training images: scores on those images would be too high")
            continue
        shared = before.count(evaluator.image_digests("validation").values())
        if shared["labeled"]:
            log.warning(
                f"{start} was trained on {shared['labeled']} of the {shared['of']} images of the validation set: its "
                "scores will be too high; give other images with `data.val`"
            )
        images = images.union(before)
    return images


def with_images_before(images: TrainingImages, out: Path, hashes: dict[str, str], sets: TrainingSets) -> TrainingImages:
    """Adds the images that a resumed run used earlier; warns if images have changed since the run started.

    Args:
        images: The images that the run uses now.
        out: The run folder.
        hashes: The hash of each set at the start of the run.
        sets: The present crops.
    """
    before, now, digests = read_training_images(out), sets.hashes, sets.digests
    changed = [name for name in now if now[name] != hashes[name]]
    if changed:
        new = before.unused({image: v for name in changed for image, v in digests[name].items()}) if before else []
        first = f" ({plural(len(new), 'new image')}, the first: {new[0]})" if new else ""
        log.warning(
            f"images of the {' and '.join(changed)} set changed since the run started{first}: the run continues with "
            "the present images; restore the old ones to continue exactly"
        )
    return before.union(images) if before else images
