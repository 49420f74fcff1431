"""Drawing of poses on images, and sheets of images side by side."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from semipose.data.images import read_image, write_image
from semipose.errors import DataError
from semipose.inference.legend import add_legend, joint_color, write_beside
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton
from semipose.utils.files import is_file
from semipose.utils.text import plural

log = logging.getLogger(__name__)

LEFT, RIGHT, MIDDLE = (0, 158, 245), (255, 128, 14), (240, 228, 66)
"""RGB colors of left, right and other limbs: blue, orange and yellow, which are safe for colorblind readers."""

RED, WHITE = (230, 40, 50), (255, 255, 255)
"""RGB colors of the rings around wrong joints and around labeled joints."""

_OUTLINE = (20, 20, 20)
_FRACTION = 4  # fractional bits of the sub-pixel positions that OpenCV takes


def draw_pose(
    image: np.ndarray,
    joints: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
    *,
    min_score: float = 0.2,
    scale: float = 1.0,
    names: bool = False,
) -> np.ndarray:
    """Draws the poses of N persons on a copy of the image. The line width depends on the size of the person.

    A joint has the color of `joint_color`, a limb that of its side.

    Args:
        image: (H, W, 3) uint8 RGB.
        joints: (N, K, 2) in pixels.
        scores: (N, K); of predictions, their `confidences`.
        skeleton: Limbs and sides of the K joints.
        min_score: Joints with a lower score or the score 0, and limbs that end in one, are not drawn.
        scale: Factor by which the image is enlarged.
        names: Whether the name of each joint is written beside it.

    Returns:
        (scale × H, scale × W, 3) uint8 RGB.
    """
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if scale != 1 else image.copy()
    for points, values in zip((joints + 0.5) * scale - 0.5, scores, strict=True):
        shown = (values >= min_score) & (values > 0)
        if not shown.any() or not np.isfinite(points[shown]).all():
            continue
        extent = float(np.ptp(points[shown], axis=0).max()) if shown.sum() > 1 else 40.0
        width = int(np.clip(round(extent / 70), 1, 8))
        radius = max(width + 1, round(min(max(extent / 15, 3), min(size) / 130)))
        for a, b in skeleton.limbs:
            if shown[a] and shown[b]:
                _line(canvas, points[a], points[b], _color(skeleton, a, b), width)
        for k in np.flatnonzero(shown).tolist():
            _dot(canvas, points[k], joint_color(k), radius)
        if names:
            for k in np.flatnonzero(shown).tolist():
                write_beside(canvas, skeleton.joints[k], points[k], radius + 3)
    return canvas


def draw_predictions(
    persons: PoseDataset,
    predictions: Sequence[Prediction],
    skeleton: Skeleton,
    out: Path,
    *,
    min_score: float = 0.2,
    names: bool = False,
) -> list[Path]:
    """Writes NAME_pose.jpg below `out` for each image with predictions, with a legend, and returns the files.

    Images from several folders keep their path relative to the common folder. Images that differ only in their suffix
    get the suffix added to NAME, so that all names differ.
    """
    images = persons.image_paths
    by_image: dict[int | str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        by_image[prediction.image_id].append(prediction)
    targets = _output_names([images[identity] for identity in by_image])
    written, replaced = list[Path](), 0
    for identity, persons_found in by_image.items():
        path = images[identity]
        joints, scores = np.array([p.joints for p in persons_found]), np.array([p.confidences for p in persons_found])
        target = out / targets[path]
        replaced += is_file(target)
        drawn = draw_pose(read_image(path), joints, scores, skeleton, min_score=min_score, names=names)
        save_image(add_legend(drawn, skeleton.joints), target)
        written.append(target)
    if replaced:
        log.warning("%s: %s of earlier predictions replaced", out, plural(replaced, "drawing"))
    return written


def draws_among(images: Sequence[Path], out: Path) -> bool:
    """Returns whether `out`, or a folder below it that `draw_predictions` writes to, holds one of the images."""
    drawings = {out, *((out / name).parent for name in _output_names(images).values())}
    return not {*map(Path.resolve, drawings)}.isdisjoint(map(Path.resolve, {image.parent for image in images}))


def _output_names(paths: Sequence[Path]) -> dict[Path, Path]:
    """Returns the path of each image's drawing, relative to the output folder."""
    shared = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    plain = {path: path.relative_to(shared).with_name(f"{path.stem}_pose.jpg") for path in paths}
    taken = Counter(plain.values())
    return {
        path: name if taken[name] == 1 else name.with_name(f"{path.stem}_{path.suffix[1:]}_pose.jpg")
        for path, name in plain.items()
    }


