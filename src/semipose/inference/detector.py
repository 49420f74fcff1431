"""Boxes of torchvision's detectors: found once, and kept in a COCO detections file beside the images or the video."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from semipose.data.images import read_image
from semipose.data.video import count_frames, read_frames
from semipose.errors import ConfigError, DataError
from semipose.utils.cache import cache_dir
from semipose.utils.files import is_file, make_folder, write_text
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import plural

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

DETECTORS = {"fasterrcnn_mobilenet_v3_large_320_fpn": "cpu", "fasterrcnn_resnet50_fpn_v2": "cuda"}
"""Detectors of torchvision, each with the type of device that it is the default of: a fast one and an accurate one."""
MIN_SCORE = 0.5
"""Detections of a lower score are left out if nothing else is given."""

Records = list[dict[str, Any]]
"""COCO detections: image_id, category_id, category_name, bbox and score."""


class Detector:
    """A detector of torchvision that was trained on COCO.

    Args:
        name: One of `DETECTORS`, whose weights come from torchvision's hub, or a weights file of torchvision, whose
            name begins with that of its detector; the default of the device if None.
        device: Where it runs.

    Raises:
        ConfigError: If the name is unknown or the weights can't be used.
    """

    def __init__(self, name: str | None, device: torch.device) -> None:
        from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

        path = Path(name) if name is not None and is_file(Path(name)) else None
        default = next((known for known, kind in DETECTORS.items() if kind == device.type), next(iter(DETECTORS)))
        stem = path.name if path else name or default
        found = next((known for known in DETECTORS if stem == known or (path and stem.startswith(known))), None)
        if found is None:
            raise ConfigError(
                f"`detector`: {name} is neither {' nor '.join(DETECTORS)} nor a file whose name begins with one of them"
            )
        self.name, self.device = found, device
        self.categories: list[str] = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
        self.network = (_from_hub(found) if path is None else _from_file(found, path)).eval().to(device)
        self.digest = sha256(found.encode() + (b"" if path is None else path.read_bytes())).hexdigest()

    def category(self, name: int | str | None) -> str:
        """Returns the name of a category of the detector; raises ConfigError if it has none of this name or id."""
        wanted = "person" if name is None else str(name)
        ids = {str(number): known for number, known in enumerate(self.categories)}
        found = ids.get(wanted, wanted.casefold())
        if found not in self.categories or found in ("__background__", "N/A"):
            listed = ", ".join(known for known in self.categories if known not in ("__background__", "N/A"))
            raise ConfigError(f"`box_category`: the detector has no {wanted!r}, but {listed}")
        if found == "mouse":
            log.warning("`box_category`: COCO's mouse is a computer mouse; for animals give a file as `boxes`")
        return found

    @torch.inference_mode()
    def detect(self, image: np.ndarray, image_id: int | str) -> Records:
        """Returns all detections in an image (H, W, 3) uint8 RGB."""
        tensor = torch.from_numpy(np.array(image)).to(self.device).permute(2, 0, 1).float() / 255
        (found,) = self.network([tensor])
        corners, scores = found["boxes"].cpu().double().numpy(), found["scores"].cpu().double().tolist()
        boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).round(2).tolist()
        return [
            {
                "image_id": image_id,
                "category_id": label,
                "category_name": self.categories[label],
                "bbox": box,
                "score": round(score, 5),
            }
            for box, score, label in zip(boxes, scores, found["labels"].tolist(), strict=True)
        ]


def _from_hub(name: str) -> "nn.Module":
    from torchvision.models import get_model

    try:
        network: nn.Module = get_model(name, weights="DEFAULT")
    except OSError as error:  # urllib's errors are OSErrors
        raise ConfigError(
            f"`detector`: the weights of {name} can't be downloaded ({error}); give torchvision's file as `detector`"
        ) from None
    return network


def _from_file(name: str, path: Path) -> "nn.Module":
    from torchvision.models import get_model

    network: nn.Module = get_model(name, weights=None, weights_backbone=None)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many types for files that are not weights
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"`detector`: {path} has no weights of torchvision's {name} ({reason})") from None
    return network


def detect_images(
    detector: Detector, images: dict[int | str, Path], source: Path, progress: Progress = NO_PROGRESS
) -> Path:
    """Returns the detections file of some images, which is written unless it is there already.

    It is beside the source, or, where nothing can be written there, in the cache folder.

    Args:
        detector: The detector.
        images: The images, by the name or id that the file has.
        source: The folder, image or annotation file; a folder holds its file, beside others it lies.
        progress: Shows the progress.

    Raises:
        DataError: If no image can be read or the file can't be written.
    """

    def frames() -> Iterator[tuple[int | str, np.ndarray]]:
        for image_id, path in progress.track(list(images.items()), len(images), "detecting"):
            try:
                yield image_id, read_image(path)
            except DataError as error:  # reported by those who read it for the network
                log.debug("%s", error)

    return _detections(detector, [*images.values()], source, frames())


def detect_video(detector: Detector, video: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Returns the detections file of a video, whose image ids are frame numbers, as `detect_images` does."""

    def frames() -> Iterator[tuple[int | str, np.ndarray]]:
        found = progress.track(read_frames(video), count_frames(video), "detecting")
        for number, frame in enumerate(found):
            yield number, frame.image

    return _detections(detector, [video], video, frames())


def _detections(
    detector: Detector, inputs: Sequence[Path], source: Path, frames: Iterable[tuple[int | str, np.ndarray]]
) -> Path:
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in inputs if path.exists()]
    key = sha256(f"{detector.digest} {states}".encode()).hexdigest()[:8]
    folder, stem = (source, "") if source.is_dir() else (source.parent, f"{source.stem}_")
    places = [place / f"{stem}boxes_{key}.json" for place in (folder, cache_dir() / "boxes")]
    if (known := next(filter(is_file, places), None)) is not None:
        log.info("boxes of %s found before: %s", detector.name, known)
        return known
    path = next((path for path in places if _is_writable(path.parent)), None)
    if path is None:
        raise DataError(f"neither {folder} nor {places[1].parent} can be written to; set SEMIPOSE_CACHE to a folder")
    records = [record for image_id, image in frames for record in detector.detect(image, image_id)]
    if not records:
        raise DataError(f"{source}: {detector.name} finds nothing; give boxes as `boxes`")
    try:
        write_text(path, json.dumps(records))
    except OSError as error:
        raise DataError(f"{path} can't be written ({error.strerror}); copy the images to a folder of yours") from None
    log.info("%s: %s of %s", path, plural(len(records), "detection"), detector.name)
    return path


def _is_writable(folder: Path) -> bool:
    try:
        make_folder(folder)
    except ConfigError:
        return False
    return True
