"""What a training logs before its first step: its data, its networks and what may be wrong with either."""

import logging
from textwrap import shorten

from semipose.data.account import DataAccount
from semipose.data.clips import held_out_neighbors
from semipose.data.data_config import DataConfig
from semipose.data.datasets import DataSplits
from semipose.data.leakage import image_paths
from semipose.data.suspicions import Suspicion, log_suspicions, suspicious_labels
from semipose.metrics.bootstrap import MIN_IMAGES
from semipose.models.pose_net import ModelConfig
from semipose.structures.boxes import box_facts
from semipose.structures.skeletons import Skeleton
from semipose.training.distributed import world_size
from semipose.training.leakage import TrainingSets
from semipose.training.loop import Training
from semipose.utils.text import plural

log = logging.getLogger(__name__)


def warn_of_unused_images(method: str, data: DataConfig, splits: DataSplits, uses_unlabeled: bool) -> None:
    """Warns if the method has no unlabeled images, or does not use those that are given.

    Args:
        method: Name of the method.
        data: The data section of the configuration.
        splits: The persons of the run.
        uses_unlabeled: Whether the method uses unlabeled images.
    """
    if uses_unlabeled and splits.unlabeled is None and splits.shards is None:
        log.warning("no unlabeled images: this run uses labeled images only; give `data.unlabeled` or `data.labels`")
    if splits.unlabeled is None and splits.shards is None and not uses_unlabeled:
        log.info("no unlabeled images are given: the training uses labeled images only")
    if data.unlabeled and not uses_unlabeled:
        log.warning(f"{method} uses labeled images only; `data.unlabeled` is not used")


def warn_of_neighbors(splits: DataSplits) -> None:
    """Warns if persons are evaluated in frames next to frames that the training has labels of."""
    labeled = image_paths(splits.labeled)
    for name, persons in (("validation", splits.validation), ("test", splits.test)):
        held_out = [] if persons is None else image_paths(persons)
        if near := held_out_neighbors(labeled, held_out):
            log.warning(
                f"{len(near)} of {plural(len(held_out), f'{name} image')} follow or precede a training image in the "
                f"same clip (the first: {near[0].name}), so their scores are better than those on new videos; split by "
                "video or by time with semipose data split"
            )


def log_data(account: DataAccount, sets: TrainingSets) -> None:
    """Logs what is used of the data, and how many labels are suspicious."""
    log.info(account.describe())
    _log_boxes(sets)
    found: dict[str, list[Suspicion]] = {}
    boxes, splits = sets.evaluator.boxes, sets.evaluator.splits
    found_one = boxes is not None and boxes.kind == "found" and not splits.several  # the box network's run checked them
    if found_one or splits.labeled.skeleton.interchangeable:
        return
    for name, crops in sets.crops.items():
        if name not in ("unlabeled", "held out without labels"):
            suspicions = suspicious_labels(crops.dataset, crops.image_sizes, crops.image_digests)
            found.setdefault(crops.dataset.source, []).extend(suspicions)
    for source, suspicions in found.items():
        log_suspicions(source, suspicions)


def _log_boxes(sets: TrainingSets) -> None:
    """Logs how the boxes were made, and warns if those of the unlabeled images are unlike those of the labels."""
    boxes = sets.evaluator.boxes
    if boxes is None:
        return
    log.info(f"trained in {boxes.describe()}")
    crops = sets.unlabeled
    others = None if crops is None else box_facts(crops.dataset.instances, crops.image_sizes)
    if others is not None and boxes.differ_from(others):
        log.warning(
            f"the boxes of the unlabeled images are {others.describe()}, those of the labels {boxes.describe()}: "
            "unlabeled images help little then; give boxes like those of the labels as `data.boxes`"
        )


def log_training(model: ModelConfig, input_size: tuple[int, int], splits: DataSplits, training: Training) -> None:
    """Logs a summary of the training, and warnings about its labels and its validation set.

    Args:
        model: The model section of the configuration.
        input_size: Height and width of the input in pixels.
        splits: The persons of the run.
        training: The training.
    """
    unlabeled, device = len(training.loader.unlabeled or ()), training.engine.device
    place = str(device) if world_size() == 1 else f"{world_size()} processes on {device.type}"
    held_out = f", {len(splits.validation)} for validation" if splits.validation else ""
    log.info(
        f"{training.name}: {len(training.loader.labeled.dataset)} labeled and {unlabeled} unlabeled persons{held_out}; "
        f"{model.backbone}, {input_size[0]}×{input_size[1]}, {training.steps} steps "
        f"({training.loader.steps_per_epoch} per epoch), {place}, split {splits.split.hash}"
    )
    if reason := training.why_unlabeled_not_used:
        log.warning(f"no unlabeled image is used: {reason}")
    labeled = splits.labeled
    _log_skeleton(labeled.skeleton)
    if splits.unlearned_joints:
        missing = ", ".join(splits.unlearned_joints)
        log.warning(f"no labeled person has {missing}: predictions of these joints are noise")
    persons, caveats = training.evaluator.persons("validation"), training.evaluator.ap_caveats
    select = training.config.select
    if select == "best" and caveats:
        log.info(f"AP measures little here ({', '.join(caveats)}): the lowest pixel error selects the weights")
    if select == "best" and persons is not None and len(persons) < MIN_IMAGES:
        log.warning(
            f"{plural(len(persons), 'person')} for validation: too few to select weights by; give `data.val`, a larger "
            "`data.validation`, or set `train.select` to last"
        )


def _log_skeleton(skeleton: Skeleton) -> None:
    """Logs what is inferred from joint names: which joints are mirrored, and how strictly they are scored."""
    if skeleton.interchangeable:
        return
    log.info(f"{skeleton.describe_pairs()}; OKS sigmas: {skeleton.describe_sigmas()}")
    if not skeleton.flip_pairs:
        joints = shorten(", ".join(skeleton.joints), 120, placeholder=" …")
        log.warning(
            f"no joint of {joints} is in a left/right pair: no image is mirrored; if there "
            "are pairs, give `data.flip_pairs` or name them left_… and right_…"
        )
    elif skeleton.one_sided:
        joints = shorten(", ".join(skeleton.one_sided), 120, placeholder=" …")
        log.warning(
            f"{joints}: names a side and has no partner, and is not exchanged in mirrored "
            "images; give `data.flip_pairs`"
        )
