"""The suffix names the format that is written."""

import pytest

from semipose.data.formats.coco import read_coco
from semipose.data.formats.registry import FORMATS, find_format
from semipose.data.formats.writers import WRITERS, write_annotations
from semipose.errors import ConfigError
from tests.data.formats.conftest import save_coco


@pytest.mark.parametrize(("suffix", "name"), [(".json", "coco"), (".csv", "deeplabcut"), (".yaml", "yolo")])
def test_formats_by_suffix(folder, tmp_path, suffix, name):
    path = tmp_path / "out" / f"set{suffix}"
    path.parent.mkdir()
    write_annotations(read_coco(save_coco(folder)), path)
    assert find_format(path) is FORMATS[name]


def test_other_suffixes_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"`out`: a\.txt .*\.slp"):
        write_annotations(read_coco(save_coco(folder)), tmp_path / "a.txt")
    assert set(WRITERS) == {".json", ".csv", ".h5", ".slp", ".yaml"}
