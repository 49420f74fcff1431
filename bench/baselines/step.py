"""A training step as public scripts implement it, computing the same as ours.

fp32 and NCHW; OpenCV warps every crop on the host, sample by sample; Gaussians are drawn and peaks found joint by joint
in NumPy; masks are set in a loop over samples and joints; the loss is a sum over joints and is read on the host after
each step. The random draws are those of our views, in the same order from the same generator, so that both sides
compute the same loss.
"""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from semipose.augment.masking import JointCutout
from semipose.augment.mixing import KeypointMix
from semipose.augment.views import ViewSampler
from semipose.losses import SpatialCrossEntropy
from semipose.methods.base import ConsistencyConfig, ConsistencyTarget, MethodContext
from semipose.models.backbone import MEAN, STD
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.structures.batches import HardView, LabeledBatch, LabeledView, UnlabeledBatch, View


class PlainViews(ViewSampler):
    """Views made one sample at a time."""

    def easy(self, batch: LabeledBatch | UnlabeledBatch) -> View:
        """Each crop by cv2.warpAffine on the host."""
        n, device = len(batch), batch.crops.device
        flipped = self._uniform(n, device) < self.config.flip_probability
        matrices = self._similarity(n, device, self.config.easy_rotation_probability, flipped) @ batch.to_input
        images = []
        for crop, matrix in zip(batch.crops.cpu(), matrices.cpu().numpy(), strict=True):
            border = tuple(255 * m for m in MEAN)
            image = warp(crop.permute(1, 2, 0).numpy().astype(np.float32), matrix, self.input_size, border)
            image = (image / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
            images.append(torch.from_numpy(image.transpose(2, 0, 1).copy()))
        return View(torch.stack(images).to(device), matrices, flipped)

    def labeled(self, batch: LabeledBatch) -> LabeledView:
        """Targets joint by joint."""
        view = self.easy(batch)
        joints = geometry.flip_joints(
            geometry.transform_points(view.from_crop, batch.joints), view.flipped, self.skeleton.flip_order
        )
        weights = geometry.flip_weights(batch.weights, view.flipped, self.skeleton.flip_order)
        maps = [
            gaussians(j, w, self.heatmap_size, self.sigma) for j, w in zip(joints.cpu(), weights.cpu(), strict=True)
        ]
        targets, kept = (torch.from_numpy(np.stack(part)) for part in zip(*maps, strict=True))
        return LabeledView(view, targets.to(view.images.device), kept.to(view.images.device))

    def hard(self, augmented: Tensor, from_easy: Tensor) -> HardView:
        """Each augmented image by cv2.warpAffine on the host."""
        moved = []
        for image, matrix in zip(augmented.cpu(), from_easy.cpu().numpy(), strict=True):
            warped = warp(image.permute(1, 2, 0).contiguous().numpy(), matrix, self.input_size, (0, 0, 0))
            moved.append(torch.from_numpy(warped.transpose(2, 0, 1).copy()))
        return HardView(torch.stack(moved).to(augmented.device), from_easy)


class PlainContext(MethodContext):
    """The parts of a method with loops where ours work on whole batches."""

    def supervised_loss(self, network: nn.Module, labeled: LabeledView) -> Tensor:
        """Joint by joint."""
        return self.compare(network(labeled.view.images), labeled.targets, labeled.weights)

    def hard_view(
        self, easy: View, heatmaps: Tensor, augmentations: list[Any], from_easy: Tensor | None = None
    ) -> HardView:
        """Peaks read in NumPy, masks set sample by sample; an augmentation without a loop here is ours."""
        joints, scores = read_peaks(heatmaps.cpu().numpy())
        where = torch.from_numpy(joints).to(easy.images.device)
        images = easy.images.clone()
        for augmentation in augmentations:
            if isinstance(augmentation, JointCutout):
                images = cut_joints(augmentation, images, where, self.views.generator)
            elif isinstance(augmentation, KeypointMix):
                images = mix_keypoints(augmentation, images, where, self.views.generator)
            else:
                images = augmentation(images, where, torch.from_numpy(scores).to(images.device), self.views.generator)
        if from_easy is None:
            from_easy = self.views.second_affine(len(easy), images.device)
        return self.views.hard(images, from_easy)

    def consistency_loss(self, student: nn.Module, target: ConsistencyTarget, config: ConsistencyConfig) -> Tensor:
        """A pass of the student for each teacher, and a loss joint by joint."""
        images = target.hard_view.images
        total = images.new_zeros(())
        for heatmaps in target.teacher_heatmaps:
            targets, weights, seen = self.targets(heatmaps, target.hard_view, config)
            weights = weights if target.joint_weights is None else weights * target.joint_weights
            total = total + self.compare(student(images), targets, weights, seen)
        return total

    def compare(self, outputs: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
        """The configured loss, level by level and joint by joint."""
        if isinstance(self.loss, SpatialCrossEntropy):
            return entropy_by_joint(outputs, targets / self.loss.mass, weights, seen)
        return by_joint(outputs, targets, weights, seen)


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: tuple[float, ...]) -> np.ndarray:
    """One float32 image (H, W, 3), moved by a pixel matrix (3, 3)."""
    return cv2.warpAffine(
        image, matrix[:2].astype(np.float64), (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=border
    )


def gaussians(joints: Tensor, weights: Tensor, size: tuple[int, int], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Targets of one sample, joint by joint."""
    height, width = size
    maps, kept = np.zeros((len(joints), height, width), np.float32), weights.numpy().copy()
    xs, ys = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    for k, (x, y) in enumerate((joints.numpy() + 0.5) / STRIDE - 0.5):
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            kept[k] = 0
        if kept[k] > 0:
            maps[k] = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))
    return maps, kept


def read_peaks(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arg-max with quarter offset in input pixels, and the values, joint by joint."""
    batch, count, height, width = heatmaps.shape
    joints, scores = np.zeros((batch, count, 2), np.float32), np.zeros((batch, count), np.float32)
    for b in range(batch):
        for k in range(count):
            one = heatmaps[b, k]
            y, x = divmod(int(one.argmax()), width)
            place = np.array([x, y], np.float32)
            scores[b, k] = one[y, x]
            if 0 < x < width - 1 and 0 < y < height - 1:
                place += 0.25 * np.sign([one[y, x + 1] - one[y, x - 1], one[y + 1, x] - one[y - 1, x]])
            joints[b, k] = (place + 0.5) * STRIDE - 0.5
    return joints, scores


def cut_joints(kind: JointCutout, images: Tensor, joints: Tensor, generator: torch.Generator) -> Tensor:
    """Joint cutout, one mask at a time."""
    batch, count = joints.shape[:2]
    chosen = torch.randint(count, (batch, kind.joints), generator=generator, device=images.device)
    centers = joints.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 2))
    noise = torch.randn(centers.shape, generator=generator, device=images.device)
    factor = (images.shape[-2] * images.shape[-1] / (256 * 192)) ** 0.5
    centers = (centers + noise * kind.jitter * factor).round().long()
    halves = kind.draw_half_sizes((batch, kind.joints, 2), images, generator)
    for b in range(batch):
        for n in range(kind.joints):
            (x, y), (dx, dy) = centers[b, n].tolist(), halves[b, n].tolist()
            images[b, :, max(0, y - dy) : max(0, y + dy + 1), max(0, x - dx) : max(0, x + dx + 1)] = 0
    return images


def mix_keypoints(kind: KeypointMix, images: Tensor, joints: Tensor, generator: torch.Generator) -> Tensor:
    """Keypoint-Mix, one patch at a time."""
    batch, count = joints.shape[:2]
    n, (height, width) = min(kind.joints, count), images.shape[-2:]
    order = torch.rand((batch, count), generator=generator, device=images.device).argsort(dim=1)
    places = joints.gather(1, order[:, :n].unsqueeze(-1).expand(-1, -1, 2)).round().long()
    halves = kind.draw_half_sizes((batch, 1), images, generator)
    augmented = images.clone()
    for b in range(batch):
        half = int(halves[b])
        side = 2 * half + 1
        total, seen = images.new_zeros(3, side, side), images.new_zeros(1, side, side)
        for source in (True, False):
            for i in range(n):
                x, y = int(places[b, i, 0]), int(places[b, i, 1])
                left, top = max(0, half - x), max(0, half - y)
                right, bottom = min(side, width - x + half), min(side, height - y + half)
                if right <= left or bottom <= top:
                    continue
                there = (slice(y - half + top, y - half + bottom), slice(x - half + left, x - half + right))
                here = (slice(top, bottom), slice(left, right))
                if source:
                    total[:, *here] += images[b, :, *there]
                    seen[:, *here] += 1
                else:
                    augmented[b, :, *there] = (total / seen.clamp_min(1))[:, *here]
    return augmented


def by_joint(outputs: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
    """Half the mean squared error, joint by joint, added over levels."""
    total = outputs.new_zeros(())
    levels, count = outputs.shape[1:3]
    for level in range(levels):
        for k in range(count):
            squares = (outputs[:, level, k] - targets[:, k]) ** 2 * weights[:, k, None, None]
            total = total + 0.5 * (squares if seen is None else squares * seen[:, 0]).mean() / count
    return total


def entropy_by_joint(outputs: Tensor, targets: Tensor, weights: Tensor, seen: Tensor | None = None) -> Tensor:
    """Mean cross-entropy between the target and the softmax over visible cells, joint by joint, added over levels."""
    total = outputs.new_zeros(())
    levels, count = outputs.shape[1:3]
    for level in range(levels):
        for k in range(count):
            logits, target = outputs[:, level, k].flatten(1), targets[:, k].flatten(1)
            if seen is not None:
                logits = logits.masked_fill(~seen[:, 0].flatten(1), -1e4)
                target = target * seen[:, 0].flatten(1)
            chances = torch.log_softmax(logits, dim=1)
            total = total - ((target * chances).sum(dim=1) * weights[:, k]).mean() / count
    return total
