"""The content of a report, and its rendering as a self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass

from semipose.inference.draw import fit_image
from semipose.reports.plots import jpeg
from semipose.reports.sheets import TILE, Sheet, Tile
from semipose.utils.extras import import_extra


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A chart or an image as a data URL."""

    title: str
    url: str


@dataclass(frozen=True)
class Examples:
    """Example images under a title."""

    title: str
    text: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Page:
    """A report: introductory lines, tables, charts, sheets and example images."""

    title: str
    lines: Sequence[str]
    tables: Sequence[Table]
    charts: Sequence[Picture]
    examples: Sequence[Examples]
    sheets: Sequence[Sheet] = ()


def render(page: Page) -> str:
    """Returns the page as HTML.

    Raises:
        ConfigError: If Jinja is not installed.
    """
    jinja2 = import_extra("jinja2", "reports", "writing reports")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("semipose.reports", "templates"), autoescape=True)
    return str(environment.get_template("report.html.j2").render(page=page, tile_url=_tile_url))


def _tile_url(tile: Tile) -> str:
    return jpeg(fit_image(tile.image, TILE))
