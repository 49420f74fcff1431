"""Paired batches: endless, in an order that depends on the seed and the step alone, decoded ahead by threads."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from semipose.data.crops import Crops
from semipose.data.shards import ShardedCrops, ShardStream
from semipose.structures.batches import LabeledBatch, UnlabeledBatch
from semipose.utils.cpu import available_cpus


@dataclass(frozen=True)
class IndexStream:
    """Indices of a set of `count`, reshuffled every pass and never running dry.

    The indices of a step follow from the seed and the step: nothing needs saving to resume, and a pass whose last
    batch would be partial goes on in the next pass. `rank` of `world` processes takes its part of each joint batch.
    """

    count: int
    batch: int
    seed: int
    rank: int = 0
    world: int = 1

    def indices(self, step: int) -> list[int]:
        """The `batch` indices of a step; none twice in a pass."""
        start = (step * self.world + self.rank) * self.batch
        positions = range(start, start + self.batch)
        return [int(self._order(p // self.count)[p % self.count]) for p in positions]

    def _order(self, epoch: int) -> np.ndarray:
        return _permutation(self.count, self.seed, epoch)


_cached_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    key = (count, seed, epoch)
    if key not in _cached_orders:
        while len(_cached_orders) >= 8:
            _cached_orders.pop(next(iter(_cached_orders)))
        _cached_orders[key] = np.random.default_rng([seed, epoch]).permutation(count)
    return _cached_orders[key]


def unlabeled_batch(crops: Crops, indices: list[int]) -> UnlabeledBatch:
    """Crops at `indices`; nothing of their joints is read."""
    images = np.stack([crops.crop(i) for i in indices])
    to_input = torch.from_numpy(crops.geometry.to_input).float().repeat(len(indices), 1, 1)
    return UnlabeledBatch(torch.from_numpy(images).permute(0, 3, 1, 2), to_input)


def labeled_batch(crops: Crops, indices: list[int]) -> LabeledBatch:
    """Crops at `indices` with their joints in crop pixels."""
    plain = unlabeled_batch(crops, indices)
    joints, weights = zip(*(_joints(crops, i) for i in indices), strict=True)
    return LabeledBatch(
        plain.crops, plain.to_input, torch.from_numpy(np.stack(joints)), torch.from_numpy(np.stack(weights))
    )


def _joints(crops: Crops, index: int) -> tuple[np.ndarray, np.ndarray]:
    person = crops.dataset[index]
    if person.joints is None or person.visibility is None:
        raise ValueError(f"person {person.annotation_id} of {crops.dataset.source} has no labels")
    matrix = crops.geometry.from_image(person.box)
    joints = person.joints @ matrix[:2, :2].T + matrix[:2, 2]
    return joints.astype(np.float32), (person.visibility > 0).astype(np.float32)


def readers() -> int:
    """Threads that read ahead where nothing else is asked for: 3, with more cores all but two of them, 16 at most."""
    return max(3, min(16, available_cpus() - 2))


class PairedLoader:
    """One labeled and one unlabeled batch per step; the smaller set comes round more often.

    `epoch` is the number of persons of a pass where there are unlabeled ones that nothing learns from: trainings on one
    set then have epochs of one length, whatever their method.
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
        world: int = 1,
        ahead: int = 3,
        epoch: int | None = None,
        pin: bool = False,
    ) -> None:
        self.labeled, self.unlabeled, self.ahead, self._pin = labeled, unlabeled, ahead, pin
        self._labeled_order = IndexStream(len(labeled), batch, seed, rank, world)
        self._unlabeled_order: IndexStream | ShardStream | None = None
        if isinstance(unlabeled, ShardedCrops):
            self._unlabeled_order = ShardStream(unlabeled.sizes, unlabeled_batch, seed + 1, rank, world)
        elif unlabeled is not None:
            self._unlabeled_order = IndexStream(len(unlabeled), unlabeled_batch, seed + 1, rank, world)
        passes = IndexStream(epoch, unlabeled_batch, seed + 1, rank, world) if epoch else self._labeled_order
        self._passes = self._unlabeled_order or passes

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the unlabeled set, or over the labeled set where there is no other; at least 1."""
        return max(1, -(-self._passes.count // (self._passes.batch * self._passes.world)))

    def load(self, step: int) -> tuple[LabeledBatch, UnlabeledBatch | None]:
        """The batches of a step, in pinned memory where that was asked for."""
        labeled = labeled_batch(self.labeled, self._labeled_order.indices(step))
        unlabeled = None
        if self.unlabeled is not None and self._unlabeled_order is not None:
            unlabeled = unlabeled_batch(self.unlabeled, self._unlabeled_order.indices(step))
        if self._pin:
            return labeled.pin_memory(), unlabeled.pin_memory() if unlabeled else None
        return labeled, unlabeled

    def steps(self, start: int, stop: int) -> Iterator[tuple[LabeledBatch, UnlabeledBatch | None]]:
        """Batches of the steps from `start` up to `stop`, loaded `ahead` of their use."""
        with ThreadPoolExecutor(max(1, self.ahead)) as pool:
            waiting: deque[Future] = deque()
            following = start
            try:
                while following < stop or waiting:
                    while following < stop and len(waiting) <= self.ahead:
                        waiting.append(pool.submit(self.load, following))
                        following += 1
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
