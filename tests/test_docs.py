"""The documents keep pace with the code: every command is told of, every link and every page leads somewhere."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from semipose.cli import app
from semipose.data.sources import DataConfig
from semipose.methods import METHODS, VARIANTS
from semipose.studies.grid import load_grid, shipped

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
TEXT = "\n".join(page.read_text() for page in PAGES)


def commands(command=None, before=()):
    """Every visible command as words: ("data", "check")."""
    command = command or get_command(app)
    if not hasattr(command, "commands"):
        return [before]
    return [
        found
        for name, inner in command.commands.items()
        if not inner.hidden
        for found in commands(inner, (*before, name))
    ]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_told_of(words):
    assert f"semipose {' '.join(words)}" in TEXT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), link


def test_every_method_has_its_section():
    sections = (ROOT / "docs" / "methods.md").read_text()
    assert all(re.search(rf"^## .*\b{re.escape(name)}(\s|$)", sections, re.MULTILINE) for name in [*METHODS, *VARIANTS])


def test_every_study_is_listed():
    listed = (ROOT / "docs" / "protocols.md").read_text()
    assert all(f"`{name}`" in listed for name in shipped())


def test_the_study_in_the_documents_is_one(tmp_path):
    text = (ROOT / "docs" / "protocols.md").read_text()
    (tmp_path / "mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
    assert len(load_grid(str(tmp_path / "mine.yaml")).cells()) == (2 + 2) * 3 + 3


def test_the_data_file_in_the_documents_has_known_keys():
    text = (ROOT / "docs" / "data.md").read_text()
    keys = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))
    assert set(keys) <= set(DataConfig.model_fields)
