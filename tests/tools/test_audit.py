"""The audit of dependencies: every licence is compatible and listed, and no forbidden version is installed."""

from importlib.metadata import PathDistribution

import pytest

from tools import audit


def package(folder, name: str, version: str, **fields: str) -> PathDistribution:
    """An installed package by its metadata alone."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items())]
    (info / "METADATA").write_text("Metadata-Version: 2.4\n" + "\n".join(lines) + "\n")
    return PathDistribution(info)


def test_installed_packages_have_no_problems():
    assert audit.problems() == []


def test_page_lists_every_direct_dependency():
    assert audit.missing_rows() == []
    assert len(audit.rows()) > 20


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "MIT"}, "MIT"),
        ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: Apache Software License"}, "Apache-2.0"),
        ({"License": "MIT License  Copyright (c) 2022"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: GNU Affero General Public License v3"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_licence_of_incomplete_metadata(tmp_path, fields, expected):
    assert audit.licence(package(tmp_path, "some", "1.0", **fields)) == expected


def test_forbidden_version_and_licence(tmp_path, monkeypatch):
    bad = package(tmp_path, "pytorch-lightning", "2.6.3", License_Expression="Apache-2.0")
    strong = package(tmp_path, "strong", "1.0", License_Expression="MIT AND AGPL-3.0-only")
    monkeypatch.setattr(audit, "direct", lambda: {"strong": ""})
    monkeypatch.setattr(audit, "installed", lambda names: {"strong": strong})
    monkeypatch.setattr(audit.importlib.metadata, "distributions", lambda: [bad, strong])
    found = audit.problems()
    assert len(found) == 2
    assert "AGPL" in found[0]
    assert "pytorch-lightning 2.6.3 must not be installed" in found[1]