def comparison_sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], *, tile: int = 260, across: int = 2, gap: int = 6
) -> np.ndarray:
    """Arranges rows of images under column titles, as `across` groups of columns side by side, on white."""
    header, columns = 34, len(titles)
    groups = [rows[i::across] for i in range(min(across, len(rows)))]
    height = header + max(len(g) for g in groups) * (tile + gap)
    width = len(groups) * (columns * (tile + gap) + 3 * gap) - 3 * gap
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    for number, group in enumerate(groups):
        left = number * (columns * (tile + gap) + 3 * gap)
        for column, title in enumerate(titles):
            _title(sheet, title, left + column * (tile + gap), tile, header)
        for line, row in enumerate(group):
            for column, canvas in enumerate(row):
                top, start = header + line * (tile + gap), left + column * (tile + gap)
                sheet[top : top + tile, start : start + tile] = fit_image(canvas, tile)
    return sheet


def fit_image(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the image, scaled to fit, in the middle of a light gray square (side, side, 3) uint8."""
    scaled = scale_image(image, side)
    framed = np.full((side, side, 3), 245, dtype=np.uint8)
    top, left = (side - scaled.shape[0]) // 2, (side - scaled.shape[1]) // 2
    framed[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return framed


def scale_image(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the image with a longer side of `side` pixels."""
    factor = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def draw_rings(
    image: np.ndarray, points: np.ndarray, color: tuple[int, int, int], radius: int, width: int = 2
) -> np.ndarray:
    """Draws a ring of a radius in pixels around each of the points (N, 2), on a copy of the image."""
    canvas = image.copy()
    for point in points:
        cv2.circle(canvas, _fixed(point), radius * 2**_FRACTION, color, width, cv2.LINE_AA, _FRACTION)
    return canvas


def draw_errors(image: np.ndarray, labeled: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Draws, on a copy of the image, a white line from each predicted joint to a ring in its color at its label.

    Args:
        image: (H, W, 3) uint8 RGB.
        labeled: (K, 2) labels in pixels.
        predicted: (K, 2) predictions in pixels.
        known: (K,) bool, the labeled joints.
    """
    canvas = image.copy()
    for k in np.flatnonzero(known).tolist():
        _line(canvas, labeled[k], predicted[k], WHITE, 1)
    for k in np.flatnonzero(known).tolist():
        for color, width in ((_OUTLINE, 4), (joint_color(k), 2)):
            cv2.circle(canvas, _fixed(labeled[k]), 7 * 2**_FRACTION, color, width, cv2.LINE_AA, _FRACTION)
    return canvas


def draw_masks(image: np.ndarray, masks: np.ndarray, fill: tuple[int, int, int]) -> np.ndarray:
    """Fills the masked pixels (H, W) bool of a copy of the image and outlines them."""
    canvas = image.copy()
    canvas[masks] = fill
    contours, _ = cv2.findContours(masks.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(canvas, contours, -1, RIGHT, 2)


def save_image(image: np.ndarray, path: Path) -> None:
    """Writes an RGB image (H, W, 3) uint8 as .png or .jpg.

    Raises:
        DataError: If the suffix is neither, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise DataError(f"image {path} cannot be written with this suffix; use .png or .jpg")
    try:
        write_image(image, path, quality=92)
    except OSError as error:
        raise DataError(f"image {path} cannot be written ({error.strerror}); choose another folder") from None


def _color(skeleton: Skeleton, a: int, b: int) -> tuple[int, int, int]:
    """The color of the limb between two joints."""
    sides = {skeleton.side(i) for i in (a, b)} - {None}
    return {"left": LEFT, "right": RIGHT}.get(sides.pop() or "", MIDDLE) if len(sides) == 1 else MIDDLE


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.clip(point, -1e4, 1e5) * 2**_FRACTION
    return round(float(x)), round(float(y))


def _line(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, color: tuple[int, int, int], width: int) -> None:
    cv2.line(canvas, _fixed(a), _fixed(b), _OUTLINE, width + 2, cv2.LINE_AA, _FRACTION)
    cv2.line(canvas, _fixed(a), _fixed(b), color, width, cv2.LINE_AA, _FRACTION)


def _dot(canvas: np.ndarray, point: np.ndarray, color: tuple[int, int, int], radius: int) -> None:
    cv2.circle(canvas, _fixed(point), (radius + 1) * 2**_FRACTION, _OUTLINE, -1, cv2.LINE_AA, _FRACTION)
    cv2.circle(canvas, _fixed(point), radius * 2**_FRACTION, color, -1, cv2.LINE_AA, _FRACTION)


def _title(sheet: np.ndarray, text: str, left: int, tile: int, header: int) -> None:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)
    origin = (left + (tile - width) // 2, (header + height) // 2)
    cv2.putText(sheet, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (40, 40, 40), 1, cv2.LINE_AA)
