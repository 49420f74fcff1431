"""RunConfig: the sections of all parts, read from YAML and `section.key=value` overrides, validated in one place."""

import difflib
import itertools
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from semipose.augment.registry import AUGMENTATIONS
from semipose.augment.views import ViewsConfig
from semipose.data.datasets import DataConfig
from semipose.errors import ConfigError
from semipose.losses import LossConfig
from semipose.methods import METHODS, VARIANTS, MethodConfig
from semipose.methods.supervised import Config as SupervisedConfig
from semipose.models.pose_net import ModelConfig
from semipose.training.evaluator import EvaluationConfig
from semipose.training.config import TrainConfig
from semipose.utils.files import write_text
from semipose.utils.section import Section


class InputConfig(Section):
    """Network input: its size and how a person box is cut for it."""

    height: int = Field(256, ge=32, multiple_of=32)
    """Input height H in pixels."""
    width: int = Field(192, ge=32, multiple_of=32)
    """Input width W in pixels."""
    padding: float = Field(1.25, ge=1)
    """The box grows by this factor before it fills the input."""


class RunConfig(Section):
    """Everything a run depends on; saved as config.yaml in its folder."""

    data: DataConfig = DataConfig()
    input: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    method: MethodConfig = SupervisedConfig()
    loss: LossConfig = LossConfig()
    views: ViewsConfig = ViewsConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def save(self, path: Path) -> None:
        """Writes the complete configuration, defaults included."""
        write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


AUGMENTATION_KEY = "method.augmentations"
"""The list of alterations, whose options are `method.augmentations.KIND.OPTION`."""


def load_config(path: Path | str | None = None, overrides: dict[str, Any] | None = None) -> RunConfig:
    """A YAML file (or one that is shipped, by its name, or nothing), then overrides by dotted key.

    Raises ConfigError in one line, with the nearest valid name.
    """
    tree: dict[str, Any] = {}
    if path is not None:
        tree = _read_yaml(Path(path))
    # The method is chosen before its options are set, whatever their order.
    given = overrides or {}
    inner = {key: value for key, value in given.items() if key.startswith(f"{AUGMENTATION_KEY}.")}
    for key, value in sorted(given.items(), key=lambda item: item[0] != "method"):
        if key not in inner:
            _set(tree, key, value)
    method = tree.get("method")
    if isinstance(method, str):
        tree["method"] = {"name": method}
    elif isinstance(method, dict):
        method.setdefault("name", "supervised")
    for key, value in inner.items():
        chosen = tree.setdefault("method", {"name": "supervised"})
        if isinstance(chosen, dict):
            _set_augmentation(chosen, key, value)
    try:
        return RunConfig(**tree)
    except ValidationError as error:
        raise ConfigError(_one_line(error, Path(path) if path else None)) from None


def parse_override(text: str) -> tuple[str, Any]:
    """`train.lr=0.001` to its key and its YAML value."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{text!r} is no override; write section.key=value, for example train.lr=0.001")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"{text!r}: the value is not YAML; put text with special characters in quotes") from None


def options(
    model: type[BaseModel] = RunConfig, prefix: str = "", given: BaseModel | None = None
) -> list[tuple[str, str, str, str]]:
    """Every option as (dotted name, type, default, meaning); of `method` those of the given class only.

    The values of `given`, where there is one, stand as the defaults.
    """
    rows = []
    meanings = _docstrings(model)
    for name, info in model.model_fields.items():
        default = getattr(given, name) if given else info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel) and name != "method":
            rows += options(type(default), f"{prefix}{name}.", default)
        elif name != "method":
            kind = getattr(info.annotation, "__name__", str(info.annotation)).replace("typing.", "")
            choices = get_args(info.annotation) if "Literal" in str(info.annotation) else ()
            shown = " | ".join(map(str, choices)) if choices and all(isinstance(c, str) for c in choices) else kind
            rows.append(
                (
                    prefix + name,
                    shown,
                    _shown(default),
                    meanings.get(name, "Which method this is." if name == "name" else ""),
                )
            )
    return rows


def _shown(default: Any) -> str:
    """A default as it is written in a configuration."""
    if isinstance(default, list | tuple):
        return f"[{', '.join(_shown(entry) for entry in default)}]"
    if isinstance(default, BaseModel):
        kind = getattr(default, "kind", None)
        return kind if kind and default == type(default)() else str(default.model_dump())
    return "null" if default is None else str(default)


def augmentation_options(method: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """The same for each alteration of the hard view, where a method's options take some: `method.augmentations.KIND.OPTION`."""
    rows: list[tuple[str, str, str, str]] = []
    if not _takes_augmentations(method):
        return rows
    for kind, augmentation in AUGMENTATIONS.items():
        rows += [row for row in options(augmentation, f"{AUGMENTATION_KEY}.{kind}.") if not row[0].endswith(".kind")]
    return rows


