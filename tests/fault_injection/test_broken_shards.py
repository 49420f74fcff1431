"""Shards that are cut off, missing or not listed are errors of one line."""

import json

import pytest

from semipose.data.crops import CropGeometry
from semipose.data.datasets import read_dataset
from semipose.data.shards import ShardedCrops, pack
from semipose.errors import BrokenDataError, DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import COCO

GEOMETRY = CropGeometry((64, 64))


@pytest.fixture
def shards(tmp_path):
    """Five shards of four persons."""
    pack(read_dataset("people", None).subset(range(20)), GEOMETRY, tmp_path / "packed", size=4)
    return tmp_path / "packed"


def test_a_shard_that_is_cut_off(shards):
    content = (shards / "000002.crops").read_bytes()
    (shards / "000002.crops").write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"000002\.crops has .* bytes instead"):
        ShardedCrops(shards, COCO, GEOMETRY).crop(9)


def test_a_shard_that_is_missing(shards):
    crops = ShardedCrops(shards, COCO, GEOMETRY)
    (shards / "000003.crops").unlink()
    with pytest.raises(DataError, match=r"000003\.crops can't be read"):
        crops.crop(13)
    with pytest.raises(DataError, match=r"1 shard of .* missing, the first: 000003\.crops"):
        ShardedCrops(shards, COCO, GEOMETRY)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"shards": []}), json.dumps({"shards": [{"file": 3}]})])
def test_a_table_that_is_broken(shards, content):
    (shards / "shards.json").write_text(content)
    with pytest.raises(DataError, match="pack again"):
        ShardedCrops(shards, COCO, GEOMETRY)


def test_a_set_without_readable_images(tmp_path):
    dataset = read_dataset("people", None).subset(range(2))
    folder = tmp_path / "images"
    folder.mkdir()
    persons = []
    for number, person in enumerate(dataset.instances):
        path = folder / f"{number}.jpg"
        path.write_text("no image")
        persons.append(type(person)(path, number, number, person.box))
    broken = PoseDataset(COCO, persons, "broken")
    with pytest.raises(BrokenDataError, match=r"broken: no image could be read; image .*0\.jpg") as caught:
        pack(broken, GEOMETRY, tmp_path / "packed", size=4)
    assert len(caught.value.problems) == 2
