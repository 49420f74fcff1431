"""Time of COCO keypoint AP, ours against pycocotools, alternating in one process, and the largest difference.

python bench/eval.py [--persons 6352] [--repeats 3] [--json]
"""

import argparse
import contextlib
import io
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import coco
from pycocotools.cocoeval import COCOeval

from semipose.metrics.oks import NAMES, oks_scores
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.predictions import Prediction
from semipose.structures.skeletons import COCO


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--persons", type=int, default=6352)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    truth, predictions = random_poses(arguments.persons)
    pairs = []
    for _ in range(arguments.repeats):
        started = time.perf_counter()
        ours = oks_scores(truth, predictions)
        middle = time.perf_counter()
        theirs = official(truth, predictions)
        pairs.append((middle - started, time.perf_counter() - middle))
    worst = max(abs((ours[name] or 0.0) - theirs[name]) for name in ("AP", "AP50", "AP75", "AR"))
    found = {
        "persons": arguments.persons,
        "seconds": statistics.median(a for a, _ in pairs),
        "baseline_seconds": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(b / a for a, b in pairs),
        "difference": worst,
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['persons']} persons: {found['seconds']:.2f} s ours, "
            f"{found['baseline_seconds']:.2f} s by pycocotools, "
            f"ratio {found['ratio']:.1f}, largest difference {worst:.1g}"
        )


def random_poses(count: int) -> tuple[PoseDataset, list[Prediction]]:
    """Draws persons, 2.3 per image on average, and predictions a few pixels off."""
    random = np.random.default_rng(0)
    persons, predictions = [], []
    for n in range(count):
        size = random.uniform(40, 250)
        corner = random.uniform(0, 400, 2)
        joints = (corner + random.uniform(0, size, (len(COCO), 2))).round(1)
        visibility = random.integers(0, 3, len(COCO)).astype(np.int8)
        visibility[0] = 2
        image = int(n / 2.3)
        box = (float(corner[0]), float(corner[1]), float(size), float(size))
        persons.append(Instance(Path(f"{image}.jpg"), image, n + 1, box, joints, visibility, area=float(size**2 / 2)))
        off = joints + random.normal(0, size / 30, joints.shape)
        predictions.append(Prediction(image, None, off, np.ones(len(COCO)), float(random.random()), box))
    return PoseDataset(COCO, tuple(persons), "random"), predictions


def official(truth: PoseDataset, predictions: list[Prediction]) -> dict[str, float]:
    """Returns the same scores by pycocotools."""
    content: dict[str, Any] = {
        "images": [{"id": i} for i in sorted({p.image_id for p in truth.instances})],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": p.annotation_id, "image_id": p.image_id, "category_id": 1, "iscrowd": 0, "area": p.area,
                "bbox": list(p.box), "num_keypoints": int((p.visibility > 0).sum()),
                "keypoints": np.column_stack([p.joints, p.visibility]).ravel().tolist(),
            }
            for p in truth.instances if p.joints is not None and p.visibility is not None
        ],
    }  # fmt: skip
    results = [
        {
            "image_id": p.image_id, "category_id": 1, "score": p.score,
            "keypoints": np.column_stack([p.joints, p.scores]).ravel().tolist(),
        }
        for p in predictions
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = coco.COCO()
        annotated.dataset = content
        annotated.createIndex()
        evaluation = COCOeval(annotated, annotated.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, map(float, evaluation.stats[: len(NAMES)]), strict=True))


if __name__ == "__main__":
    main()
