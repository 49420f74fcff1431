"""Pictures of poses: joints and limbs on photographs, and sheets that put several side by side."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from semipose.data.images import read_image, write_image
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import Skeleton, side_and_part

LEFT, RIGHT, MIDDLE = (0, 158, 245), (255, 128, 14), (240, 228, 66)
"""RGB of left, right and other limbs: blue, orange, yellow, told apart by colorblind eyes too."""

_OUTLINE = (20, 20, 20)
_FRACTION = 4  # bits of sub-pixel positions that OpenCV draws with


def draw_pose(
    image: np.ndarray,
    joints: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
    *,
    min_score: float = 0.2,
    scale: float = 1.0,
) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB, enlarged by `scale`, with N people: `joints` (N, K, 2) in pixels, `scores` (N, K).

    Joints of a lower score than `min_score`, and limbs that end in one, are not drawn. Line width follows the
    person's size.
    """
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if scale != 1 else image.copy()
    for points, values in zip((joints + 0.5) * scale - 0.5, scores, strict=True):
        shown = values >= min_score
        if not shown.any() or not np.isfinite(points[shown]).all():
            continue
        extent = float(np.ptp(points[shown], axis=0).max()) if shown.sum() > 1 else 40.0
        width = int(np.clip(round(extent / 70), 1, 8))
        for a, b in skeleton.limbs:
            if shown[a] and shown[b]:
                _line(picture, points[a], points[b], _color(skeleton, a, b), width)
        for k in np.flatnonzero(shown):
            _dot(picture, points[k], _color(skeleton, int(k), int(k)), width + 1)
    return picture


def draw_predictions(
    persons: PoseDataset, predictions: Sequence[Prediction], skeleton: Skeleton, out: Path, *, min_score: float = 0.2
) -> list[Path]:
    """One picture per photograph with all its predictions, NAME_pose.jpg below `out`; the files written.

    Photographs of several folders keep their place below the folder they share, and those that differ in their endings
    alone keep these: no picture stands for two photographs, and none takes a photograph's own name.
    """
    images = persons.image_paths
    by_image: dict[int | str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        by_image[prediction.image_id].append(prediction)
    targets = _picture_names([images[identity] for identity in by_image])
    written = []
    for identity, found in by_image.items():
        path = images[identity]
        joints, scores = np.array([p.joints for p in found]), np.array([p.scores for p in found])
        target = out / targets[path]
        save_image(draw_pose(read_image(path), joints, scores, skeleton, min_score=min_score), target)
        written.append(target)
    return written


def _picture_names(paths: Sequence[Path]) -> dict[Path, Path]:
    """Where each photograph's picture goes, relative to the folder of pictures; all different."""
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
    """Rows of pictures under column titles, `across` groups of columns side by side; white background."""
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
            for column, picture in enumerate(row):
                top, start = header + line * (tile + gap), left + column * (tile + gap)
                sheet[top : top + tile, start : start + tile] = _fit(picture, tile)
    return sheet


def save_image(image: np.ndarray, path: Path) -> None:
    """Writes RGB (H, W, 3) uint8 as .png or .jpg, by renaming; DataError when the place or the ending won't do."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise DataError(f"picture {path} has no ending that can be written; use .png or .jpg")
    try:
        write_image(image, path, quality=92)
    except OSError as error:
        raise DataError(f"picture {path} can't be written ({error.strerror}); choose another place") from None


def _color(skeleton: Skeleton, a: int, b: int) -> tuple[int, int, int]:
    sides = {side_and_part(skeleton.joints[i])[0] for i in (a, b)} - {None}
    return {"left": LEFT, "right": RIGHT}.get(sides.pop() or "", MIDDLE) if len(sides) == 1 else MIDDLE


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = np.clip(point, -1e4, 1e5) * 2**_FRACTION
    return round(float(x)), round(float(y))


def _line(picture: np.ndarray, a: np.ndarray, b: np.ndarray, color: tuple[int, int, int], width: int) -> None:
    cv2.line(picture, _fixed(a), _fixed(b), _OUTLINE, width + 2, cv2.LINE_AA, _FRACTION)
    cv2.line(picture, _fixed(a), _fixed(b), color, width, cv2.LINE_AA, _FRACTION)


def _dot(picture: np.ndarray, point: np.ndarray, color: tuple[int, int, int], radius: int) -> None:
    cv2.circle(picture, _fixed(point), (radius + 1) * 2**_FRACTION, _OUTLINE, -1, cv2.LINE_AA, _FRACTION)
    cv2.circle(picture, _fixed(point), radius * 2**_FRACTION, color, -1, cv2.LINE_AA, _FRACTION)


def _fit(picture: np.ndarray, tile: int) -> np.ndarray:
    factor = tile / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    framed = np.full((tile, tile, 3), 245, dtype=np.uint8)
    top, left = (tile - size[1]) // 2, (tile - size[0]) // 2
    framed[top : top + size[1], left : left + size[0]] = small
    return framed


def _title(sheet: np.ndarray, text: str, left: int, tile: int, header: int) -> None:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)
    place = (left + (tile - width) // 2, (header + height) // 2)
    cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (40, 40, 40), 1, cv2.LINE_AA)
