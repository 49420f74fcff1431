"""report.html of a run and of a study, and folders that are neither."""

import sys

import pytest

from semipose.config import load_config
from semipose.errors import ConfigError, DataError
from semipose.reports.html import write_report


def test_folders_that_are_neither(tmp_path, tiny_run):
    with pytest.raises(ConfigError, match="neither a run"):
        write_report(tmp_path)
    load_config(None, tiny_run).save(tmp_path / "config.yaml")
    with pytest.raises(DataError, match=r"no line in metrics\.jsonl yet"):
        write_report(tmp_path)


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_missing_package_is_one_line(finished_run, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=rf"writing reports.*{missing}.*semipose\[reports\]"):
        write_report(finished_run)
