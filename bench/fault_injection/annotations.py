"""Mutated annotation, detection and result files: each is read, or refused in one line."""

import copy
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semipose.data.checks import check_data
from semipose.data.data_errors import DataErrors
from semipose.data.formats.coco import read_coco
from semipose.data.formats.coco_results import load_predictions
from semipose.data.formats.detections import read_detections
from semipose.data.formats.registry import read_annotations
from semipose.errors import SemiposeError
from semipose.structures.skeletons import COCO

SLOW = 5.0
"""Seconds after which a small file counts as a hang."""

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, -(2**70), 10**400, 1e308, -1e308, math.nan, math.inf, -math.inf, 0.5, "", "x",
    "\x00", "../../etc/passwd", "/etc/passwd", "日本", "a" * 5000, [], [[]], {}, {"a": 1}, [None], [1, 2],
    list(range(60)), [math.nan] * 51, [1e9] * 4, [-5, -5, -5, -5], "12", b"\xff".decode("latin1"),
]  # fmt: skip


def run(count: int, seed: int) -> dict[str, Any]:
    """Reads `count` files; reports those that gave neither persons nor a one-line error."""
    chance = random.Random(seed)
    read = refused = hangs = 0
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        (folder / "images" / "a.jpg").write_bytes(b"")
        kinds = _kinds()
        for n in range(count):
            content, reader = kinds[n % len(kinds)]
            path = folder / "file.json"
            path.write_bytes(_mutated(content, chance))
            started = time.perf_counter()
            try:
                reader(path)
                read += 1
            except SemiposeError as error:
                refused += 1
                if "\n" in str(error) or len(str(error)) > 600:
                    bad.append(f"file {n}: more than one short line: {str(error)[:120]!r}")
            except BaseException as error:
                bad.append(f"file {n}: {type(error).__name__}: {str(error)[:120]}")
            hangs += time.perf_counter() - started > SLOW
    return {"files": count, "read": read, "refused": refused, "hangs": hangs, "bad": bad[:20] + ["hang"] * hangs}


def _kinds() -> list[tuple[Any, Callable[[Path], Any]]]:
    """A valid file of each kind, and its reader."""
    joints = [v for k in range(len(COCO)) for v in (10 + k, 20 + k, 2)]
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 64}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 2, 30, 40], "area": 600.0,
             "keypoints": list(joints), "num_keypoints": 17} for i in (1, 2, 3)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.joints), "skeleton": [[1, 2], [2, 3]]}],
    }  # fmt: skip
    mpii = [{"image": "a.jpg", "joints": [[5, 6]] * 16, "joints_vis": [1] * 16, "center": [9, 9], "scale": 1.5}] * 2
    challenger = [
        {
            "image_id": "a",
            "human_annotations": {"human1": [1, 2, 30, 40]},
            "keypoint_annotations": {"human1": [3, 4, 1] * 14},
        }
    ]
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}] * 2
    results = [{"image_id": 1, "category_id": 1, "keypoints": [1.5, 2.5, 0.5] * 17, "score": 0.5}] * 2
    return [
        (coco, read_coco),
        (coco, lambda path: read_annotations(path, None)),
        (coco, check_data),
        (
            coco,
            lambda path: DataErrors().read("train", lambda problems: read_annotations(path, None, problems=problems)),
        ),
        (mpii, lambda path: read_annotations(path, path.parent / "images")),
        (challenger, lambda path: read_annotations(path, path.parent / "images")),
        (boxes, read_detections),
        (results, lambda path: load_predictions(path, COCO)),
    ]


def _mutated(content: Any, chance: random.Random) -> bytes:
    """The content with one to four mutations of it or of its bytes."""
    content = copy.deepcopy(content)
    for _ in range(chance.randint(1, 4)):
        content = _mutate(content, chance)
    raw = json.dumps(content).encode("utf-8", "surrogatepass")
    kind = chance.random()
    if kind < 0.08:
        raw = raw[: chance.randrange(len(raw) + 1)]
    elif kind < 0.16 and raw:
        place = chance.randrange(len(raw))
        raw = raw[:place] + bytes([chance.randrange(256)]) + raw[place + 1 :]
    elif kind < 0.18:
        raw = b"[" * chance.choice((500, 100_000)) + raw
    elif kind < 0.19:
        raw = b'{"images": ' + b"9" * 1_000_000 + b"}"
    elif kind < 0.20:
        raw = raw.decode().encode("utf-16")
    return raw


def _mutate(content: Any, chance: random.Random) -> Any:
    """Walks down a random path and replaces, doubles or drops something there."""
    if isinstance(content, dict) and content and chance.random() < 0.93:
        key = chance.choice(list(content))
        act = chance.random()
        if act < 0.12:
            del content[key]
        elif act < 0.3:
            content[key] = copy.deepcopy(chance.choice(ODD))
        else:
            content[key] = _mutate(content[key], chance)
        return content
    if isinstance(content, list) and content and chance.random() < 0.93:
        place, act = chance.randrange(len(content)), chance.random()
        if act < 0.12:
            del content[place]
        elif act < 0.24:
            content.append(copy.deepcopy(content[place]))
        elif act < 0.36:
            content[place] = copy.deepcopy(chance.choice(ODD))
        else:
            content[place] = _mutate(content[place], chance)
        return content
    return copy.deepcopy(chance.choice(ODD))
