"""Batches: endless, in an order that depends on the seed and the step alone, loaded ahead by threads."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from semipose.data.crops import Crops
from semipose.data.shards import ShardedCrops, ShardStream
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.utils.cpu import available_cpus


@dataclass(frozen=True)
class IndexStream:
    """Endless indices of a set, shuffled anew in every epoch.

    The indices of a step follow from the seed and the step alone, so a resumed training needs no saved state. A batch
    at the end of an epoch goes on in the next epoch.

    Attributes:
        count: Number of persons of the set.
        batch: Number of indices of a step and process.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: Number of processes; each takes its part of the joint batch.
    """

    count: int
    batch: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def indices(self, step: int) -> list[int]:
        """Returns the `batch` indices of a step; no index comes twice in an epoch."""
        start = (step * self.world_size + self.rank) * self.batch
        positions = range(start, start + self.batch)
        return [int(_permutation(self.count, self.seed, p // self.count)[p % self.count]) for p in positions]


@lru_cache(maxsize=8)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def unlabeled_batch(crops: Crops, indices: list[int]) -> UnlabeledBatch:
    """Returns the crops at some positions; labels are not read."""
    images = np.empty((len(indices), *crops.geometry.crop_size, 3), np.uint8)
    for row, i in enumerate(indices):
        images[row] = crops.crop(i)
    to_input = torch.from_numpy(crops.geometry.to_input).float().repeat(len(indices), 1, 1)
    return UnlabeledBatch(torch.from_numpy(images).permute(0, 3, 1, 2), to_input)


def labeled_batch(crops: Crops, indices: list[int]) -> LabeledBatch:
    """Returns the crops at some positions with their joints in crop pixels."""
    unlabeled, persons = unlabeled_batch(crops, indices), crops.dataset.instances
    if not persons.annotated[indices].all():
        without = persons.annotation_ids[indices][~persons.annotated[indices]].tolist()
        raise ValueError(f"persons {without} of {crops.dataset.source} have no labels")
    scales, offsets = crops.geometry.scales_and_offsets(persons.boxes[indices])
    joints = persons.joints[indices].astype(np.float64) * scales[:, None, None] + offsets[:, None]
    weights = (persons.visibility[indices] > 0).astype(np.float32)
    joints = torch.from_numpy(joints.astype(np.float32))
    return LabeledBatch(unlabeled.crops, unlabeled.to_input, joints, torch.from_numpy(weights))


def default_workers() -> int:
    """Returns how many threads load ahead by default: all cores but two, at least 3 and at most 16."""
    return max(3, min(16, available_cpus() - 2))


class PairedLoader:
    """Loads one labeled and one unlabeled batch per step; the smaller set is repeated more often.

    Args:
        labeled: The labeled crops; without any, labeled batches are empty.
        unlabeled: The unlabeled crops, if the method uses them.
        batch: Number of labeled persons of a step and process.
        unlabeled_batch: Number of unlabeled persons of a step and process.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: Number of processes.
        workers: Number of threads, which load as many steps ahead.
        pin_memory: Whether batches are in pinned memory.
    """

    def __init__(
        self,
        labeled: Crops,
        unlabeled: Crops | None,
        *,
        batch: int,
        unlabeled_batch: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 3,
        pin_memory: bool = False,
    ) -> None:
        self.labeled, self.unlabeled, self.workers, self._pin_memory = labeled, unlabeled, workers, pin_memory
        self.passes_per_step = batch * world_size / max(1, len(labeled))
        self._labeled_stream = IndexStream(len(labeled), batch if len(labeled) else 0, seed, rank, world_size)
        self._unlabeled_stream: IndexStream | ShardStream | None = None
        if isinstance(unlabeled, ShardedCrops):
            self._unlabeled_stream = ShardStream(unlabeled.sizes, unlabeled_batch, seed + 1, rank, world_size)
        elif unlabeled is not None:
            self._unlabeled_stream = IndexStream(len(unlabeled), unlabeled_batch, seed + 1, rank, world_size)
        count, size = len(labeled), batch
        if self._unlabeled_stream:
            count, size = self._unlabeled_stream.count, unlabeled_batch
        self.steps_per_epoch = max(1, -(-count // (size * world_size)))

    def load(self, step: int) -> tuple[LabeledBatch, UnlabeledBatch | None]:
        """Returns the batches of a step."""
        labeled = labeled_batch(self.labeled, self._labeled_stream.indices(step))
        unlabeled = None
        if self.unlabeled is not None and self._unlabeled_stream is not None:
            unlabeled = unlabeled_batch(self.unlabeled, self._unlabeled_stream.indices(step))
        if self._pin_memory:
            return labeled.pin_memory(), unlabeled.pin_memory() if unlabeled else None
        return labeled, unlabeled

    def steps(self, start: int, stop: int) -> Iterator[tuple[LabeledBatch, UnlabeledBatch | None]]:
        """Yields the batches of the steps from `start` up to `stop`, loaded ahead."""
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            pending: deque[Future[tuple[LabeledBatch, UnlabeledBatch | None]]] = deque()
            following = start
            try:
                while following < stop or pending:
                    while following < stop and len(pending) <= self.workers:
                        pending.append(pool.submit(self.load, following))
                        following += 1
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
