"""The layout of the repository: tests mirror the package, options are named in cli/ only, old words stay gone."""

import re
import tomllib
from pathlib import Path

import pytest

import semipose

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "semipose"
ELSEWHERE = ("integration", "fault_injection", "tools")
"""Folders of tests that cover several source files, or the tools beside the package."""
TOP_LEVEL = {"test_layout.py", "test_docs.py", "test_options.py", "test_bench.py", "test_init.py"}
"""Tests of the repository rather than of one source file."""

WITH_COMMANDS = Path("reports/suggestions.py")
"""Its text in reports holds a whole command to copy, with its options."""

SOURCES = [
    path.relative_to(PACKAGE)
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
]
TESTS = [
    path.relative_to(ROOT / "tests")
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    if path.relative_to(ROOT / "tests").parts[0] not in ELSEWHERE
]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_source_file_has_its_tests(source):
    assert (ROOT / "tests" / source.with_name(f"test_{source.name}")).is_file()


@pytest.mark.parametrize("test", TESTS, ids=str)
def test_every_test_file_belongs_to_a_source_file(test):
    source = test.with_name(test.name.removeprefix("test_"))
    assert source in SOURCES or str(test) in TOP_LEVEL or source.stem in ("init", "package")


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_only_the_command_line_names_options(source):
    if source.parts[0] != "cli" and source != WITH_COMMANDS:
        assert not re.findall(r"(?<![\w-])--[a-z][a-z-]*", (PACKAGE / source).read_text())


@pytest.mark.parametrize("source", [s for s in SOURCES if s.parts[0] == "methods"], ids=str)
def test_methods_are_short(source):
    assert source.name == "base.py" or len((PACKAGE / source).read_text().splitlines()) < 150


def test_only_declared_dependencies_are_required():
    """Every direct dependency is imported by the package or brings a file that it uses."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    code = "\n".join((PACKAGE / source).read_text() for source in SOURCES)
    modules = {
        "opencv-python-headless": "cv2",
        "pillow": "PIL",
        "pyyaml": "yaml",
        "faster-coco-eval": "faster_coco_eval",
    }
    for requirement in project["dependencies"]:
        name = re.match(r"[\w-]+", requirement).group()
        assert re.search(rf"(import|from) {modules.get(name, name.replace('-', '_'))}\b", code), name


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_public_names_have_documentation():
    assert set(semipose.__all__) <= set(dir(semipose))
    for name in semipose.__all__:
        assert getattr(semipose, name).__doc__
