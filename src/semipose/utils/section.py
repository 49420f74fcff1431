"""The base class of configuration sections, the list of their options, and one-line validation errors."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError


class Section(BaseModel):
    """A section of the configuration: unknown options are errors, and the string under a field describes it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class Option:
    """An option with its dotted name, its type in words, its default and its meaning."""

    name: str
    type: str
    default: Any
    meaning: str


def list_options(section: BaseModel, prefix: str = "") -> Iterator[Option]:
    """Yields the options of a section and its subsections, with the values of `section` as defaults."""
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from list_options(value, f"{prefix}{name}.")
        else:
            yield Option(prefix + name, type_in_words(field.annotation), values[name], _meaning(type(section), name))


def type_in_words(annotation: Any) -> str:
    """Returns a type in words, for example `strict | skip`, `int or null`, `list of float`."""
    inner = [type_in_words(part) for part in get_args(annotation) if part not in (NoneType, ...)]
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if tags := [tag for section in _sections(annotation) for tag in _tags(section)]:
        return ("list of " if get_origin(annotation) is list else "") + " | ".join(dict.fromkeys(tags))
    if NoneType in get_args(annotation):
        return f"{inner[0]} or null"
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(inner)
    if get_origin(annotation) is dict:
        return f"{{{inner[0]}: {inner[1]}}}"
    if get_origin(annotation) in (list, tuple):
        return f"list of {inner[0]}"
    return "text" if annotation is str else getattr(annotation, "__name__", str(annotation))


def _meaning(section: type[BaseModel], name: str) -> str:
    """Returns the description of a field, or that of the base class if the field only changes the default."""
    bases = [base for base in section.__mro__ if issubclass(base, BaseModel) and name in base.model_fields]
    return " ".join(next((d for base in bases if (d := base.model_fields[name].description)), "").split())


def describe_error(
    error: ValidationError, root: type[BaseModel], further_names: Mapping[str, Iterable[str]] | None = None
) -> tuple[str, str]:
    """Returns the dotted name of the first invalid option, and the reason with the nearest valid name.

    Args:
        error: The error of pydantic.
        root: The section that was validated.
        further_names: By dotted name of an option that names a section, the names that are replaced before the
            validation.
    """
    first, *others = error.errors()
    where, sections, choices, meaning = [], [root], 0, ""
    for depth, part in enumerate(first["loc"], start=1):
        if choices and depth == choices + 1:
            continue  # what pydantic calls one of the types of the option
        holders = [s for s in sections if part in s.model_fields]
        if not any(part in _tags(s) for s in sections):
            where.append(str(part))
        if holders:
            meaning = _meaning(holders[0], str(part))
        if depth < len(first["loc"]) and holders:
            annotation = holders[0].model_fields[str(part)].annotation
            choices = depth if _has_choices(annotation) else 0
            sections = list(_sections(annotation))
        elif depth < len(first["loc"]) and isinstance(part, str):
            sections = [s for s in sections if part in _tags(s)]
    option = ".".join(where)
    names = [name for section in sections for name in section.model_fields]
    if first["type"] in ("extra_forbidden", "union_tag_invalid"):
        return option, _unknown(first, names, (further_names or {}).get(option, ()))
    of_option = [e for e in others if choices and e["loc"][:choices] == first["loc"][:choices]]
    expected, *more = dict.fromkeys(_expected(e, meaning) for e in (first, *of_option))
    if more:
        either = [text.removeprefix("Input should be ").partition(", unable")[0] for text in (expected, *more)]
        expected = f"Input should be {' or '.join(either)}"
    return option, f"{expected}, not {first['input']!r}"


def _unknown(error: Any, options: list[str], further_names: Iterable[str]) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown option; {_nearest(error['loc'][-1], options)}"
    known = [*error["ctx"]["expected_tags"].replace("'", "").split(", "), *further_names]
    return f"unknown name {error['ctx']['tag']!r}; {_nearest(error['ctx']['tag'], known)}"


def _expected(error: Any, meaning: str) -> str:
    """What an option of this meaning should be."""
    if error["type"] == "less_than" and error["ctx"]["lt"] == 1:
        of = " of the training" if meaning.startswith("Fraction of the training") else ""
        return f"Input should be a fraction{of} below 1"
    return str(error["msg"].removeprefix("Value error, "))


def _has_choices(annotation: Any) -> bool:
    """Whether an option may have one of several plain types, such as a number or a word."""
    plain = [part for part in get_args(annotation) if part is not NoneType]
    return get_origin(annotation) in (Union, UnionType) and len(plain) > 1 and not list(_sections(annotation))


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the sections in a type, including those in unions and lists."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if issubclass(annotation, BaseModel):
            yield annotation
    else:
        for part in get_args(annotation):
            yield from _sections(part)


def _tags(section: type[BaseModel]) -> list[str]:
    """Returns the name that selects this section in a union of sections."""
    return [field.default for name, field in section.model_fields.items() if name in ("name", "kind") and field.default]