def _takes_augmentations(method: type[BaseModel]) -> bool:
    """Whether a method's options have a list `hard` that may hold something."""
    return method.model_json_schema()["properties"].get("augmentations", {"maxItems": 0}).get("maxItems") != 0


def left_behind(path: Path | str, method: Any) -> list[str]:
    """Options of the method that a file names which do not carry over to another `method`."""
    own = _read_yaml(Path(path)).get("method")
    if not isinstance(own, dict) or own.get("name", "supervised") == method:
        return []
    return [f"method.{key}" for key in own if key != "name"]


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Meaning of each field: the string under it in the class body, of base classes too."""
    import ast
    import inspect
    import textwrap

    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (issubclass(cls, BaseModel) and cls is not BaseModel):
            continue
        definition: Any = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        body = definition.body
        for statement, following in itertools.pairwise(body):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and is_text:
                found[statement.target.id] = " ".join(str(following.value.value).split())
    return found


SHIPPED = Path(__file__).parent / "configs"
"""Configurations that come with the package, by the name of their file."""


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists() and path.name == str(path) and (SHIPPED / f"{path.stem}.yaml").is_file():
        path = SHIPPED / f"{path.stem}.yaml"
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml")))
        raise ConfigError(
            f"configuration {path} can't be read ({error.strerror}); check the path, or take a shipped one: {known}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} is not YAML: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"configuration {path} is no table of sections; see semipose config")
    return content


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = tree.get(section)
        if isinstance(inner, str) and section == "method":
            inner = {"name": inner}
        tree[section] = inner if isinstance(inner, dict) else {}
        tree = tree[section]
    if last == "method" and not sections and isinstance(tree.get("method"), dict):
        # Another method's options do not carry over; the same method keeps those of the file.
        tree["method"] = tree["method"] if tree["method"].get("name") == value else {"name": value}
    else:
        tree[last] = value


def _set_augmentation(method: dict[str, Any], key: str, value: Any) -> None:
    """`method.augmentations.KIND.OPTION=value`: the option of every entry of that kind in the method's list."""
    kind, dot, option = key.removeprefix(f"{AUGMENTATION_KEY}.").partition(".")
    name = method["name"]
    if not isinstance(name, str) or name not in {**METHODS, **VARIANTS}:
        return  # told when all is put together
    options_of = METHODS[VARIANTS[name][0] if name in VARIANTS else name][0]
    if not _takes_augmentations(options_of):
        raise ConfigError(f"{key}: {name} has no list {AUGMENTATION_KEY}; see semipose config --method {name}")
    entries = method.get(
        "augmentations", [entry.model_dump() for entry in options_of.model_fields["augmentations"].default]
    )
    if not isinstance(entries, list) or not dot or option == "kind":
        raise ConfigError(
            f"{key}: write {AUGMENTATION_KEY}=[…] for the list, {AUGMENTATION_KEY}.KIND.OPTION=value for an option of an entry"
        )
    entries = [{"kind": entry} if isinstance(entry, str) else entry for entry in entries]
    kinds = [entry.get("kind") for entry in entries if isinstance(entry, dict)]
    if kind not in kinds:
        known = f"it has {', '.join(map(str, kinds))}" if kinds else "it is empty"
        raise ConfigError(
            f"{key}: {AUGMENTATION_KEY} of {name} has no {kind!r}, {known}; write {AUGMENTATION_KEY}=[{kind}] beside it"
        )
    method["augmentations"] = [
        {**e, option: value} if isinstance(e, dict) and e.get("kind") == kind else e for e in entries
    ]


def _one_line(error: ValidationError, path: Path | None) -> str:
    first = error.errors()[0]
    place = [str(p) for p in first["loc"]]
    where = ".".join(p for i, p in enumerate(place) if not (i == 1 and place[0] == "method" and p in METHODS))
    if path:
        where = f"{path}: {where}"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _known_names(place), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_known_names(place))}"
        return f"{where}: unknown option{hint}"
    if first["type"] == "union_tag_invalid":
        return f"{where}: unknown name; known: {first['ctx']['expected_tags']}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}, not {first['input']!r}"


def _known_names(place: list[str]) -> list[str]:
    if len(place) == 1:
        return list(RunConfig.model_fields)
    model: type[BaseModel] = RunConfig
    for position, part in itertools.pairwise(place):
        if position.isdigit() and part in AUGMENTATIONS:  # an entry of a list of alterations
            return list(AUGMENTATIONS[part].model_fields)
    for part in place[:-1]:
        if part in METHODS and model is not RunConfig:
            continue
        if part == "method":
            name = place[1] if len(place) > 1 and place[1] in METHODS else "supervised"
            model = METHODS[name][0]
            continue
        field = model.model_fields.get(part)
        default = field.get_default(call_default_factory=True) if field else None
        if not isinstance(default, BaseModel):
            break
        model = type(default)
    return list(model.model_fields)
