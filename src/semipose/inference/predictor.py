"""Prediction of joints from person crops, with heatmaps averaged over networks and mirror images."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from semipose.augment.views import eval_view
from semipose.data.crops import CropGeometry, Crops, LazyCrops
from semipose.data.data_errors import DataErrors
from semipose.data.loader import default_workers, unlabeled_batch
from semipose.errors import RunError
from semipose.losses import HeatmapLoss
from semipose.metrics.calibration import Calibration
from semipose.metrics.instance_score import InstanceScore, instance_scores
from semipose.models.heads import STRIDE
from semipose.models.pose_net import PoseNet
from semipose.ops import geometry
from semipose.ops.heatmaps import Decoder, decode, local_maxima
from semipose.structures.batches import UnlabeledBatch, View
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.utils.progress import NO_PROGRESS, Progress

log = logging.getLogger(__name__)

Precision = Literal["auto", "32-true"]


class FrameCrops(Crops):
    """Crops of the persons in one image in memory, (H, W, 3) uint8 RGB."""

    def __init__(self, frame: np.ndarray, persons: PoseDataset, geometry: CropGeometry) -> None:
        self.frame, self.dataset, self.geometry = frame, persons, geometry

    def __len__(self) -> int:
        return len(self.dataset)

    def crop(self, index: int) -> np.ndarray:
        """Returns a crop (S, T, 3) uint8 RGB."""
        return self.geometry.cut(self.frame, self.dataset[index].box)


@dataclass
class Limits:
    """What proved too much while predicting.

    Attributes:
        batch: The largest number of crops that fit the memory; None while none was too large.
        overflow: Whether 16 bit were too few for the values in a network.
    """

    batch: int | None = None
    overflow: bool = False


@dataclass(frozen=True)
class Predictor:
    """Networks and settings that convert crops to predictions.

    Attributes:
        networks: One network, or several whose heatmaps are averaged (an ensemble).
        loss: Turns raw outputs into heatmaps.
        flip_test: Whether heatmaps are averaged with those of the mirrored image; the skeleton needs left/right pairs.
        decoder: How heatmaps become joints.
        sigma: Width of the Gaussian targets of the training in heatmap pixels; the DARK decoder smooths by it.
        instance_score: How the peaks of the joints become the score of a person.
        unlearned_joints: Joints that the training had no labels of: their score is 0, and they do not count in a
            person's.
        calibration: Converts peaks to probabilities; None leaves predictions without them.
        batch: Crops per forward pass; halved if the memory of a GPU is too small.
        device: Where the networks are.
        precision: `auto` computes the heatmaps in 16 bit on a CUDA GPU, or in 32 bit if they overflow there; `32-true`
            never does.
        limits: What proved too much so far.
    """

    networks: Sequence[PoseNet]
    loss: HeatmapLoss
    flip_test: bool = False
    decoder: Decoder = "dark"
    sigma: float = 2.0
    instance_score: InstanceScore = "rescored"
    unlearned_joints: Sequence[str] = ()
    calibration: Calibration | None = None
    batch: int = 64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "auto"
    limits: Limits = field(default_factory=Limits)

    @property
    def in_16_bit(self) -> bool:
        """Whether heatmaps are computed in fp16; its rounding moves joints ten times less than that of bf16."""
        return self.precision == "auto" and self.device.type == "cuda" and not self.limits.overflow

    def heatmaps(self, view: View, flip_order: Sequence[int]) -> Tensor:
        """Returns the mean heatmaps (B, K, h, w) of a view."""
        maps = self._mean(view.images)
        if self.flip_test:
            mirrored = self._mean(view.images.flip(-1)).flip(-1)
            maps = (maps + mirrored[:, geometry.cached_tensor(tuple(flip_order), maps.device)]) / 2
        return maps

    def predict(self, crops: Crops, progress: Progress = NO_PROGRESS) -> list[Prediction]:
        """Returns one prediction per person of `crops`, in the same order.

        The networks run in evaluation mode and are then set back to their previous mode.

        Raises:
            RunError: If a prediction is not finite.
        """
        with self._evaluation():
            views = progress.track(self._views(crops), self._batches(crops), "predicting")
            return [p for chunk, view in views for p in self._decode(crops, chunk, view)]

    def local_maxima(
        self, crops: Crops, count: int, progress: Progress = NO_PROGRESS
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the highest local maxima of the mean of the joints' heatmaps of each crop.

        Args:
            crops: The crops.
            count: Number of maxima.
            progress: Shows the progress.

        Returns:
            For each crop the positions (count, 2) in pixels of its image and their heights (count,), from high to low.
        """
        points, heights = list[np.ndarray](), list[np.ndarray]()

        def highest(part: View) -> tuple[Tensor, Tensor]:
            found, peaks = local_maxima(self._mean(part.images).mean(dim=1), count, STRIDE)
            return geometry.transform_points(geometry.inverse(part.from_crop), found), peaks

        with self._evaluation():
            for chunk, view in progress.track(self._views(crops), self._batches(crops), "finding boxes"):
                in_crop, peaks = self._in_parts(view, highest)
                scales, offsets = crops.geometry.scales_and_offsets(crops.dataset.instances.boxes[chunk])
                points += list((in_crop - offsets[:, None]) / scales[:, None, None])
                heights += list(peaks)
        return points, heights

    def features(self, crops: Crops) -> np.ndarray:
        """Returns features of the persons of `crops`, (N, C) float64 of length 1.

        They are those of the backbone of the first network that its head takes, averaged over all positions.
        """
        network = self.networks[0]

        def means(view: View) -> tuple[Tensor]:
            with self._autocast():
                return (network.backbone(view.images)[0].float().mean(dim=(2, 3)),)

        with self._evaluation():
            found = [self._in_parts(view, means)[0] for _, view in self._views(crops)]
        return torch.nn.functional.normalize(torch.from_numpy(np.concatenate(found)), dim=1).numpy()

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Sets the networks to evaluation mode and disables gradients within the block."""
        modes = [network.training for network in self.networks]
        for network in self.networks:
            network.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for network, mode in zip(self.networks, modes, strict=True):
                network.train(mode)

    def _batches(self, crops: Crops) -> int:
        return -(-len(crops.dataset) // self.batch)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.float16) if self.in_16_bit else nullcontext()

    def _mean(self, images: Tensor) -> Tensor:
        with self._autocast():
            maps = [self.loss.heatmaps(network.forward_main(images)).float() for network in self.networks]
        return torch.stack(maps).mean(dim=0)

    def _views(self, crops: Crops) -> Iterator[tuple[list[int], View]]:
        """Yields batches of indices with their views; threads decode the next batches while the network runs."""
        indices, ahead = range(len(crops.dataset)), default_workers()
        chunks = [list(indices[i : i + self.batch]) for i in range(0, len(indices), self.batch)]
        with ThreadPoolExecutor(ahead) as pool:
            pending = deque(pool.submit(self._load, crops, chunk) for chunk in chunks[:ahead])
            for n, chunk in enumerate(chunks):
                batch = pending.popleft().result()
                pending.extend(pool.submit(self._load, crops, later) for later in chunks[n + ahead : n + ahead + 1])
                yield chunk, eval_view(batch.to(self.device), crops.geometry.input_size)

    def _load(self, crops: Crops, chunk: list[int]) -> UnlabeledBatch:
        batch = unlabeled_batch(crops, chunk)
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def _joints(self, view: View, flip_order: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the joints (B, K, 2) in crop pixels and their peaks (B, K), float64."""

        def decoded(part: View) -> tuple[Tensor, Tensor]:
            joints, peaks = decode(self.heatmaps(part, flip_order), STRIDE, self.decoder, self.sigma)
            return geometry.transform_points(geometry.inverse(part.from_crop), joints), peaks

        joints, peaks = self._in_parts(view, decoded)
        return joints, peaks

    def _in_parts(self, view: View, compute: Callable[[View], tuple[Tensor, ...]]) -> list[np.ndarray]:
        """Returns what `compute` gives for a view, float64, in as many passes as the memory of the GPU needs.

        The last tensor is not finite where 16 bit overflow.
        """
        limits, found, start = self.limits, list[list[np.ndarray]](), 0
        while start < len(view):
            part = view[start : start + (limits.batch or len(view))]
            values = self._fitting(part, compute)
            if values is None:
                limits.batch = self._half_of(len(part), view)
            elif self.in_16_bit and not np.isfinite(values[-1]).all():
                limits.overflow = True
                log.warning("heatmaps overflow in 16 bit; they are computed in 32 bit")
            else:
                found.append(values)
                start += len(part)
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _fitting(self, view: View, compute: Callable[[View], tuple[Tensor, ...]]) -> list[np.ndarray] | None:
        """Returns what `compute` gives, or None if the GPU's memory is too small; no tensor of that pass is left."""
        try:
            return [tensor.cpu().double().numpy() for tensor in compute(view)]
        except torch.OutOfMemoryError:
            return None

    def _half_of(self, batch: int, view: View) -> int:
        """Returns half of a batch that does not fit the memory, and logs it."""
        if batch == 1:
            height, width = view.images.shape[-2:]
            raise RunError(
                f"one person at {height}×{width} does not fit the memory of {self.device}; set `device` to cpu, or end "
                "what else uses it"
            )
        torch.cuda.empty_cache()
        log.warning(f"{batch} persons at a time do not fit the memory of {self.device}; now {batch // 2}")
        return batch // 2

    def _decode(self, crops: Crops, chunk: list[int], view: View) -> Iterable[Prediction]:
        in_crop, peaks = self._joints(view, crops.dataset.skeleton.flip_order)
        learned = np.array([joint not in self.unlearned_joints for joint in crops.dataset.skeleton.joints])
        persons = [crops.dataset[index] for index in chunk]
        box_scores = np.array([person.score for person in persons])
        if not (np.isfinite(in_crop).all() and np.isfinite(peaks).all()):
            raise RunError("a prediction is not finite: the network has diverged; train it with a lower learning rate")
        of_person = instance_scores(peaks[:, learned], box_scores, self.instance_score).tolist()
        for person, points, own, score in zip(persons, in_crop, peaks * learned, of_person, strict=True):
            to_image = np.linalg.inv(crops.geometry.from_image(person.box))
            yield Prediction(
                image_id=person.image_id,
                annotation_id=person.annotation_id if person.annotation_id >= 0 else None,
                joints=points @ to_image[:2, :2].T + to_image[:2, 2],
                scores=own,
                score=score,
                box=person.box,
                category_id=crops.dataset.category_id_of(person),
                box_score=person.score,
                crop_area=crops.geometry.area(person.box),
                individual=person.individual,
                calibrated=None if self.calibration is None else self.calibration.confidences(own) * learned,
            )


def predict_dataset(
    predictor: Predictor,
    persons: PoseDataset,
    geometry: CropGeometry,
    data_errors: DataErrors,
    name: str,
    progress: Progress = NO_PROGRESS,
) -> tuple[list[Prediction], set[Path]]:
    """Predicts the pose of each person of a data set.

    Args:
        predictor: The networks.
        persons: The data set, whose boxes are used.
        geometry: The crop of a box that is the network input.
        data_errors: Decides whether an unreadable image is an error or is left out.
        name: The name of the set in `data_errors`.
        progress: Shows the progress.

    Returns:
        One prediction per person whose image can be read, and the images that cannot be read.
    """
    failed: dict[Path, str] = {}
    predictions = predictor.predict(LazyCrops(persons, geometry, failed), progress)
    if failed:
        data_errors.on_unreadable(name)(persons.source, failed, len({p.image for p in persons.instances}))
    pairs = zip(predictions, persons.instances, strict=True)
    return [prediction for prediction, person in pairs if person.image not in failed], set(failed)
