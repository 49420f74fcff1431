"""JSON files are decoded record by record, and errors name the line."""

import json

import msgspec
import pytest

from semipose.data.formats.coco import Annotation, Container
from semipose.data.formats.json_files import first_record, is_json_object, iterate_records, read_json
from semipose.errors import DataError


def test_keys_that_are_not_read_take_no_memory(tmp_path):
    annotation = {"id": 1, "category_id": 1, "segmentation": [[0.5] * 100], "bbox": [1, 2, 3, 4]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [], "annotations": [annotation], "categories": []}))
    (raw,) = read_json(path, "file", Container)["annotations"]
    assert isinstance(raw, msgspec.Raw)
    decoded = {"id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    assert list(iterate_records([raw, decoded], path, Annotation)) == [decoded, decoded]


def test_files_of_another_structure_are_decoded(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": 3, "annotations": [NaN]}')
    assert read_json(path, "file", Container)["images"] == 3


def test_errors_name_line_and_column(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(DataError, match="line 2, column 18"):
        read_json(path, "file", Container)


@pytest.mark.parametrize(
    ("content", "is_object", "record"),
    [
        (b'\xef\xbb\xbf {"a": 1}', True, {}),
        (b' [ {"a": 1}, {"b": 2', False, {"a": 1}),
        (b"[1]", False, {}),
        (b"[", False, {}),
        (b"[" * 100_000, False, {}),
        (b"\xff\xd8\xff", False, {}),
        (b"", False, {}),
    ],
)
def test_the_head_of_a_file_shows_its_structure(tmp_path, content, is_object, record):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert is_json_object(path) == is_object
    assert first_record(path) == record


def test_files_that_can_not_be_read_have_no_structure(tmp_path):
    assert not is_json_object(tmp_path / "missing.json")
    assert first_record(tmp_path) == {}
