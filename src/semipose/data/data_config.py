"""The section of the configuration for the data of a run, and the YAML files that set its options."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from semipose.data.data_errors import OnErrorConfig
from semipose.data.formats.deeplabcut import DeepLabCutFormat
from semipose.data.formats.registry import ANNOTATION_SUFFIXES
from semipose.data.formats.yolo import YoloFormat, split_folders
from semipose.data.shards import is_sharded
from semipose.errors import ConfigError, DataError
from semipose.structures.boxes import AUTO, WHOLE
from semipose.structures.skeletons import SKELETONS
from semipose.utils.section import Section

PATH_OPTIONS = ("train", "images", "unlabeled", "boxes", "val", "val_images", "test", "test_images")
"""Options that name a file or folder."""

YAML_SUFFIXES = (".yaml", ".yml")

SKELETON_OPTIONS = ("flip_pairs", "sigmas", "limbs")
"""Options that set properties of the skeleton by joint names; with `category`, the keys of a skeleton file."""


RENDERED = ("gym", "people")
"""Names of the rendered data sets, which have a test part of their own."""


class DataConfig(Section):
    """The persons of a run: which are trained on, and which are evaluated."""

    train: str | None = None
    """`gym` or `people` (rendered), annotations of COCO (also as CVAT's zip), DeepLabCut (a project or a table),
    Lightning Pose, SLEAP, YOLO, Label Studio, MPII, AI Challenger or LSP, or a YAML file with the keys of this
    section."""
    images: str | None = None
    """Image folder of `train`; found next to the file when not given."""
    skeleton: str = "own"
    """Joints of the network: those of `train` (own), or coco, mpii, ai_challenger, lsp or union (every joint of the
    four), onto which all sets are mapped joint by name; a joint that a set lacks is neither trained on nor evaluated
    there. A YAML file with the keys flip_pairs, sigmas, limbs and category sets these options."""
    category: str | None = None
    """Name of the category that is read of files with several categories; `all` reads them as one."""
    flip_pairs: list[tuple[str, str]] | None = None
    """Pairs of joint names that a mirror image exchanges; found from left and right in the names when not given."""
    sigmas: dict[str, float] | None = None
    """OKS sigmas by joint name, as in COCO; the other joints keep theirs."""
    limbs: list[tuple[str, str]] | None = None
    """Pairs of joint names that drawings connect; those of the annotation file when not given."""
    labels: int | None = Field(None, ge=1)
    """This many persons keep their labels, the others become unlabeled; all keep them when not given."""
    split_seed: int = Field(0, ge=0)
    """Seed of the choice of these persons. For one seed a smaller labeled set is part of a larger one."""
    include_labeled: bool = True
    """The unlabeled set also holds the images of the labeled persons, as in the released code of Dual; the papers write
    of the remaining images."""
    include_remaining: bool = True
    """The unlabeled set also holds the persons that lost their labels to `labels`; otherwise they take no part."""
    max_unlabeled: int | None = Field(None, ge=1)
    """Largest number of unlabeled persons that are not labeled ones too, with `boxes: auto` of images, drawn with
    `split_seed`; else all of them. Those that lost their labels come first, then those of `unlabeled`."""
    unlabeled: str | None = None
    """More unlabeled images: a folder, an annotation file whose labels are not used, a folder of shards that
    `semipose data pack` made, or videos (one, a folder or a pattern like `videos/*.mp4`), of which `max_unlabeled`
    frames, 300 when not given, are taken that differ most."""
    boxes: str | None = None
    """COCO detections file with person boxes for `unlabeled`; without it each image is one person. `auto`: a network
    that this run trains on whole images finds all boxes, at most as many in an image as labels show; `whole`: all
    boxes are the whole images, those of the labels included."""
    min_score: float = Field(0.5, ge=0, le=1)
    """Detections with a lower score are left out."""
    box_category: int | str | None = None
    """Id or name of the detector's category that is used; the persons when not given."""
    crop_encoding: Literal["auto", "jpeg", "raw"] = "auto"
    """How crops are stored: `jpeg`, or `raw`, exact and read ten times as fast for eight times the disk space; auto
    stores sets raw that need no more than 2 GiB for it (3,600 persons at 256×192)."""
    val: str | None = None
    """COCO keypoints file on which the best weights are selected."""
    val_images: str | None = None
    """Image folder of `val`."""
    validation: int | None = Field(None, ge=0)
    """Labeled persons held out of `train` when there is no `val`; when not given, a tenth of the labels, but
    10 if there are 50 labels or `data.labels` leaves others, and enough images for both."""
    test: str | None = None
    """COCO keypoints file that is evaluated once, at the end, with the selected weights; `gym`, `people` have one."""
    test_images: str | None = None
    """Image folder of `test`."""
    on_error: OnErrorConfig = OnErrorConfig()
    """What happens to broken records and unreadable images, set by set."""

    @field_validator("skeleton")
    @classmethod
    def _known_skeleton(cls, name: str) -> str:
        known = ["own", *SKELETONS]
        if name not in known and not name.endswith(YAML_SUFFIXES):
            near = get_close_matches(name, known, n=1)
            hint = f"the nearest valid name is {near[0]!r}" if near else f"use {', '.join(known)} or a YAML file"
            raise ValueError(hint)
        return name


def open_data_file(config: DataConfig) -> DataConfig:
    """Returns the section with the content of the YAML files that `train` and `skeleton` name, if they name one.

    The keys of a file set the options that are not set otherwise; paths in it are relative to the file.

    Raises:
        DataError: If a file can't be read or has a wrong key or value.
    """
    path = Path(config.train or "")
    if path.suffix in YAML_SUFFIXES and not DeepLabCutFormat().matches(path):
        if YoloFormat().matches(path):
            return _with_content(config, {**split_folders(path), "train": str(path)}, f"data file {path}", "train")
        content = _read_yaml(path, "data file", list(DataConfig.model_fields))
        if not isinstance(content.get("train"), str):
            raise DataError(f"data file {path} needs a key 'train' with one annotation file")
        for key in (*PATH_OPTIONS, "skeleton"):
            value = content.get(key)
            is_name = is_word(key, value) or (key == "skeleton" and not str(value).endswith(YAML_SUFFIXES))
            if value and not is_name and not Path(str(value)).is_absolute():
                content[key] = str(path.parent / str(value))
        config = _with_content(config, content, f"data file {path}", "train")
    if config.skeleton.endswith(YAML_SUFFIXES):
        path = Path(config.skeleton)
        content = _read_yaml(path, "skeleton file", [*SKELETON_OPTIONS, "category"])
        config = _with_content(config, content, f"skeleton file {path}", "skeleton")
    return config


def _with_content(config: DataConfig, content: dict[str, Any], file: str, option: str) -> DataConfig:
    """The section with the content of a file in place of the option that names it; options that are set win."""
    explicit = {name: getattr(config, name) for name in config.model_fields_set if name != option}
    try:
        return DataConfig(**{**content, **explicit})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
        ) from None


