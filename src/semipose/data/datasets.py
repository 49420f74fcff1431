"""DataConfig, and the persons it names: labeled, unlabeled, validation and test, with the split that made them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from semipose.data.data_errors import DataErrors, OnErrorConfig
from semipose.data.formats.coco import read_coco
from semipose.data.formats.image_folder import read_folder
from semipose.data.formats.registry import read_annotations
from semipose.data.shards import is_sharded
from semipose.data.splits import Split, keep_labels
from semipose.errors import ConfigError, DataError, MissingImagesError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import SKELETONS
from semipose.utils.section import Section
from semipose.utils.text import plural

log = logging.getLogger(__name__)

PEOPLE = Path(__file__).resolve().parent.parent / "people"
"""The embedded data set."""


PATHS = ("train", "images", "unlabeled", "boxes", "val", "val_images", "test", "test_images")
"""Options that name a file or folder."""


class DataConfig(Section):
    """Which persons are learned from and which judge."""

    train: str = "people"
    """`people` (embedded), a COCO keypoints file, an MPII or AI Challenger list, LSP's joints.mat, or a YAML file with
    the keys of this section."""
    images: str | None = None
    """Image folder of `train`; found beside the file when not given."""
    skeleton: Literal["own", "union", "coco", "mpii", "ai_challenger", "lsp"] = "own"
    """Joints of the network: those of `train`, or a skeleton onto which all sets are mapped joint by name; a joint that
    a set lacks is neither learned from nor evaluated there. `union` holds every joint of the four others."""
    labels: int | None = Field(None, ge=1)
    """This many persons keep their labels, the others become unlabeled; all keep them when not given."""
    split_seed: int = Field(0, ge=0)
    """Which persons those are. For one seed the smaller choice is part of the larger."""
    include_labeled: bool = True
    """The unlabeled set also holds the labeled persons' images, as in the papers' tables."""
    unlabeled: str | None = None
    """More unlabeled images: a folder, an annotation file whose labels are not read, or a folder of shards that
    `semipose data pack` made."""
    local_shards: int = Field(0, ge=0)
    """Shards that are copied to the cache folder at a time, for a set on slow storage; 0 reads them where they lie."""
    boxes: str | None = None
    """COCO detections file with person boxes for `unlabeled`; without one each image is one person."""
    min_score: float = Field(0.5, ge=0, le=1)
    """Detections with a lower score are left out."""
    crop_encoding: Literal["auto", "jpeg", "raw"] = "auto"
    """How cut people are kept: `jpeg`, or `raw`, exact and read ten times as fast for eight times the disk; auto keeps
    the sets raw that need no more than 2 GiB for it (3,600 persons at 256×192)."""
    val: str | None = None
    """COCO keypoints file that picks the best weights."""
    val_images: str | None = None
    """Image folder of `val`."""
    validation: int | None = Field(None, ge=0)
    """Labeled persons held out of `train` when there is no `val`; a tenth of the labels when not given."""
    test: str | None = None
    """COCO keypoints file scored once, at the end, with the selected weights; embedded people bring one."""
    test_images: str | None = None
    """Image folder of `test`."""
    on_error: OnErrorConfig = OnErrorConfig()
    """What happens to broken records and unreadable photographs, set by set."""


@dataclass(frozen=True)
class DataSplits:
    """The persons of a run. `unlabeled` carries no joints; `validation` and `test` may be missing.

    `intake` knows the policy of train, unlabeled, val and test, and what was left out of them; `validation_set` is the
    one of them that `validation` was taken from. `shards` is a folder of packed unlabeled crops besides `unlabeled`.
    """

    labeled: PoseDataset
    unlabeled: PoseDataset | None
    validation: PoseDataset | None
    test: PoseDataset | None
    split: Split
    data_errors: DataErrors = field(default_factory=DataErrors)
    validation_set: str = "train"
    shards: Path | None = None


def resolve(config: DataConfig) -> DataConfig:
    """The section with a YAML `train` opened: its keys fill what was not set, paths relative to the file."""
    if not config.train.endswith((".yaml", ".yml")):
        return config
    path = Path(config.train)
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise DataError(f"data file {path} can't be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise DataError(f"data file {path} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or not isinstance(content.get("train"), str):
        raise DataError(f"data file {path} needs a key 'train' with one COCO keypoints file")
    unknown = set(content) - set(DataConfig.model_fields)
    if unknown:
        raise DataError(
            f"data file {path}: unknown key {sorted(unknown)[0]!r}; known: {', '.join(DataConfig.model_fields)}"
        )
    for key in PATHS:
        value = content.get(key)
        if value and value != "people" and not Path(value).is_absolute():
            content[key] = str(path.parent / value)
    explicit = {k: getattr(config, k) for k in config.model_fields_set if k != "train"}
    try:
        return DataConfig(**{**content, **explicit})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"data file {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def located(config: DataConfig) -> DataConfig:
    """The section with every file and folder by its absolute path: it means the same read from anywhere."""
    paths = {key: getattr(config, key) for key in PATHS}
    known = {key: str(Path(path).absolute()) for key, path in paths.items() if path and path != "people"}
    return config.model_copy(update=known)


def read_dataset(name: str, images: str | None, part: str = "train", problems: list[str] | None = None) -> PoseDataset:
    """Persons of an annotation file, or of a part ("train", "val") of the embedded set when `name` is `people`.

    Broken records raise DataError, or are left out where `problems` is a list to note them in.
    """
    if name == "people":
        if images is not None:
            raise ConfigError(f"the embedded people bring their own images; leave {images} out")
        return read_coco(PEOPLE / f"{part}.json", PEOPLE / "images", problems=problems)
    return read_annotations(Path(name), images, problems=problems)


def load_splits(config: DataConfig) -> DataSplits:
    """Reads what the section names and splits it. Raises DataError or ConfigError with the remedy."""
    config = resolve(config)
    _refuse_idle(config)
    data_errors = DataErrors(dict(config.on_error))
    everyone = over(
        config.skeleton,
        data_errors.read("train", lambda problems: read_dataset(config.train, config.images, "train", problems)),
    ).trainable()
    held_out = _held_out(config, len(everyone))
    split = keep_labels(
        everyone,
        config.labels,
        seed=config.split_seed,
        unlabeled_includes_labeled=config.include_labeled,
        validation=held_out,
    )
    labeled = everyone.subset(split.labeled)
    validation = everyone.subset(split.validation) if split.validation else None
    test = None
    if config.val:
        validation = _judging(config, data_errors, everyone, "val", config.val, config.val_images)
    if config.test or config.train == "people":
        test = _judging(config, data_errors, everyone, "test", config.test or "people", config.test_images)
    return DataSplits(
        labeled,
        _unlabeled(config, data_errors, everyone, split),
        validation,
        test,
        split,
        data_errors,
        "val" if config.val else "train",
        _shards(config),
    )


def _refuse_idle(config: DataConfig) -> None:
    """Raises ConfigError for options that nothing here goes by."""
    if config.train == "people" and config.images:
        raise ConfigError(f"data.images: {config.images} has no annotations; name their file with --data")
    for option, needs in (("boxes", "unlabeled"), ("val_images", "val"), ("test_images", "test")):
        if getattr(config, option) is not None and getattr(config, needs) is None:
            raise ConfigError(f"data.{option}: {getattr(config, option)} belongs to data.{needs}, which is not given")
    listed = config.unlabeled and Path(config.unlabeled).suffix in (".json", ".mat")
    if config.boxes is not None and listed:
        raise ConfigError(f"data.boxes: {config.unlabeled} has boxes of its own; name the folder of its images instead")
    if config.local_shards and not (config.unlabeled and is_sharded(Path(config.unlabeled))):
        raise ConfigError("data.local_shards: data.unlabeled is no folder of shards; leave it out")


def _shards(config: DataConfig) -> Path | None:
    """The folder of shards that `unlabeled` names. Raises ConfigError for options that belong to packing."""
    if config.unlabeled is None or not is_sharded(Path(config.unlabeled)):
        return None
    if config.boxes is not None:
        raise ConfigError(f"data.boxes: {config.unlabeled} is packed already; give the boxes to semipose data pack")
    return Path(config.unlabeled)


def _found(read: Callable[[str | None], PoseDataset], images: str | None, others: str | None) -> PoseDataset:
    """What `read(folder)` finds in the folder `images`; where none is given beside the file, else in `others`."""
    try:
        return read(images)
    except MissingImagesError:
        if images is not None or others is None:
            raise
        return read(others)


def _judging(
    config: DataConfig, data_errors: DataErrors, train: PoseDataset, what: str, name: str, images: str | None
) -> PoseDataset:
    """A validation or test set, over the joints of the training set."""

    def look(problems: list[str] | None) -> PoseDataset:
        try:
            return _found(lambda folder: read_dataset(name, folder, "val", problems), images, config.images)
        except MissingImagesError as error:
            raise MissingImagesError(error.image, error.source, f"data.{what}_images") from None

    persons = over(config.skeleton, data_errors.read(what, look))
    if set(persons.skeleton.joints) == set(train.skeleton.joints):
        return persons.to_skeleton(train.skeleton)  # the same joints in another order
    raise ConfigError(
        f"data.{what}: {persons.source} has the joints of {persons.skeleton.name!r} ({len(persons.skeleton)}), "
        f"{train.source} those of {train.skeleton.name!r} ({len(train.skeleton)}); map them: data.skeleton=union"
    )


def over(name: str, persons: PoseDataset, option: str = "data.skeleton") -> PoseDataset:
    """The persons over a named skeleton, or their `own`. Raises ConfigError where they share no joint with it."""
    if name == "own":
        return persons
    mapped = persons.to_skeleton(SKELETONS[name])
    if not set(persons.skeleton.joints) & set(mapped.skeleton.joints):
        raise ConfigError(
            f"{option}: {name} has no joint of {persons.source}; rename its joints or leave them their own"
        )
    return mapped


def _held_out(config: DataConfig, available: int) -> int:
    if config.val:
        return 0
    if config.validation is not None:
        return config.validation
    wanted = config.labels or available
    return min(500, max(1, round(wanted / 10)), max(0, available - (config.labels or 1)))


def _unlabeled(config: DataConfig, data_errors: DataErrors, everyone: PoseDataset, split: Split) -> PoseDataset | None:
    """Persons that lost their labels, joined by further images; None where all images are labeled."""
    lost = len(split.labeled) + len(split.validation) < len(everyone)
    own = everyone.subset(split.unlabeled).without_labels() if lost and split.unlabeled else None
    if config.unlabeled is None:
        return own
    path = Path(config.unlabeled)
    if is_sharded(path):
        return own or (everyone.subset(split.labeled).without_labels() if config.include_labeled else None)
    boxes = Path(config.boxes) if config.boxes else None

    def read(problems: list[str]) -> PoseDataset:
        if path.is_dir():
            return read_folder(path, everyone.skeleton, boxes=boxes, min_score=config.min_score, problems=problems)
        return _found(
            lambda folder: read_annotations(path, folder, labels=False, skeleton=everyone.skeleton, problems=problems),
            None,
            config.images,
        ).usable()

    if not path.is_dir() and path.suffix not in (".json", ".mat"):
        raise DataError(
            f"data.unlabeled: {path} is neither a folder of images nor an annotation file (.json, .mat); of a video, "
            "semipose data frames makes a folder of images"
        )
    more = _without_photographs_of(everyone, data_errors.read("unlabeled", read))
    if own is None and config.include_labeled:
        own = everyone.subset(split.labeled).without_labels()
    if not len(more):
        return own
    return own.concat(more.without_labels()) if own else more.without_labels()


def _without_photographs_of(everyone: PoseDataset, more: PoseDataset) -> PoseDataset:
    """The further images without those of the labeled persons: held out ones must stay unseen, others are there."""
    own = set(everyone.instances.paths)
    names = {Path(place).name for place in own}
    alike = [place for place in set(more.instances.paths) if Path(place).name in names]  # resolving takes its time
    known = {Path(place).resolve() for place in own} if alike else set()
    shared = {place for place in alike if Path(place).resolve() in known}
    if not shared:
        return more
    log.warning("%s: %s of data.train left out of the unlabeled set", more.source, plural(len(shared), "photograph"))
    return more.subset(i for i, place in enumerate(more.instances.paths) if place not in shared)
