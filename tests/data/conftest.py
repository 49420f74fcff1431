"""A COCO file that several tests of data sets change."""

import json

import pytest
from PIL import Image


@pytest.fixture
def coco(tmp_path):
    """Writes a COCO file of ten persons with two joints; `changes` changes annotations by index."""

    def make(changes=None):
        for name in ("a.jpg", "b.jpg"):
            Image.new("RGB", (20, 20)).save(tmp_path / name)
        records = [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10 + i, 10], "keypoints": [1, 1, 2, 3, 3, i % 2]}
            for i in range(10)
        ]
        for number, change in (changes or {}).items():
            records[number].update(change)
        content = {
            "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
            "annotations": records,
            "categories": [{"id": 1, "name": "person", "keypoints": ["nose", "left_eye"]}],
        }
        path = tmp_path / "set.json"
        path.write_text(json.dumps(content))
        return path

    return make
