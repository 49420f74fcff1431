"""RunConfig: all sections of the configuration, read from YAML and from `section.key=value` overrides."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PrivateAttr, TypeAdapter, ValidationError, field_validator, model_validator

from semipose.augment.registry import AUGMENTATIONS
from semipose.augment.views import ViewsConfig
from semipose.data.data_config import DataConfig, open_data_file
from semipose.data.data_config import with_absolute_paths as with_absolute_data_paths
from semipose.errors import ConfigError
from semipose.losses import LossConfig
from semipose.methods import METHODS, VARIANTS, MethodConfig
from semipose.models.pose_net import ModelConfig
from semipose.training.config import EvaluationConfig, TrainConfig
from semipose.utils.files import write_text
from semipose.utils.section import Option, Section, describe_error, list_options
from semipose.utils.text import some_of

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

FOLDER = Path(__file__).parent / "configs"
"""Folder of the configurations of the package."""

DEFAULT = "default"
"""Name of the default configuration of the command line."""

ADAPT = "adapt"
"""Name of its default without labels."""

LABELS_ONLY = "supervised"
"""Name of the method that uses labeled images only."""

LIST = "method.augmentations"
"""Key of the list of augmentations; the key of one of their options is `method.augmentations.KIND.OPTION`."""


AUTO_GROUPS = {
    "network": tuple(f"model.{option}" for option in ModelConfig.model_fields),
    "input": ("input.height", "input.width", "loss.sigma"),
    "batch": ("train.batch", "train.unlabeled_batch"),
    "steps": ("train.steps", "train.epochs"),
}
"""The options of each group that `auto` can name."""


class InputConfig(Section):
    """Network input: its size, and the crop of a person."""

    height: int = Field(256, ge=32)
    """Input height H in pixels."""
    width: int = Field(192, ge=32)
    """Input width W in pixels."""
    padding: float = Field(1.25, ge=1)
    """Factor by which the person box is enlarged before it is cropped."""

    @field_validator("height", "width")
    @classmethod
    def _multiple_of_32(cls, value: int) -> int:
        """The strides of all backbones and the size of heatmaps fit multiples of 32."""
        if value % 32:
            lower = value - value % 32
            raise ValueError(f"Input should be a multiple of 32, such as {lower} or {lower + 32}")
        return value


class RunConfig(Section):
    """The configuration of a run, saved as config.yaml in its folder. `paper` has the settings of the papers."""

    data: DataConfig = DataConfig()
    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    method: MethodConfig = METHODS[LABELS_ONLY][0](name=LABELS_ONLY)
    loss: LossConfig = LossConfig()
    views: ViewsConfig = ViewsConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    auto: tuple[Literal["network", "input", "batch", "steps", "largest_batch"], ...] = ()
    """What is chosen for the machine and the data when the training starts. A group is left out once one of its options
    is given. `largest_batch` is another way to write `train.batch: auto`."""
    _given: frozenset[str] = PrivateAttr(frozenset())

    def model_post_init(self, context: Any) -> None:
        """Counts all options of a configuration that is made in Python as given."""
        sections = {name: getattr(self, name) for name in self.model_fields_set - {"auto"}}
        self._given = frozenset(f"{name}.{key}" for name, part in sections.items() for key in part.model_fields_set)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunConfig) and self.model_dump() == other.model_dump()

    @property
    def given(self) -> frozenset[str]:
        """The dotted keys of the options that somebody gave, which no choice for machine, data or start replaces."""
        return self._given

    def with_values(self, values: Mapping[str, Any]) -> "RunConfig":
        """Returns the configuration with other values by dotted key (`train.lr`), or of whole sections (`method`).

        The values are not checked.
        """
        config = self.model_copy()
        for key, value in values.items():
            section, _, option = key.partition(".")
            changed = getattr(config, section).model_copy(update={option: value}) if option else value
            config = config.model_copy(update={section: changed})
        return config

    def with_given(self, values: Mapping[str, Any]) -> "RunConfig":
        """Returns the configuration with other values by dotted key, which count as given."""
        config = self.with_values(values)
        config._given = self._given | values.keys()
        return config

    @model_validator(mode="before")
    @classmethod
    def _largest_batch(cls, sections: Any) -> Any:
        """Reads `train.batch: auto`."""
        train = sections.get("train") if isinstance(sections, dict) else None
        if not isinstance(train, dict) or train.get("batch") != "auto":
            return sections
        others = {key: value for key, value in train.items() if key != "batch"}
        return {**sections, "train": others, "auto": [*sections.get("auto", ()), "largest_batch"]}

    @classmethod
    def describe_section(cls, name: str) -> str:
        """Returns the description of a section."""
        section = type(cls.model_fields[name].default)
        if name == "auto":
            return "Groups of options that are chosen when the training starts."
        return "The method and its options." if name == "method" else str(section.__doc__).partition("\n")[0]

    def save(self, path: PathLike) -> None:
        """Writes the complete configuration, defaults included."""
        write_text(Path(path), yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def load_config(
    name_or_path: PathLike | None = None, overrides: Mapping[str, Any] | None = None, **sections: Any
) -> RunConfig:
    """Returns the configuration given by a file and overrides.

    If a file is given and neither it nor an override names a method, the method is that of the configuration `default`
    if the data has unlabeled images, else that which uses labeled images only. Overrides are `RunConfig.given`, and so
    are the values of a file, unless it is one of the package or lists groups in `auto`.

    Args:
        name_or_path: A YAML file, or the name of a configuration of the package; None for the papers' settings.
        overrides: Values by dotted key, for example `{"train.lr": 0.01}`; they override everything else.
        sections: Nested values by section, for example `data={"train": "labels.json"}`; they override the file.

    Raises:
        ConfigError: If an option is unknown or a value is out of range; the message gives the nearest valid name.
    """
    tree = {} if name_or_path is None else read_config_file(name_or_path)
    given = {key: _without_paths(value) for key, value in {**dict(flatten(sections)), **(overrides or {})}.items()}
    if "train.epochs" in given:
        given.setdefault("train.steps", None)  # steps would replace epochs, and the file may set steps
    is_own_file = name_or_path is not None and Path(name_or_path).is_file() and not tree.get("auto")
    of_file = dict(flatten(tree)) if is_own_file else {}
    own = _as_method(tree.pop("method", None))
    if "auto" in tree:
        tree["auto"] = [group for group in tree["auto"] if not set(AUTO_GROUPS.get(group, ())) & given.keys()]
    for key, value in given.items():
        if key.partition(".")[0] != "method":
            _set(tree, key, value)
    named = given.get("method.name", given.get("method"))
    method = _choose_method(name_or_path, own, named, lambda: _validated(tree, name_or_path, given).data)
    for key, value in given.items():
        if key.startswith(f"{LIST}."):
            _set_augmentation(method, key, value)
        elif key.startswith("method.") and key != "method.name":
            _set(method, key.removeprefix("method."), value)
    is_chosen = named is None and name_or_path is not None and ("name" not in own or name_or_path == DEFAULT)
    config = _validated({**tree, "method": method}, name_or_path, given, method_chosen=is_chosen)
    config._given = frozenset({*of_file, *given})
    return config


def _without_paths(value: Any) -> Any:
    """The value with text in place of a path, also in lists."""
    if isinstance(value, (list, tuple)):
        return [_without_paths(entry) for entry in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _choose_method(file: PathLike | None, own: dict[str, Any], named: Any, data: Callable[[], DataConfig]) -> Any:
    """Returns the section `method` without single overrides, from the file's section and the overriding name."""
    if named is not None:
        if named == own.get("name"):
            return own
        unused = [f"method.{key}" for key in own if key != "name"]
        if unused and file != DEFAULT:
            log.info(f"{', '.join(unused)} of {file} do not belong to the method {named} and are ignored")
        return _as_method(named)
    if file is not None and ("name" not in own or file == DEFAULT):
        recipe = read_config_file(DEFAULT)["method"] if has_unlabeled(data()) else {}
        own = {**recipe, **(own if file != DEFAULT else {})}
    return {"name": LABELS_ONLY, **own}


