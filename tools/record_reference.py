"""Records the losses, scores and weights of short seeded trainings, and compares them bit for bit.

python -m tools.record_reference --write FILE [RUN ...]     records the runs
python -m tools.record_reference --compare FILE [RUN ...]   trains again; exit code 1 when anything differs

Each run makes some 20 steps of a tiny network on the rendered people, in one thread. The reference in
tools/reference.json was recorded with torch 2.15 on an x86-64 CPU with AVX-512; other versions and CPUs round
differently, so compare with a file that was recorded on the same machine before a change.

Scores are compared where the reference has them: metrics that were added after it was recorded (pixel_error) are not
compared. A score that the reference has and the new record lacks is a difference.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from semipose.config import load_config
from semipose.trainer import train

Record = dict[str, Any]
"""`losses` by step, `scores` and `weights` (hashes) by network, and the hash of the `predictions`."""

SHARED: dict[str, Any] = {
    "data.train": "people",
    "data.labels": 24,
    "data.validation": 8,
    "data.include_labeled": False,
    "input.height": 64,
    "input.width": 64,
    "model.backbone": "test_resnet",
    "model.weights": "none",
    "model.head_channels": 8,
    "train.steps": 20,
    "train.batch": 4,
    "train.unlabeled_batch": 4,
    "train.log_every": 1,
    "train.device": "cpu",
    "train.seed": 3,
    "train.precision": "32-true",
}

METHODS = (
    "supervised", "mean_teacher", "pseudopose", "data_distill", "single", "dual", "sspcm", "akm", "akm+mixup",
    "multi_augs", "multi_augs+dual", "trs",
)  # fmt: skip

RUNS: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS} | {
    "mean_teacher_recipe": {
        "method": "mean_teacher",
        "method.burn_in": 0.35,
        "method.ramp_up": 0.1,
        "method.teacher_mode": "eval",
        "method.min_peak": 0.01,
        "method.target": "gaussian",
        "method.bn_stats_from_hard_views": False,
        "loss.kind": "cross_entropy",
        "loss.sigma": 1.0,
    },
    "trs_recipe": {
        "method": "trs",
        "method.burn_in": 0.3,
        "method.unlabeled_weight": 0.5,
        "method.reviewers.supervised": False,
        "method.levels": 1,
        "method.augmentations": ["joint_cutout", "rand_augment"],
        "loss.kind": "cross_entropy",
        "train.average": 0.99,
    },
    "supervised_60": {
        "method": "supervised",
        "train.steps": 60,
        "train.batch": 16,
        "train.select": "last",
        "loss.kind": "cross_entropy",
        "loss.sigma": 1.0,
    },
    "sspcm_epochs": {
        "method": "sspcm",
        "data.labels": 1490,
        "data.include_labeled": True,
        "train.batch": 200,
        "train.unlabeled_batch": 200,
        "train.steps": 14,
    },
}
"""Overrides of each run, in addition to SHARED."""


def record(overrides: dict[str, Any], out: Path) -> Record:
    """Trains one run in the folder `out` and returns its record."""
    train(load_config(None, {**SHARED, **overrides}), out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "losses": [{k: v for k, v in line.items() if k != "kind"} for line in lines if line["kind"] == "train"],
        "scores": json.loads((out / "scores.json").read_text())["scores"],
        "weights": {path.stem: _hash_weights(path) for path in sorted((out / "weights").glob("*.safetensors"))},
        "predictions": _hash_predictions(out / "predictions.json"),
    }


def differences(reference: Record, found: Record) -> list[str]:
    """Returns the names of the parts of a record that differ from the reference."""
    parts = [part for part in ("losses", "weights", "predictions") if reference[part] != found[part]]
    return parts if _has_scores(found["scores"], reference["scores"]) else [*parts, "scores"]


def _has_scores(found: Record | None, expected: Record) -> bool:
    """Whether `found` has the networks of `expected` with all of their scores; it may have further metrics."""
    if found is None or found.keys() != expected.keys():
        return False
    return all(expected[name].items() <= scores.items() for name, scores in found.items())


def _hash_weights(path: Path) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash_predictions(path: Path) -> str:
    keys = ("image_id", "keypoints", "score", "bbox")
    content = [{key: entry[key] for key in keys} for entry in json.loads(path.read_text())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def main() -> None:
    """Records or compares the chosen runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"all when not given: {', '.join(RUNS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.runs) - set(RUNS):
        parser.error(f"unknown run {', '.join(sorted(unknown))}; known: {', '.join(RUNS)}")
    torch.set_num_threads(1)
    reference: dict[str, Record] = json.loads(arguments.compare.read_text()) if arguments.compare else {}
    found: dict[str, Record] = {}
    different = False
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEMIPOSE_CACHE"] = f"{folder}/cache"
        for name in arguments.runs or RUNS:
            found[name] = record(RUNS[name], Path(folder) / name)
            if arguments.compare:
                parts = differences(reference[name], found[name])
                different = different or bool(parts)
                print(f"{name}: {'differs in ' + ', '.join(parts) if parts else 'equal'}", flush=True)
    if arguments.write:
        arguments.write.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    sys.exit(different)


if __name__ == "__main__":
    main()
