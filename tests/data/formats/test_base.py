"""A new format is one class and one line in FORMATS."""

from pathlib import Path

import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY
from semipose.data.formats.registry import FORMATS, read_annotations
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO


class PointList(Format):
    """A made-up format: one line `image x y` for each person, the position of the nose."""

    def matches(self, path: Path) -> bool:
        return path.read_bytes().startswith(b"# points")

    def read(self, path: Path, images: Path | None = None, problems=None, category=ANY_CATEGORY) -> PoseDataset:
        persons = []
        for number, line in enumerate(path.read_text().splitlines()[1:], start=1):
            name, x, y = line.split()
            joints, visibility = np.zeros((len(COCO), 2)), np.zeros(len(COCO), np.int8)
            joints[0], visibility[0] = (float(x), float(y)), 2
            image = (images or path.parent) / name
            persons.append(Instance(image, name, number, (0.0, 0.0, 20.0, 30.0), joints, visibility))
        return PoseDataset(COCO, persons, str(path))


def test_a_new_format_is_one_class_and_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "points", PointList())
    (tmp_path / "labels.txt").write_text("# points\na.jpg 3 4\nb.jpg 5 6\n")
    persons = read_annotations(tmp_path / "labels.txt")
    assert [p.image.name for p in persons.instances] == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(persons[1].joints[0], [5, 6])
    assert not read_annotations(tmp_path / "labels.txt", labels=False)[0].labeled
