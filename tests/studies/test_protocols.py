"""Every protocol is a valid configuration."""

import pytest

from semipose.studies.grid import StudyGrid
from semipose.studies.protocols import PROTOCOLS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocol_is_a_configuration(name):
    grid = StudyGrid(title="T", protocol=name, rows={"s": {"options": {"method": "dual"}}})
    assert grid.run_config(grid.runs()[0]).train.select == "last"
    assert PROTOCOLS[name].text in grid.note


def test_study_overrides_its_protocol():
    grid = StudyGrid(title="T", protocol="coco-1k", rows={"s": {"options": {}}}, shared={"data.include_labeled": True})
    assert grid.run_config(grid.runs()[0]).data.include_labeled
