"""Heatmaps by joint beside ground truth: of several runs (figure 5 of TRS) and of the networks of a run (figure 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from semipose.augment.views import eval_view
from semipose.data.crops import CropGeometry, LazyCrops
from semipose.data.images import read_image
from semipose.data.loader import labeled_batch
from semipose.inference.draw import WHITE, draw_rings
from semipose.inference.pose_model import PoseModel
from semipose.models.heads import STRIDE
from semipose.ops import geometry
from semipose.ops.heatmaps import encode, peaks
from semipose.reports.plots import overlay
from semipose.reports.runs import ReportedRun
from semipose.reports.sheets import Sheet, SheetRow, Tile
from semipose.structures.instances import PoseDataset

SIDE = 256
"""Smallest longer side of the picture of a network's input in pixels."""

HEATMAPS = (
    "A heatmap is red where it is high. In each row the networks share one scale, which ends at the highest value of "
    "any of them, and ground truth is the target Gaussian. The white ring is the labeled joint. Below each heatmap: "
    "its peak, and the distance of the peak from the labeled joint in pixels of the image."
)


@dataclass(frozen=True, eq=False)
class JointHeatmaps:
    """The heatmaps of a network for one person.

    Attributes:
        picture: (H, W, 3) uint8, the region of the network's input.
        heatmaps: (K, h, w) of level z, which teachers and inference use.
        targets: (K, h, w), the Gaussians at the labeled joints, 0 for unlabeled joints.
        joints: (K, 2), the labeled joints in cells.
        labeled: (K,) bool.
        cell: Side of a cell in pixels of the image.
    """

    picture: np.ndarray
    heatmaps: np.ndarray
    targets: np.ndarray
    joints: np.ndarray
    labeled: np.ndarray
    cell: float = 1.0

    @cached_property
    def peaks(self) -> np.ndarray:
        """(K,) the highest value of each heatmap."""
        return self.heatmaps.max(axis=(1, 2))

    @cached_property
    def distances(self) -> np.ndarray:
        """(K,) the distance in cells between the highest cell of each heatmap and the labeled joint."""
        cells = peaks(torch.from_numpy(self.heatmaps)[None])[0][0].numpy()
        found: np.ndarray = np.linalg.norm(cells - self.joints, axis=1)
        return found


def joint_heatmaps(model: PoseModel, truth: PoseDataset, index: int) -> JointHeatmaps:
    """Computes the heatmaps of a model for the person at a position of `truth`."""
    crops = LazyCrops(truth.subset([index]), model.geometry)
    batch = labeled_batch(crops, [0])
    view = eval_view(batch, model.geometry.input_size)
    with torch.inference_mode():
        heatmaps = model.predictor().heatmaps(view, truth.skeleton.flip_order)
        joints = geometry.transform_points(batch.to_input, batch.joints)
        targets, weights = encode(
            joints, batch.weights, (heatmaps.shape[-2], heatmaps.shape[-1]), model.loss.sigma, STRIDE
        )
    return JointHeatmaps(
        picture_of_input(truth, index, model.geometry),
        heatmaps[0].float().numpy(),
        targets[0].numpy(),
        ((joints[0] + 0.5) / STRIDE - 0.5).numpy(),
        weights[0].numpy() > 0,
        cell_size(model.geometry, truth[index].box),
    )


def cell_size(crop: CropGeometry, box: Sequence[float]) -> float:
    """Returns the side of a heatmap's cell in pixels of the image, for a box [x, y, width, height]."""
    return float(STRIDE / (crop.to_input @ crop.from_image(box))[0, 0])


def picture_of_input(persons: PoseDataset, index: int, crop: CropGeometry) -> np.ndarray:
    """Returns the region of the network's input for a person, at a whole multiple of its size, as uint8 RGB."""
    height, width = crop.input_size
    factor = enlargement(crop)
    enlarged = replace(crop, input_size=(height * factor, width * factor), context=1.0, oversample=1.0)
    person = persons[index]
    return enlarged.cut(read_image(person.image), person.box)


def enlargement(crop: CropGeometry) -> int:
    """Returns how many times larger `picture_of_input` is than the network's input."""
    return max(1, -(-SIDE // max(crop.input_size)))


def heatmap_sheet(columns: Mapping[str, JointHeatmaps], joints: Sequence[str], title: str, text: str = "") -> Sheet:
    """Draws the heatmap of each labeled joint of a person for several networks beside ground truth.

    Reference: TRS, figures 5 and 6.

    Args:
        columns: The heatmaps of the same person by the name of the network.
        joints: Names of the K joints.
        title: Heading.
        text: What the networks are.
    """
    first = next(iter(columns.values()))
    rows = []
    for k in np.flatnonzero(first.labeled).tolist():
        scale = max(1e-6, *(float(found.peaks[k]) for found in columns.values()))
        truth = _tile(first, first.targets[k], k, "target")
        tiles = [_tile(found, found.heatmaps[k] / scale, k, _caption(found, k)) for found in columns.values()]
        rows.append(SheetRow(joints[k], [truth, *tiles]))
    return Sheet(title, f"{text} {HEATMAPS}".strip(), ["ground truth", *columns], rows)


def _caption(found: JointHeatmaps, k: int) -> str:
    return f"peak {found.peaks[k]:.2f}, {found.distances[k] * found.cell:.1f} px off"


def _tile(found: JointHeatmaps, heatmap: np.ndarray, k: int, caption: str) -> Tile:
    drawn = overlay(found.picture, heatmap[None])
    factor = drawn.shape[0] / found.heatmaps.shape[1]
    return Tile(draw_rings(drawn, (found.joints[k : k + 1] + 0.5) * factor - 0.5, WHITE, radius=7), caption)


def run_heatmaps(runs: Sequence[ReportedRun], truth: PoseDataset, index: int) -> dict[str, JointHeatmaps]:
    """Computes the heatmaps of the first headline network of each finished run for a person, by the name of the run."""
    return {run.name: joint_heatmaps(run.network(), truth, index) for run in runs}


def levels_pair(runs: Sequence[ReportedRun]) -> list[ReportedRun]:
    """Returns two runs that differ in multi-level features only, the one without them first; else an empty list."""
    by_rest: dict[str, list[tuple[int, ReportedRun]]] = {}
    for run in runs:
        options = run.config.method.model_dump()
        levels = options.pop("levels", None)
        if levels is not None:
            rest = run.config.model_dump(mode="json", exclude={"method": True, "train": {"device"}})
            by_rest.setdefault(repr((rest, options)), []).append((levels, run))
    for group in by_rest.values():
        without = [run for levels, run in group if levels == 1]
        with_levels = [run for _, run in sorted(group, key=lambda pair: pair[0]) if run not in without]
        if without and with_levels:
            return [without[0], with_levels[0]]
    return []
