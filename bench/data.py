"""Persons per second and core of the data path: cached crops against decoding and warping image by image.

python bench/data.py [--persons 600] [--input 256x192] [--repeats 5] [--crops auto|jpeg|raw] [--json]

Both sides produce a batch of normalized float images of the input's size, randomly flipped, scaled and rotated. The
usual implementation decodes the whole image with OpenCV for each sample and warps it on the host; ours reads a crop
from the crop cache and warps the batch. One thread each, alternating batch by batch. Building the cache from images of
640×480 with two persons each is timed as well; its threads share the cores.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch

from semipose.augment.views import ViewSampler, ViewsConfig
from semipose.data.crop_cache import Encoding, open_crop_cache
from semipose.data.crops import CropGeometry, Crops
from semipose.data.loader import unlabeled_batch
from semipose.models.backbone import MEAN, STD
from semipose.ops import geometry
from semipose.structures.batches import UnlabeledBatch
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import COCO
from semipose.utils.cpu import available_cpus


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--persons", type=int, default=600)
    parser.add_argument("--input", default="256x192", help="HEIGHTxWIDTH")
    parser.add_argument("--crops", default="auto", choices=get_args(Encoding))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    height, width = map(int, arguments.input.split("x"))
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEMIPOSE_CACHE"] = f"{folder}/cache"
        persons = draw_images(arguments.persons, Path(folder))
        shape = CropGeometry((height, width), 1.25)
        started = time.perf_counter()
        crops = open_crop_cache(persons, shape, encoding=arguments.crops)
        built = arguments.persons / (time.perf_counter() - started) / available_cpus()
        found = {
            "cache_persons_per_second_and_core": built,
            "cores": available_cpus(),
            "input": arguments.input,
            "crops": arguments.crops,
            **measure(crops, shape, arguments),
        }
    print(json.dumps(found) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def draw_images(count: int, folder: Path) -> PoseDataset:
    """Writes textured images of 640×480 with two persons each."""
    random = np.random.default_rng(0)
    persons = []
    for n in range(0, count, 2):
        coarse = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, random.integers(0, 25, image.shape, dtype=np.uint8))
        path = folder / f"{n:06d}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        for k in (0, 1):
            w, h = (float(v) for v in random.uniform((80, 160), (180, 320)))
            x, y = (float(v) for v in random.uniform((0, 0), (640 - w, 480 - h)))
            persons.append(Instance(path, n, n + k + 1, (x, y, w, h), area=w * h / 2))
    return PoseDataset(COCO, tuple(persons[:count]), str(folder))


def measure(crops: Crops, shape: CropGeometry, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures both sides on the same batches in one thread."""
    torch.set_num_threads(1)
    size = shape.input_size
    views = ViewSampler(ViewsConfig(), COCO, size, 2.0, torch.Generator().manual_seed(0))
    random = np.random.default_rng(1)
    batches = [
        random.integers(0, len(crops.dataset), arguments.batch).tolist() for _ in range(arguments.repeats * 2 + 1)
    ]
    for index in range(len(crops.dataset)):
        crops.crop(index)  # a training reads each many times; the first time its checksum is compared as well
    ours, theirs, reading = [], [], []
    for indices in batches:
        started = time.perf_counter()
        batch = unlabeled_batch(crops, indices)
        read = time.perf_counter()
        views.easy(batch)
        middle = time.perf_counter()
        usual_views(crops.dataset, indices, shape, views, batch)
        theirs.append(time.perf_counter() - middle)
        ours.append(middle - started)
        reading.append(read - started)
    pairs = list(zip(ours, theirs, strict=True))[1:]
    return {
        "persons_per_second_and_core": arguments.batch / statistics.median(a for a, _ in pairs),
        "crops_read_per_second_and_core": arguments.batch / statistics.median(reading[1:]),
        "baseline_persons_per_second_and_core": arguments.batch / statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "ratio_on_the_host": statistics.median(b / r for (_, b), r in zip(pairs, reading[1:], strict=True)),
    }


def usual_views(
    persons: PoseDataset, indices: list[int], shape: CropGeometry, views: ViewSampler, batch: UnlabeledBatch
) -> torch.Tensor:
    """Reads, decodes, warps and normalizes image by image."""
    flipped = torch.rand(len(indices)) < 0.5
    region, degrees = 1 + 0.25 * torch.randn(len(indices)).clamp(-1, 1), 30 * torch.randn(len(indices)).clamp(-2, 2)
    random = geometry.similarity(shape.input_size, degrees, 1 / region, flipped).numpy()
    to_input = batch.to_input.numpy()
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    images = []
    for n, index in enumerate(indices):
        person = persons[index]
        whole = cv2.cvtColor(cv2.imread(str(person.image), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        matrix = random[n] @ to_input[n] @ shape.from_image(person.box)
        height, width = shape.input_size
        image = cv2.warpAffine(whole, matrix[:2].astype(np.float64), (width, height), flags=cv2.INTER_LINEAR)
        images.append(torch.from_numpy(((image.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1).copy()))
    return torch.stack(images)


if __name__ == "__main__":
    main()
