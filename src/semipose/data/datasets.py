"""The data sets of a run: labeled, unlabeled, validation and test."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from semipose.data.account import DataAccount, untrainable_by_reason, unusable_by_reason
from semipose.data.data_config import RENDERED, SKELETON_OPTIONS, DataConfig, check_effects, is_word, open_data_file
from semipose.data.data_errors import DataErrors
from semipose.data.formats.categories import ALL, ANY_CATEGORY, CategoryChoice
from semipose.data.formats.coco import read_coco
from semipose.data.formats.registry import read_annotations, read_with_images
from semipose.data.formats.whole_frames import (
    images_with_several,
    one_in_each_image,
    require_one_subject,
    with_whole_images,
)
from semipose.data.images import read_image_sizes
from semipose.data.leakage import image_paths
from semipose.data.shards import is_sharded
from semipose.data.splits import Split, draw_at_most, draw_split, hold_out_images
from semipose.data.unlabeled import read_unlabeled, without_shared_images
from semipose.errors import ConfigError, DataError, MissingImagesError
from semipose.structures.boxes import AUTO, BOX_EACH
from semipose.structures.categories import Category
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import SKELETONS, Skeleton, describe_difference
from semipose.utils.text import plural

log = logging.getLogger(__name__)

PEOPLE = Path(__file__).resolve().parent.parent / "people"
"""Folder of the rendered people, which `people` names; in a clone of the repository only."""
GYM = PEOPLE.with_name("gym")
"""Folder of the rendered gym, which `gym` names."""

MOST_HELD_OUT = 200
"""Largest number of unlabeled persons on which an adaptation is checked."""
LEAST_HELD_OUT = 10
"""Number of validation persons; in as many images scores have intervals and the gain is measured."""


@dataclass(frozen=True)
class DataSplits:
    """The persons of a run.

    Attributes:
        labeled: Persons with labels.
        unlabeled: Persons without labels, if there are any.
        validation: Persons that select the weights, if there are any.
        test: Persons that are evaluated at the end, if there are any.
        split: The split of `data.train`.
        data_errors: Policies of the sets train, unlabeled, val and test, and what was left out of them.
        validation_set: The one of these sets that `validation` comes from.
        shards: A folder of shards with more unlabeled crops.
        account: What `data.train` holds, and what of it is left out.
        unlearned_joints: Joints that no labeled person has, nor their left or right partners in flipped views; they are
            not evaluated.
        held_out: Unlabeled persons that no network learns from, on which an adaptation without `data.val` is checked.
        shown: Everyone in the images of the labeled persons, labeled or not, if boxes of several in an image are found:
            `data.boxes` is `auto`, and images of the training set show several labeled persons.
    """

    labeled: PoseDataset
    unlabeled: PoseDataset | None
    validation: PoseDataset | None
    test: PoseDataset | None
    split: Split
    data_errors: DataErrors = field(default_factory=DataErrors)
    validation_set: str = "train"
    shards: Path | None = None
    account: DataAccount = field(default_factory=lambda: DataAccount("", 0, 0))
    unlearned_joints: tuple[str, ...] = ()
    held_out: PoseDataset | None = None
    shown: PoseDataset | None = None

    @property
    def several(self) -> bool:
        """Whether boxes are found for several persons in an image."""
        return self.shown is not None


def read_dataset(
    name: str,
    images: str | None,
    part: str = "train",
    problems: list[str] | None = None,
    category: CategoryChoice = ANY_CATEGORY,
) -> PoseDataset:
    """Reads an annotation file or a rendered data set.

    Args:
        name: The annotation file, or `gym` or `people`.
        images: Its image folder; found next to the file when not given.
        part: "train" or "val", the part of a rendered data set.
        problems: A list to which broken records are added; without one they raise a DataError.
        category: The category that is read of a file with several.
    """
    if name in RENDERED:
        folder = GYM if name == "gym" else PEOPLE
        if images is not None:
            raise ConfigError(f"the data set `{name}` has its own images; leave {images} out")
        if not folder.is_dir():
            raise ConfigError(f"the data set `{name}` is not part of the wheel; install semipose from its repository")
        return read_coco(folder / f"{part}.json", folder / "images", problems=problems)
    return read_annotations(Path(name), images, problems=problems, category=category)


def map_to_skeleton(dataset: PoseDataset, name: str, option: str = "data.skeleton") -> PoseDataset:
    """Returns the data set with the joints of a named skeleton, or unchanged for `own`.

    Args:
        dataset: The persons.
        name: Name of the skeleton.
        option: The parameter that holds the name, for messages.

    Raises:
        ConfigError: If both have no joint in common.
    """
    if name == "own":
        return dataset
    mapped = dataset.to_skeleton(SKELETONS[name])
    if not set(dataset.skeleton.keys) & set(mapped.skeleton.keys):
        raise ConfigError(f"`{option}`: {name} has no joint of {dataset.source}; rename its joints, or leave it out")
    return mapped


def with_given_skeleton(dataset: PoseDataset, config: DataConfig) -> PoseDataset:
    """Returns the data set with the joints that `data.skeleton` names and the given pairs, sigmas and limbs.

    Raises:
        ConfigError: If a joint name is unknown, or a value cannot be used.
    """
    dataset = map_to_skeleton(dataset, config.skeleton)
    skeleton = dataset.skeleton
    for option in SKELETON_OPTIONS:
        try:
            skeleton = skeleton.with_given(**{option: getattr(config, option)})
        except DataError as error:
            raise ConfigError(f"`data.{option}`: {error}") from None
    return dataset.to_skeleton(skeleton)


def load_splits(config: DataConfig) -> DataSplits:
    """Reads the data sets that the section names and splits them.

    Raises:
        DataError: If a data set can't be read.
        ConfigError: If options contradict each other or the data.
    """
    config = open_data_file(config)
    train = config.train
    if train is None:
        raise ConfigError(
            "`data.train` is missing: give a DeepLabCut project, an annotation file (COCO, SLEAP, YOLO, Label Studio, "
            "MPII, AI Challenger, LSP) or a data YAML, or `gym` or `people` for rendered persons; without labels, "
            "`data.unlabeled` and a network in `train.start` adapt this network"
        )
    check_effects(config)
    errors = DataErrors(dict(config.on_error))
    choice = CategoryChoice(config.category, "data.category")
    dataset = errors.read("train", lambda problems: read_dataset(train, config.images, "train", problems, choice))
    several = _finds_several(dataset, config)
    dataset = _in_whole_images(dataset, config, several=several)
    if config.category not in (None, ALL, dataset.category.name):
        raise ConfigError(f"`data.category`: {dataset.source} has no {config.category!r} but {dataset.category.name!r}")
    read = with_given_skeleton(dataset, config)
    dataset = read.trainable()
    drawn = _drawn(config, dataset)
    split = _limit_unlabeled(config, drawn)
    validation = dataset.subset(split.validation) if split.validation else None
    test = None
    if config.val:
        validation = _evaluation_set(config, errors, dataset, "val", config.val, config.val_images)
    if config.test or train in RENDERED:
        test = _evaluation_set(config, errors, dataset, "test", config.test or train, config.test_images)
    labeled = dataset.subset(split.labeled)
    held_out = [persons for persons in (validation if config.val else None, test) if persons is not None]
    unlabeled, unlabeled_left_out = _unlabeled(config, errors, dataset, split, held_out)
    sets = {"labeled": labeled, "unlabeled": unlabeled, "validation": validation, "test": test}
    used = {name: len(persons) for name, persons in sets.items() if persons is not None}
    with_held_out = len(dataset) - len({*drawn.labeled, *drawn.unlabeled, *drawn.validation})
    left_out = {
        **untrainable_by_reason(read),
        "in images of held-out persons or next to them in a clip": with_held_out,
        "without labels and not in the unlabeled set": len({*drawn.unlabeled} - {*split.unlabeled, *split.labeled}),
        **{f"of the unlabeled set: {reason}": count for reason, count in unlabeled_left_out.items()},
    }
    return DataSplits(
        labeled,
        unlabeled,
        validation,
        test,
        split,
        errors,
        "val" if config.val else "train",
        Path(config.unlabeled) if config.unlabeled and is_sharded(Path(config.unlabeled)) else None,
        DataAccount.of(read, used, left_out).with_errors(errors, "train"),
        labeled.unlabeled_joints,
        shown=_in_images_of(labeled, read) if several else None,
    )


def load_unlabeled(
    config: DataConfig, skeleton: Skeleton, category: Category, unlearned_joints: tuple[str, ...]
) -> DataSplits:
    """Reads the data sets of a run without labels, which adapts a network; its validation and test sets have labels.

    Args:
        config: The section without `train`.
        skeleton: The joints of the network.
        category: Its category.
        unlearned_joints: Joints that it never learned.

    Raises:
        DataError: If a data set can't be read.
        ConfigError: If options need labels or contradict each other or the data.
    """
    for option in ("labels", "validation"):
        if getattr(config, option) is not None:
            raise ConfigError(f"`data.{option}`: there are no labels without `data.train`; leave it out")
    if config.boxes == AUTO:
        raise ConfigError("`data.boxes`: auto learns from labels; without `data.train` give a file of boxes, or whole")
    if config.unlabeled is None or is_sharded(Path(config.unlabeled)):
        raise ConfigError("`data.unlabeled`: without `data.train` give images, an annotation file or videos")
    check_effects(config)
    errors = DataErrors(dict(config.on_error))
    labeled = PoseDataset(skeleton, [], "no labels", category=category)
    split = Split((), (), (), (), config.split_seed, 0)
    evaluation: dict[str, PoseDataset] = {}
    for name, path, images in (("val", config.val, config.val_images), ("test", config.test, config.test_images)):
        if path:
            evaluation[name] = _evaluation_set(config, errors, labeled, name, path, images)
    found, left_out = _unlabeled(config, errors, labeled, split, [*evaluation.values()])
    if not found:
        others = " but those of data.val and data.test" if evaluation else ""
        raise DataError(f"{config.unlabeled} has no image to adapt a network to{others}; give others")
    unlabeled = found.to_skeleton(skeleton)
    held_out = None
    if not config.val and len(unlabeled) > 1:
        count = min(MOST_HELD_OUT, max(1, round(len(unlabeled) / 10)))
        held_out, unlabeled = hold_out_images(unlabeled, count, config.split_seed)
    sets = {"unlabeled": unlabeled, "held out without labels": held_out, **evaluation}
    used = {name: len(persons) for name, persons in sets.items() if persons is not None}
    return DataSplits(
        labeled,
        unlabeled,
        evaluation.get("val"),
        evaluation.get("test"),
        split,
        errors,
        "val",
        account=DataAccount.of(unlabeled, used, left_out),
        unlearned_joints=unlearned_joints,
        held_out=held_out,
    )


def _finds_several(train: PoseDataset, config: DataConfig) -> bool:
    """Whether boxes are found for several persons in an image."""
    return config.boxes == AUTO and bool(images_with_several(train))


def _in_images_of(labeled: PoseDataset, everyone: PoseDataset) -> PoseDataset:
    """Everyone in the images of the labeled persons."""
    images = set(labeled.instances.paths)
    return everyone.subset(n for n, path in enumerate(everyone.instances.paths) if path in images)


def _in_whole_images(
    persons: PoseDataset, config: DataConfig, *, labeled: bool = True, several: bool = False
) -> PoseDataset:
    """The persons with whole images as boxes if `data.boxes` is a word; of unlabeled sets one in each image.

    Labeled persons keep their boxes if those of `several` in an image are found.

    Raises:
        ConfigError: If whole images show several labeled persons.
    """
    if not is_word("boxes", config.boxes) or (labeled and several):
        return persons
    if labeled:
        remedy = f"take {AUTO}, which finds each of them, or leave it out, and to predict give {BOX_EACH}"
        if config.boxes == AUTO:
            remedy = "give training labels that show several, too"
        require_one_subject(persons, str(config.boxes), remedy)
    whole = with_whole_images(persons, read_image_sizes(image_paths(persons)))
    return whole if labeled else one_in_each_image(whole)


def _drawn(config: DataConfig, dataset: PoseDataset) -> Split:
    """The split with as many validation persons as are asked for.

    If no number is given, it is a tenth of the labels; or enough to measure on, where `data.labels` leaves others or
    four fifths of the labels remain, and enough images without validation persons.
    """

    def draw(validation: int) -> Split:
        seed, includes_labeled = config.split_seed, config.include_labeled
        return draw_split(
            dataset, config.labels, seed=seed, unlabeled_includes_labeled=includes_labeled, validation=validation
        )

    if config.val or config.validation is not None:
        return draw(0 if config.val else config.validation or 0)
    wanted, others = config.labels or len(dataset), max(0, len(dataset) - (config.labels or 1))
    tenth = min(500, max(1, round(wanted / 10)), others)
    if tenth < LEAST_HELD_OUT <= others and (config.labels or wanted >= 5 * LEAST_HELD_OUT):
        with suppress(ConfigError):  # too few images are left
            return draw(LEAST_HELD_OUT)
    return draw(tenth)


def _evaluation_set(
    config: DataConfig, errors: DataErrors, train: PoseDataset, name: str, path: str, images: str | None
) -> PoseDataset:
    """A validation or test set, with the joints of the training set in the same order."""
    choice = CategoryChoice(config.category or train.category.name, "data.category")

    def read(problems: list[str]) -> PoseDataset:
        try:
            return read_with_images(
                lambda folder: read_dataset(path, folder, "val", problems, choice), images, config.images
            )
        except MissingImagesError as error:
            raise MissingImagesError(error.image, error.source, f"data.{name}_images", error.cause) from None

    dataset = _in_whole_images(errors.read(name, read), config, several=_finds_several(train, config))
    dataset = map_to_skeleton(dataset, config.skeleton)
    if not len(train):  # an adaptation: the network's joints are evaluated as far as the set has them
        return _with_joints_of(train.skeleton, dataset, f"data.{name}")
    if set(dataset.skeleton.keys) == set(train.skeleton.keys):
        return dataset.to_skeleton(train.skeleton)
    ours, theirs = (train.source, train.skeleton), (dataset.source, dataset.skeleton)
    raise ConfigError(f"`data.{name}`: {describe_difference(theirs, ours, 'data.skeleton')}")


def _with_joints_of(skeleton: Skeleton, dataset: PoseDataset, option: str) -> PoseDataset:
    mapped = dataset.to_skeleton(skeleton)
    if not mapped.instances.labeled.any():
        raise ConfigError(f"`{option}`: {dataset.source} has none of the network's joints {', '.join(skeleton.joints)}")
    return mapped


def _limit_unlabeled(config: DataConfig, split: Split) -> Split:
    """The split with the unlabeled persons that the configuration allows; labeled ones among them do not count."""
    lost = sorted({*split.unlabeled} - {*split.labeled}) if config.include_remaining else []
    drawn = draw_at_most(config.max_unlabeled, lost, config.split_seed)
    return replace(split, unlabeled=tuple(sorted([*drawn, *({*split.unlabeled} & {*split.labeled})])))


def _unlabeled(
    config: DataConfig, errors: DataErrors, train: PoseDataset, split: Split, held_out: Sequence[PoseDataset]
) -> tuple[PoseDataset | None, dict[str, int]]:
    """The persons that lost their labels and those of `data.unlabeled`, if any, and what of the latter is left out.

    The images of `held_out`, the given validation and test sets, are not trained on. Where no person has lost its
    labels, `data.unlabeled` must add images, unless it is the file of `data.train`: its images are unlabeled, too.

    Raises:
        ConfigError: If it adds none.
    """
    lost = {*split.unlabeled} - {*split.labeled}
    own = train.subset(split.unlabeled).without_labels() if lost else None
    if config.unlabeled is None:
        return own, {}
    if own is None and config.include_labeled:
        own = train.subset(split.labeled).without_labels()
    path = Path(config.unlabeled)
    if is_sharded(path):
        return own, {}
    read = errors.read("unlabeled", lambda problems: read_unlabeled(config, path, train, problems))
    read = _in_whole_images(read, config, labeled=False)
    usable = read.usable()
    new = others = without_shared_images(usable, train)
    for persons in held_out:
        new = without_shared_images(new, persons)
    if len(usable) and not len(new):
        text = f"all images of {path} are labeled or held out"
        if read.empty_images:
            text += (
                f", but for {plural(len(read.empty_images), 'image')} without annotations (give their folder instead)"
            )
        if not lost and (path.is_dir() or path.resolve() != Path(config.train or "").resolve()):
            raise ConfigError(f"`data.unlabeled`: {text}; give others, or leave it out")
        log.warning("%s, so it adds no unlabeled image", text)
    wanted = None if config.max_unlabeled is None else config.max_unlabeled - len(lost)
    more = new.subset(draw_at_most(wanted, range(len(new)), config.split_seed))
    left_out = {
        **read.left_out,
        **unusable_by_reason(read),
        "in images of the labeled set": len(usable) - len(others),
        "in images of the validation or test set": len(others) - len(new),
        "more than `data.max_unlabeled`": len(new) - len(more),
    }
    if not len(more):
        return own, left_out
    return own.concat(more.without_labels()) if own else more.without_labels(), left_out