def describe_options(method: str) -> list[Option]:
    """Returns every option of a run with `method`, or a variant of one, with its default.

    If the method has a list of augmentations, their options `method.augmentations.KIND.OPTION` follow.
    """
    config = load_config(None, {"method": method})
    rows = [Option("method", " | ".join([*METHODS, *VARIANTS]), method, "The training method.")]
    rows += [row for row in list_options(config) if row.name != "method.name"]
    if "augmentations" in type(config.method).model_fields:
        for kind, augmentation in AUGMENTATIONS.items():
            options = list_options(augmentation(kind=kind), f"{LIST}.{kind}.")
            rows += [row for row in options if not row.name.endswith(".kind")]
    sections = list(RunConfig.model_fields)
    return sorted(rows, key=lambda row: sections.index(row.name.partition(".")[0]))


def has_unlabeled(data: DataConfig) -> bool:
    """Returns whether a run has unlabeled images."""
    data = open_data_file(data) if data.train else data
    return data.labels is not None or data.unlabeled is not None


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Returns the configuration with its data file read and all paths absolute, so that it is valid in any folder."""
    config = config.model_copy(update={"data": with_absolute_data_paths(open_data_file(config.data))})
    methods = (("method", option) for option in config.method.weights_options)
    for section, option in (("model", "weights"), ("train", "start"), *methods):
        part = getattr(config, section)
        value = getattr(part, option)
        if value and Path(value).exists():
            changed = part.model_copy(update={option: str(Path(value).absolute())})
            config = config.model_copy(update={section: changed})
    return config


def parse_override(text: str) -> tuple[str, Any]:
    """Returns key and value of `train.lr=0.001`; the value is read as YAML.

    What YAML takes for a number or date (a folder 2024_05_01) stays as it is where the option is a text or path.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{text!r} is no override; write section.key=value, for example train.lr=0.001")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"{text!r}: the value is not YAML; put text with special characters in quotes") from None
    key = key.strip()
    if isinstance(parsed, int | float | date):
        types = {option.name: option.type for option in list_options(load_config())}
        parsed = value.strip() if types.get(key) in ("text", "text or null") else parsed
    return key, parsed


