"""The content of a report, and its rendering as a self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass

from semipose.inference.draw import scale_image
from semipose.reports.plots import jpeg
from semipose.reports.sheets import Sheet, Tile
from semipose.utils.extras import import_extra

TILE = 360
"""Longer side of an image in pixels; the page shows it with 240 or more, and with all of them after a click."""


@dataclass(frozen=True)
class Answer:
    """A figure that a reader looks for first, and what it means."""

    value: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table of text, and the meaning of its entries."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str = ""


@dataclass(frozen=True)
class Picture:
    """A chart as a data URL."""

    title: str
    url: str


@dataclass(frozen=True)
class Page:
    """A report, in the order of the page.

    Attributes:
        title: Heading.
        answers: What a reader looks for first.
        lines: Lines below them.
        suggestions: What to do next.
        tables: Tables of scores.
        charts: Charts.
        sheets: Images in rows.
        details: Lines at the end: how the scores were measured, and on which data.
        settings: Tables at the end.
    """

    title: str
    lines: Sequence[str]
    tables: Sequence[Table]
    charts: Sequence[Picture]
    sheets: Sequence[Sheet] = ()
    answers: Sequence[Answer] = ()
    suggestions: Sequence[str] = ()
    details: Sequence[str] = ()
    settings: Sequence[Table] = ()


def render(page: Page) -> str:
    """Returns the page as HTML.

    Raises:
        ConfigError: If Jinja is not installed.
    """
    jinja2 = import_extra("jinja2", "reports", "writing reports")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("semipose.reports", "templates"), autoescape=True)
    return str(environment.get_template("report.html.j2").render(page=page, tile_url=_tile_url))


def _tile_url(tile: Tile) -> str:
    return jpeg(scale_image(tile.image, TILE))
