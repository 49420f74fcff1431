"""Resident memory and time of reading a data set against its size.

python bench/memory.py [--persons 10000 50000 150000] [--json]

Writes a COCO keypoint file of N persons (17 joints, outlines of 30 points, 2.3 persons per image, and persons without
joints at the ratio of COCO), reads it in a process of its own, and measures seconds, peak and final resident size. The
growth per person is the slope of the final size between the smallest and the largest set. The peak is given for a
process that has imported torch, as a training has, and for one that only reads.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from semipose.structures.skeletons import COCO

WITHOUT_JOINTS = 0.75
"""Persons without labeled joints per person with some: 262,465 annotations for 149,813 persons in COCO."""

READ = """
import gc, json, resource, sys, time
if sys.argv[2] == "training":
    import torch
from semipose.data.formats.coco import read_coco
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()
before, started, busy = resident(), time.perf_counter(), time.process_time()
whole = read_coco(sys.argv[1])
kept = whole.trainable()
seconds, busy = time.perf_counter() - started, time.process_time() - busy
everyone = len(whole.instances)
del whole
gc.collect()
import ctypes
ctypes.CDLL('libc.so.6').malloc_trim(0)
print(json.dumps({"persons": len(kept), "annotations": everyone, "seconds": seconds, "cpu_seconds": busy,
                  "imports": before, "stays": resident() - before,
                  "highest": 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])}))
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--persons", type=int, nargs="+", default=[10_000, 50_000, 149_813])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(count, Path(folder)) for count in arguments.persons]
    first, last = rows[0], rows[-1]
    slope = (last["stays"] - first["stays"]) / max(1, last["persons"] - first["persons"])
    if arguments.json:
        print(json.dumps({"rows": rows, "bytes_per_person": slope}))
        return
    for row in rows:
        print(
            f"{row['persons']:8,} persons ({row['annotations']:,} annotations, {row['file'] / 1e6:.0f} MB): "
            f"{row['seconds']:.1f} s ({row['cpu_seconds']:.1f} of CPU), "
            f"highest {row['highest'] / 1e9:.2f} GB with torch ({row['imports'] / 1e9:.2f} before reading), "
            f"{row['highest_without_torch'] / 1e9:.2f} without, "
            f"stays {row['stays'] / 1e6:.0f} MB"
        )
    print(f"{slope:.0f} bytes a person")


def measure(count: int, folder: Path) -> dict[str, Any]:
    """Measures one size."""
    path = folder / "persons.json"
    write(count, path)
    training, reading = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", READ, str(path), kind], capture_output=True, text=True, check=True
            ).stdout
        )
        for kind in ("training", "reading")
    )
    return {**training, "highest_without_torch": reading["highest"], "file": path.stat().st_size}


def write(count: int, path: Path) -> None:
    """Writes a COCO file of `count` persons with joints."""
    random = np.random.default_rng(0)
    everyone = round(count * (1 + WITHOUT_JOINTS))
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(int(everyone / 2.3) + 1)
    ]
    (path.parent / "000000000000.jpg").write_bytes(b"")
    annotations = []
    for n in range(everyone):
        joints = np.column_stack([random.integers(0, 480, (len(COCO), 2)), random.integers(1, 3, len(COCO))])
        annotations.append(
            {
                "id": n + 1, "image_id": int(n / 2.3), "category_id": 1, "iscrowd": 0, "area": 9000.0,
                "bbox": [float(v) for v in random.integers(1, 200, 4)],
                "segmentation": [random.uniform(0, 400, 60).round(2).tolist()],
                "keypoints": (joints * (n < count)).ravel().tolist(), "num_keypoints": len(COCO) * (n < count),
            }
        )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO.joints)}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))


if __name__ == "__main__":
    main()