def config_names() -> dict[str, Path]:
    """Returns the configurations of the package by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def read_config_file(name_or_path: PathLike) -> dict[str, Any]:
    """Returns the sections in a YAML file or a configuration of the package."""
    path = Path(name_or_path)
    if not path.is_file():
        path = config_names().get(str(name_or_path), path)
    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        known = ", ".join(config_names())
        raise ConfigError(
            f"configuration {path} can't be read ({error.strerror}); check the path, or name one of: {known}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} is not YAML: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(content, dict | None):
        raise ConfigError(
            f"configuration {path} is not a mapping of sections; write for example train: {{steps: 1000}}"
        )
    return content or {}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested mappings with dotted keys."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _as_method(value: Any) -> dict[str, Any]:
    """Returns the section `method`; a name is expanded to a section."""
    return dict(value) if isinstance(value, dict) else {} if value is None else {"name": value}


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(tree.get(section), dict):
            tree[section] = {}
        tree = tree[section]
    tree[last] = value


def _set_augmentation(method: dict[str, Any], key: str, value: Any) -> None:
    """Sets `method.augmentations.KIND.OPTION` in every entry of that kind in the method's list."""
    kind, _, option = key.removeprefix(f"{LIST}.").partition(".")
    listed = method.get("augmentations", _default_augmentations(method["name"]))
    entries = [{"kind": e} if isinstance(e, str) else dict(e) for e in listed] if isinstance(listed, list) else []
    selected = [entry for entry in entries if entry.get("kind") == kind]
    if not selected or option in ("", "kind"):
        kinds = ", ".join(str(entry.get("kind")) for entry in entries)
        raise ConfigError(f"`{key}`: write {LIST}.KIND.OPTION=value with a KIND of the list, which is [{kinds}]")
    for entry in selected:
        entry[option] = value
    method["augmentations"] = entries


def _default_augmentations(method: Any) -> list[dict[str, Any]]:
    """Returns the default augmentations of a method or variant."""
    try:
        options = TypeAdapter(MethodConfig).validate_python({"name": method})
    except ValidationError:  # an unknown method, which the final validation reports
        return []
    return [entry.model_dump() for entry in getattr(options, "augmentations", [])]


def _validated(
    tree: dict[str, Any], file: PathLike | None, given: Mapping[str, Any], *, method_chosen: bool = False
) -> RunConfig:
    """The configuration; `method_chosen` says that nobody named the method of `tree`."""
    try:
        return RunConfig(**tree)
    except ValidationError as error:
        where, reason = describe_error(error, RunConfig, {"method": VARIANTS})
        source = f"{file}: " if file is not None and where not in given else ""
        if where in tree and where not in RunConfig.model_fields:
            if source and {"bodyparts", "multianimalbodyparts"} & {*tree}:
                raise ConfigError(f"{file} is a DeepLabCut project; give it as `data.train`") from None
            sections = {name: type(part) for name, part in RunConfig()}
            found = [f"{name}.{where}" for name, part in sections.items() if where in getattr(part, "model_fields", ())]
            reason += f"; did you mean {some_of(found, 'or')}?" if found else ""
            raise ConfigError(f"{source}{where}: {reason}") from None
        is_unknown = where.startswith("method.") and reason.startswith("unknown option")
        if method_chosen and is_unknown and tree["method"]["name"] == LABELS_ONLY:
            reason += (
                f"; the method is {LABELS_ONLY}, because there are no unlabeled images: give `data.unlabeled`, or name "
                "another `method`"
            )
        raise ConfigError(f"{source}`{where}`: {reason}") from None
