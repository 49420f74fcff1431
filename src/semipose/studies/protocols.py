"""Named protocols of published tables: persons, boxes, input size, schedule and metric."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TableProtocol:
    """The settings that the runs of a published table share.

    Attributes:
        text: The protocol in one sentence.
        files: Paths by option, relative to the data folder, in the usual layout of the data set.
        settings: Overrides by dotted key.
        labels: Numbers of persons that keep their labels; empty = all.
        metric: The metric of the table.
        source: Source of the data.
        notes: Further sentences below the table.
    """

    text: str
    files: dict[str, str]
    settings: dict[str, Any]
    labels: tuple[int, ...]
    metric: str
    source: str
    notes: tuple[str, ...] = ()


PAPERS: dict[str, Any] = {
    "input.height": 256,
    "input.width": 192,
    "model.backbone": "resnet18",
    "loss.kind": "mse",
    "loss.sigma": 2.0,
    "train.lr": 1e-3,
    "train.batch": 32,
    "train.unlabeled_batch": 32,
    "train.select": "last",
    "data.include_labeled": True,
    "evaluation.flip_test": False,
    "evaluation.decoder": "quarter",
}
"""Settings of the papers' tables: heatmap regression, Adam at 1e-3, last weights, no flip test, joints decoded with the
quarter offset, and an unlabeled set that also contains the labeled images."""

COCO_FILES = {
    "data.train": "annotations/person_keypoints_train2017.json",
    "data.images": "train2017",
    "data.test": "annotations/person_keypoints_val2017.json",
    "data.test_images": "val2017",
}
COCO_SOURCE = "COCO 2017 (images train2017, val2017 and annotations_trainval2017) is published at cocodataset.org"
LONG = {"train.epochs": 100, "train.drops": [0.7, 0.9]}
MPII_FILES = {
    "data.train": "mpii/annot/train.json",
    "data.images": "mpii/images",
    "data.test": "mpii/annot/valid.json",
    "data.test_images": "mpii/images",
    "data.unlabeled": "ai_challenger/keypoint_train_annotations_20170909.json",
}
MPII_SOURCE = (
    "MPII (images, and annot/ as HRNet's lists with gt_valid.mat) is published at human-pose.mpi-inf.mpg.de, "
    "AI Challenger's keypoint set by its authors"
)
SQUARE = {"input.height": 256, "input.width": 256, "train.epochs": 100, "train.drops": [0.5, 0.7]}


def _coco(labels: int) -> TableProtocol:
    return TableProtocol(
        text=(
            f"COCO train2017: {labels} persons keep their labels, all others are unlabeled; AP on val2017 with "
            "annotated boxes, no flip test, last weights"
        ),
        files=COCO_FILES,
        settings={**PAPERS, **LONG, "data.validation": 0},
        labels=(labels,),
        metric="AP",
        source=COCO_SOURCE,
        notes=("1K labels: Single and AKM train 30 epochs (drops at 20, 25), Dual 70 (50, 60).",),
    )


PROTOCOLS: dict[str, TableProtocol] = {
    "coco-1k": _coco(1_000),
    "coco-5k": _coco(5_000),
    "coco-10k": _coco(10_000),
    "coco-wild": TableProtocol(
        text="All of COCO train2017 labeled, unlabeled2017 with detected boxes; AP on val2017, annotated boxes",
        files={
            **COCO_FILES,
            "data.unlabeled": "unlabeled2017",
            "data.boxes": "annotations/unlabeled2017_detections.json",
        },
        settings={**PAPERS, **LONG, "model.backbone": "resnet50", "data.validation": 0, "data.include_labeled": False},
        labels=(),
        metric="AP",
        source=COCO_SOURCE + "; person detections of unlabeled2017 come from a detector of your choice",
    ),
    "mpii-aic": TableProtocol(
        text="All of MPII labeled, AI Challenger unlabeled; PCKh@0.5 on MPII valid, annotated boxes",
        files=MPII_FILES,
        settings={**PAPERS, **SQUARE, "model.backbone": "hrnet_w32", "data.validation": 0},
        labels=(),
        metric="PCKh@0.5",
        source=MPII_SOURCE,
    ),
    "mpii-10k-aic-100k": TableProtocol(
        text="10,000 persons of MPII labeled, AI Challenger unlabeled; PCKh@0.5 on MPII valid, annotated boxes",
        files=MPII_FILES,
        settings={**PAPERS, **SQUARE, "data.validation": 0},
        labels=(10_000,),
        metric="PCKh@0.5",
        source=MPII_SOURCE,
        notes=("The papers take 100,000 persons of AI Challenger; here all persons in the file are used.",),
    ),
    "mpii-1k": TableProtocol(
        text="1,000 persons of MPII labeled, the others unlabeled; PCKh@0.5 on MPII valid, annotated boxes",
        files={k: v for k, v in MPII_FILES.items() if k != "data.unlabeled"},
        settings={**PAPERS, **SQUARE, "data.validation": 0},
        labels=(1_000,),
        metric="PCKh@0.5",
        source=MPII_SOURCE,
    ),
    "wepdtof": TableProtocol(
        text="WEPDTOF-Pose, overhead fisheye, persons at any angle; AP with annotated boxes, any rotation",
        files={
            "data.train": "train.json",
            "data.images": "images",
            "data.test": "test.json",
            "data.test_images": "images",
        },
        settings={**PAPERS, **SQUARE, "views.rotation": 90.0, "data.validation": 0},
        labels=(100,),
        metric="AP",
        source="WEPDTOF-Pose is published by its authors as COCO keypoint files of 14 joints",
    ),
    "lspet": TableProtocol(
        text="LSP Extended in COCO format: N persons keep their labels, the others are unlabeled; PCK@0.2 on val",
        files={"data.train": "train.json", "data.val": "val.json"},
        settings={**PAPERS, **LONG, "data.include_labeled": False, "evaluation.decoder": "dark"},
        labels=(800,),
        metric="PCK@0.2",
        source="LSP Extended (Johnson and Everingham, CVPR 2011)",
    ),
    "people": TableProtocol(
        text="The embedded images: N persons keep their labels, the others are unlabeled; AP on 400 others",
        files={},
        settings={**PAPERS, **LONG, "data.train": "people", "data.validation": 98, "evaluation.decoder": "dark"},
        labels=(100,),
        metric="AP",
        source="",
    ),
}
"""The protocols by name. `lspet` and `people` accept any number of labels."""
