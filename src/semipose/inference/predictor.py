"""Runs networks over person crops: heatmaps (averaged over networks and, if asked, the mirror image) to joints."""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from semipose.augment.views import eval_view
from semipose.data.crops import CropGeometry, Crops
from semipose.data.loader import default_workers, unlabeled_batch
from semipose.losses import HeatmapLoss
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.ops.heatmaps import Decoder, decode
from semipose.structures.batches import UnlabeledBatch, View
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.utils.progress import NO_PROGRESS, Progress


class FrameCrops(Crops):
    """Crops of the persons in one image (H, W, 3) uint8 RGB that is in memory."""

    def __init__(self, frame: np.ndarray, persons: PoseDataset, geometry: CropGeometry) -> None:
        self.frame, self.dataset, self.geometry = frame, persons, geometry

    def __len__(self) -> int:
        return len(self.dataset)

    def crop(self, index: int) -> np.ndarray:
        """Crop (S, T, 3) uint8 RGB."""
        return self.geometry.cut(self.frame, self.dataset[index].box)


@dataclass(frozen=True)
class Predictor:
    """How heatmaps are made and read. Several networks form an ensemble: their heatmaps are averaged.

    `sigma` is the width in cells of the Gaussians the networks were trained on; DARK smooths by it.
    """

    networks: Sequence[nn.Module]
    loss: HeatmapLoss
    flip_test: bool = False
    decoder: Decoder = "dark"
    sigma: float = 2.0
    batch: int = 64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def heatmaps(self, view: View, flip_order: Sequence[int]) -> Tensor:
        """Mean heatmaps (B, K, h, w) of a view."""
        maps = self._mean(view.images)
        if self.flip_test:
            mirrored = self._mean(view.images.flip(-1)).flip(-1)
            maps = (maps + mirrored[:, geometry.cached_tensor(tuple(flip_order), maps.device)]) / 2
        return maps

    def predict(self, crops: Crops, progress: Progress = NO_PROGRESS) -> list[Prediction]:
        """One prediction per person of `crops`, in its order. Networks return to the mode they were in.

        `watch(iterable, total, what)` may wrap the batches in a progress bar.
        """
        modes = [network.training for network in self.networks]
        for network in self.networks:
            network.eval()
        try:
            with torch.inference_mode():
                views = self._views(crops)
                views = progress.track(views, -(-len(crops.dataset) // self.batch), "predicting")
                return [p for chunk, view in views for p in self._read(crops, chunk, view)]
        finally:
            for network, mode in zip(self.networks, modes, strict=True):
                network.train(mode)

    def _mean(self, images: Tensor) -> Tensor:
        maps = [self.loss.heatmaps(network.forward_main(images)) for network in self.networks]  # type: ignore[operator]
        return torch.stack(maps).mean(dim=0)

    def _views(self, crops: Crops) -> Iterable[tuple[list[int], View]]:
        """Chunks of persons and their upright views; the next chunks are decoded while the network works."""
        everyone, ahead = range(len(crops.dataset)), default_workers()
        chunks = [list(everyone[i : i + self.batch]) for i in range(0, len(everyone), self.batch)]
        with ThreadPoolExecutor(ahead) as pool:
            waiting = deque(pool.submit(self._load, crops, chunk) for chunk in chunks[:ahead])
            for n, chunk in enumerate(chunks):
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(self._load, crops, later) for later in chunks[n + ahead : n + ahead + 1])
                yield chunk, eval_view(batch.to(self.device), crops.geometry.input_size)

    def _load(self, crops: Crops, chunk: list[int]) -> UnlabeledBatch:
        batch = unlabeled_batch(crops, chunk)
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def _read(self, crops: Crops, chunk: list[int], view: View) -> Iterable[Prediction]:
        maps = self.heatmaps(view, crops.dataset.skeleton.flip_order)
        joints, scores = decode(maps, STRIDE, self.decoder, self.sigma)
        in_crop = geometry.transform_points(geometry.inverse(view.from_crop), joints).cpu().double().numpy()
        values = scores.cpu().double().numpy()
        for index, points, value in zip(chunk, in_crop, values, strict=True):
            person = crops.dataset[index]
            inverse = np.linalg.inv(crops.geometry.from_image(person.box))
            yield Prediction(
                image_id=person.image_id,
                annotation_id=person.annotation_id if person.annotation_id >= 0 else None,
                joints=points @ inverse[:2, :2].T + inverse[:2, 2],
                scores=value,
                score=float(person.score * value.mean()),
                box=person.box,
            )
