"""Shards: the same crops, every person once an epoch, an order by seed, step and sizes alone, few in use."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semipose.data.crop_cache import open_crop_cache
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.datasets import PEOPLE, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.data.loader import PairedLoader
from semipose.data.prepare import pack_images
from semipose.data.shards import WINDOW, ShardedCrops, ShardStream, is_sharded
from semipose.errors import ConfigError
from semipose.inference.evaluation import evaluate
from semipose.structures.skeletons import COCO
from semipose.trainer import train
from semipose.training.checkpoint import read_checkpoint

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=2 * WINDOW + 3).map(tuple)
GEOMETRY = CropGeometry((64, 64))


@given(sizes, st.integers(1, 20), st.integers(0, 3))
def test_every_epoch_is_a_permutation(sizes, batch, seed):
    stream, count = ShardStream(sizes, batch, seed), sum(sizes)
    visited = [i for step in range(2 * count // batch + 2) for i in stream.indices(step)]
    for epoch in range(2):
        assert sorted(visited[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(sizes, st.integers(1, 5), st.integers(2, 4))
def test_processes_share_the_joint_batch(sizes, batch, world_size):
    """Whatever the number of processes: their parts, which are disjoint, make up the joint batch."""
    joint = ShardStream(sizes, batch * world_size, 0)
    parts = [ShardStream(sizes, batch, 0, rank, world_size) for rank in range(world_size)]
    for step in (0, 7, 3):
        assert joint.indices(step) == [i for part in parts for i in part.indices(step)]


@given(sizes, st.integers(0, 3))
def test_a_window_of_shards_is_used_at_a_time(sizes, seed):
    """Each shard is in use during one stretch of the epoch, and never more than WINDOW."""
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    visited = shard_of[ShardStream(sizes, sum(sizes), seed).indices(0)]
    spans = [np.flatnonzero(visited == shard)[[0, -1]] for shard in range(len(sizes))]
    for position in range(len(visited)):
        assert sum(first <= position <= last for first, last in spans) <= WINDOW


def test_with_one_window_the_order_is_a_shuffle_of_all():
    orders = [ShardStream((50, 50), 100, seed).indices(0) for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert len({i // 50 for i in orders[0][:20]}) == 2


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The images of 40 embedded persons in ten shards."""
    from semipose.data.formats.coco_writer import write_coco

    folder = tmp_path_factory.mktemp("shards")
    write_coco(read_dataset("people", None).subset(range(100, 140)), folder / "people.json")
    table, _ = pack_images(
        folder / "people.json", folder / "packed", images=PEOPLE / "images", shard_size=4, input_size=(64, 64)
    )
    assert is_sharded(table.parent)
    return table.parent


def test_shards_hold_the_crops(shards, tmp_path):
    """In another order, after the run's own."""
    persons = read_dataset("people", None).subset(range(100, 140))
    cached = open_crop_cache(persons, GEOMETRY, encoding="jpeg", cache=tmp_path)
    own = LazyCrops(persons.subset(range(6)), GEOMETRY)
    crops = ShardedCrops(shards, COCO, GEOMETRY, own)
    assert (len(crops), crops.sizes) == (46, (4, 2, *[4] * 10))
    assert np.array_equal(crops.crop(3), own.crop(3))
    found = {crops.crop(i).tobytes() for i in range(6, 46)}
    assert found == {cached.crop(i).tobytes() for i in range(40)}


def test_images_of_shards_are_known_as_training_images(shards, tiny, tmp_path, caplog):
    """Shards hold the images of 40 persons; those of four of them are the validation set."""
    val = tmp_path / "val.json"
    write_coco(read_dataset("people", None).subset(range(100, 104)), val)
    options = {
        "data.unlabeled": str(shards),
        "data.val": str(val),
        "data.val_images": str(PEOPLE / "images"),
        "data.validation": None,
    }
    options |= {"train.steps": 2, "train.drops": []}
    train(tiny("single", **options), tmp_path / "run")
    assert f"the training uses 4 images of the validation set (the first: {PEOPLE / 'images'}" in caplog.text
    assert f"is in {shards})" in caplog.text
    assert (
        "of 4 images 4 were trained on without labels"
        in evaluate(tmp_path / "run", val, images=PEOPLE / "images").protocol.leakage
    )
    (shards / "images.json").unlink()
    train(tiny("single", **options), tmp_path / "other")
    assert f"{shards} does not list its images" in caplog.text


def test_other_inputs_and_boxes_are_errors(shards, tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"cut for 64×64 with padding 1\.25; set `input\.height`"):
        ShardedCrops(shards, COCO, CropGeometry((96, 64)))
    with pytest.raises(ConfigError, match="shards already"):
        pack_images(PEOPLE / "images", shards, input_size=(64, 64))
    with pytest.raises(ConfigError, match="is packed already; pack it again with these boxes"):
        train(tiny("single", **{"data.unlabeled": str(shards), "data.boxes": "x.json"}), tmp_path / "run")


def test_a_training_on_shards_resumes_exactly(shards, tiny, tmp_path):
    """Its batches follow from seed and step, so a resumed run ends with the same weights."""
    options = {"data.unlabeled": str(shards), "train.checkpoint_every": 3, "train.evaluate_every": 100.0}
    train(tiny("single", **options, **{"train.steps": 6, "train.drops": []}), tmp_path / "whole")
    train(tiny("single", **options, **{"train.steps": 3, "train.drops": []}), tmp_path / "part")
    train(tiny("single", **options, **{"train.steps": 6, "train.drops": []}), tmp_path / "part", resume=True)
    states = [read_checkpoint(tmp_path / name / "last" / "state.pt")["method"] for name in ("whole", "part")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    crops = ShardedCrops(shards, COCO, GEOMETRY)
    labeled = LazyCrops(read_dataset("people", None).subset(range(4)), GEOMETRY)
    loader = PairedLoader(labeled, crops, batch=2, unlabeled_batch=8, seed=0)
    assert loader.steps_per_epoch == 5
