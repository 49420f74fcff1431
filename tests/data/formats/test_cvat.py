"""CVAT's zip with COCO key points."""

import json
import zipfile
from pathlib import Path

import pytest

from semipose.data.formats.registry import FORMATS, find_format, read_annotations
from semipose.errors import DataError
from tests.data.formats.conftest import CONTENT


def pack(path: Path, folder: Path, images: str | None, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(f"annotations/{name}.json", json.dumps(CONTENT))
        for image in ("a.jpg", "deep/b.jpg") if images else ():
            file.write(folder / "images" / image, f"{images}/{image}")
    return path


@pytest.mark.parametrize("images", ["images/default", "images", None])
def test_with_and_without_images(folder, monkeypatch, images):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(folder / "cache"))
    path = pack(folder / "export.zip", folder, images, "person_keypoints_default", "instances_default")
    assert find_format(path) is FORMATS["coco_zip"]
    persons = read_annotations(path)
    assert len(persons) == 4
    assert persons.source == str(path)
    assert all(image.is_file() for image in persons.image_paths.values())
    assert ("cache" in str(persons[0].image)) == (images is not None)
    assert read_annotations(path, labels=False)[0].joints is None


def test_other_zips(folder, monkeypatch):
    monkeypatch.setenv("SEMIPOSE_CACHE", str(folder / "cache"))
    with pytest.raises(DataError, match="needs one file annotations"):
        read_annotations(pack(folder / "two.zip", folder, None, "a", "b"))
    with pytest.raises(DataError, match="it has none"):
        read_annotations(pack(folder / "none.zip", folder, None))
