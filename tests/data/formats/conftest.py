"""A small COCO file with its images, and image files for the other formats."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

PEOPLE = Path(__file__).parents[3] / "src" / "semipose" / "people"
NAMES = ["nose", "left_hand", "right_hand"]
CONTENT: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": "eight", "file_name": "deep/b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20], "keypoints": [3, 4, 2, 5, 9, 1, 8, 8, 0]},
        {"id": 2, "image_id": "eight", "category_id": 1, "bbox": [0, 0, 4, 6], "area": 11, "keypoints": [0] * 9},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1, "keypoints": [1, 1, 2] * 3},
        {"id": 4, "image_id": 7, "category_id": 1, "bbox": [0, 0, 0, 9], "keypoints": [1, 1, 2] * 3},
        {"id": 5, "image_id": 7, "category_id": 2, "bbox": [0, 0, 9, 9]},
    ],
    "categories": [
        {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]},
        {"id": 2, "name": "dog"},
    ],
}


def save_image(path: Path, size: tuple[int, int] = (20, 30), orientation: int = 1) -> None:
    """Saves a black image; an EXIF `orientation` of 6 asks viewers to turn it clockwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", size).save(path, exif=exif)


def save_coco(folder: Path, change: Callable[[dict[str, Any]], object] = lambda content: None) -> Path:
    """Writes CONTENT, changed, as a file."""
    content = copy.deepcopy(CONTENT)
    change(content)
    path = folder / "some.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the images of CONTENT in `images/`."""
    save_image(tmp_path / "images" / "a.jpg")
    save_image(tmp_path / "images" / "deep" / "b.jpg")
    return tmp_path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images, one of them in a subfolder, and a file that is not an image."""
    root = tmp_path / "frames"
    for name in ("b.PNG", "000000000036.jpg", "deep/a.jpeg", "c.webp"):
        save_image(root / name)
    (root / "notes.txt").write_text("not an image")
    return root
