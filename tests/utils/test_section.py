"""Descriptions of options, and messages about wrong values."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from semipose.utils.section import Section, describe_error, list_options, type_in_words


class Square(Section):
    """A square."""

    kind: Literal["square"] = "square"
    side: float = 1.0
    """Side in pixels."""


class Disk(Section):
    """A disk."""

    kind: Literal["disk"] = "disk"
    radius: float = 2.0
    """Radius in pixels."""


Shape = Annotated[Square | Disk, Field(discriminator="kind")]


class Inner(Section):
    """A section in a section."""

    count: int | None = None
    """How many
    there are."""
    names: dict[Literal["a", "b"], str] = {}
    """By letter."""


class Base(Section):
    """A section."""

    mode: Literal["strict", "skip"] = "skip"
    """What happens."""
    inner: Inner = Inner()
    shapes: list[Shape] = [Square()]
    """Shapes in order."""


class Root(Base):
    """The same with another default."""

    mode: Literal["strict", "skip"] = "strict"
    shape: Shape = Disk()


def test_options_with_inherited_descriptions():
    rows = {row.name: row for row in list_options(Root(), "x.")}
    assert list(rows) == ["x.mode", "x.inner.count", "x.inner.names", "x.shapes", "x.shape.kind", "x.shape.radius"]
    assert (rows["x.mode"].default, rows["x.mode"].meaning) == ("strict", "What happens.")
    assert rows["x.inner.count"].meaning == "How many there are."
    assert rows["x.shapes"].default == [{"kind": "square", "side": 1.0}]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "int"),
        (str | None, "text or null"),
        (bool | Literal["auto"], "bool | auto"),
        (Literal["a", "b"], "a | b"),
        (tuple[float, ...], "list of float"),
        (list[Shape], "list of square | disk"),
        (Shape, "square | disk"),
        (dict[Literal["a", "b"], str], "{a | b: text}"),
    ],
)
def test_types_in_words(annotation, words):
    assert type_in_words(annotation) == words


@pytest.mark.parametrize(
    ("values", "where", "reason"),
    [
        ({"mod": "skip"}, "mod", "unknown option; did you mean 'mode'?"),
        ({"zzz": 1}, "zzz", "unknown option; known: mode, inner, shapes, shape"),
        ({"inner": {"cont": 1}}, "inner.cont", "unknown option; did you mean 'count'?"),
        ({"shape": {"kind": "square", "sid": 1}}, "shape.sid", "unknown option; did you mean 'side'?"),
        ({"shapes": [{"kind": "disk", "side": 1}]}, "shapes.0.side", "unknown option; known: kind, radius"),
        ({"shape": {"kind": "disc"}}, "shape", "unknown name 'disc'; did you mean 'disk'?"),
        ({"mode": "drop"}, "mode", "Input should be 'strict' or 'skip', not 'drop'"),
    ],
)
def test_the_first_wrong_option(values, where, reason):
    with pytest.raises(ValidationError) as found:
        Root(**values)
    assert describe_error(found.value, Root) == (where, reason)