def _read_yaml(path: Path, what: str, known: list[str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_bytes())  # bytes, so that PyYAML finds the encoding
    except OSError as error:
        raise DataError(f"{what} {path} can't be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise DataError(f"{what} {path} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise DataError(f"{what} {path} is not a table of keys; known: {', '.join(known)}")
    unknown = sorted(map(str, set(content) - set(known)))
    if unknown:
        near = get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise DataError(f"{what} {path}: unknown key {unknown[0]!r}; {hint}")
    return content


def is_word(option: str, value: str | None) -> bool:
    """Returns whether the value of a path option names no file but a rendered data set, or a kind of boxes."""
    return (value in RENDERED and option in ("train", "val", "test")) or (value in (WHOLE, AUTO) and option == "boxes")


def with_absolute_paths(config: DataConfig) -> DataConfig:
    """Returns the section with absolute paths, so that it means the same from any working directory."""
    paths = {name: path for name in PATH_OPTIONS if (path := getattr(config, name)) and not is_word(name, path)}
    absolute = {name: str(Path(path).absolute()) for name, path in paths.items()}
    return config.model_copy(update=absolute)


def check_effects(config: DataConfig) -> None:
    """Raises ConfigError for options without effect."""
    if config.train in RENDERED and config.images:
        raise ConfigError(f"`data.images`: {config.images} has no annotations; name their file in `data.train`")
    for option, needed in (("boxes", "unlabeled"), ("val_images", "val"), ("test_images", "test")):
        given = getattr(config, option)
        if option == "boxes" and given is not None and not is_word(option, given) and not Path(given).suffix:
            raise ConfigError(f"`data.boxes`: {Path(given).name!r} is neither {WHOLE}, {AUTO} nor a .json file")
        if given is not None and not is_word(option, given) and getattr(config, needed) is None:
            raise ConfigError(f"`data.{option}`: {given} belongs to `data.{needed}`, which is not given")
    if config.max_unlabeled and config.unlabeled and is_sharded(Path(config.unlabeled)):
        raise ConfigError(f"`data.max_unlabeled`: {config.unlabeled} is packed already; pack as many as you want")
    if config.boxes is None or config.unlabeled is None:
        return
    if Path(config.unlabeled).suffix in ANNOTATION_SUFFIXES and not is_word("boxes", config.boxes):
        raise ConfigError(
            f"`data.boxes`: {config.unlabeled} has its own boxes; name the folder of its images in `data.unlabeled`"
        )
    if is_sharded(Path(config.unlabeled)):
        raise ConfigError(f"`data.boxes`: {config.unlabeled} is packed already; pack it again with these boxes")


def check_given(config: DataConfig) -> None:
    """Raises ConfigError for options without effect when a training begins; data that is read again may have them."""
    if config.val and config.validation:
        raise ConfigError("`data.validation`: `data.val` has the validation persons; leave one of them out")
    no_file = config.boxes is None or is_word("boxes", config.boxes)
    of_boxes = {"box_category": None, "min_score": DataConfig.model_fields["min_score"].default}
    for option, default in of_boxes.items():
        if no_file and getattr(config, option) != default:
            raise ConfigError(f"`data.{option}`: it refers to a file as `data.boxes`, and none is given; leave it out")
