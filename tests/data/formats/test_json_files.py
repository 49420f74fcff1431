"""JSON files are decoded record by record, and errors name the line."""

import json

import msgspec
import pytest

from semipose.data.formats.coco import Annotation, Container
from semipose.data.formats.json_files import first_record, is_json_object, iterate_records, read_json, read_json_list
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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_encodings_with_and_without_byte_order_marks(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"images": [], "name": "größe"}'.encode(encoding))
    assert read_json(path, "file") == {"images": [], "name": "größe"}
    assert is_json_object(path)


def test_an_encoding_that_is_not_unicode_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('{"images": [],\n "name": "größe"}'.encode("latin-1"))
    with pytest.raises(DataError, match="line 2: the byte 0xf6 is not UTF-8, perhaps Latin-1"):
        read_json(path, "file")


def test_json_lines_are_a_list_but_no_object(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n{"a": 2}\n\n')
    assert read_json_list(path, "file", "a list") == [{"a": 1}, {"a": 2}]
    with pytest.raises(DataError, match="is JSON lines"):
        read_json(path, "file")
    path.write_text('{"image_id": 7, "a": 1}\n')
    assert read_json_list(path, "file", "a list") == [{"image_id": 7, "a": 1}]
    path.write_text('{"a": 1}')
    with pytest.raises(DataError, match="is not a list; it needs numbers"):
        read_json_list(path, "file", "numbers")
