"""Named protocols of published tables: persons, boxes, input size, schedule and metric."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TableProtocol:
    """The settings that the runs of a published table share.

    Attributes:
        text: The protocol in one sentence.
        files: Paths by option, relative to the data folder, in the usual layout of the data set.
        settings: Overrides by dotted key.
        labels: Numbers of persons that keep their labels; empty = all.
        metric: The metric that rows are compared by.
        source: Source of the data.
        columns: Metrics of the table; empty for those of a study without a protocol.
        schedules: Overrides by method and number of labels, where a paper trains shorter than `settings`.
        notes: Further sentences below the table.
        notes_on_methods: Sentences that stand there only if the table has a row of one of the methods.
    """

    text: str
    files: dict[str, str]
    settings: dict[str, Any]
    labels: tuple[int, ...]
    metric: str
    source: str
    columns: tuple[str, ...] = ()
    schedules: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    notes_on_methods: tuple[tuple[tuple[str, ...], str], ...] = ()

    def notes_for(self, methods: set[str]) -> list[str]:
        """Returns the sentences below a table with these methods."""
        return [*self.notes, *(note for named, note in self.notes_on_methods if methods.intersection(named))]


COMMON: dict[str, Any] = {
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
"""Settings of all protocols: heatmap regression, Adam at 1e-3, last weights, no flip test."""

PAPERS: dict[str, Any] = {
    **COMMON,
    "model.backbone": "resnet18.tv_in1k",
    "data.validation": 0,
    "data.include_labeled": False,
    "views.seen_mask": False,
    "evaluation.instance_score": "rescored",
    "evaluation.precision": "32-true",
}
"""Settings of the papers' tables: besides, torchvision's first ImageNet weights, joints decoded with the quarter
offset, persons scored as in the papers' code with OKS-NMS, an unlabeled set of the remaining images as the papers
write, a target of 0 where the easy view ends, and evaluations in 32 bit."""


def _epochs(epochs: int, *drops: int) -> dict[str, Any]:
    return {"train.epochs": epochs, "train.drops": [round(drop / epochs, 4) for drop in drops]}


LONG = _epochs(100, 70, 90)
SQUARE = {"input.height": 256, "input.width": 256, **_epochs(100, 50, 70)}
SHORT, MIDDLE = _epochs(30, 20, 25), _epochs(70, 50, 60)
DUAL_1K = {1_000: MIDDLE}
COCO_SCHEDULES = {
    **{method: {1_000: SHORT} for method in ("single", "akm", "akm+mixup")},
    "dual": DUAL_1K,
    **{method: {1_000: SHORT, 5_000: MIDDLE} for method in ("multi_augs", "multi_augs+dual")},
}
SUPERVISED_LENGTH = (
    "The papers do not state the length of the supervised rows: here they pass as often over their labeled persons as "
    "the other rows over the unlabeled ones."
)
REMAINING = (
    "The unlabeled set is the remaining persons (the papers write: the remaining images); Dual's released code also "
    "counts the labeled ones (data.include_labeled=true)."
)

COCO_FILES = {
    "data.train": "annotations/person_keypoints_train2017.json",
    "data.images": "train2017",
    "data.test": "annotations/person_keypoints_val2017.json",
    "data.test_images": "val2017",
}
COCO_SOURCE = "COCO 2017 (images train2017, val2017 and annotations_trainval2017) is published at cocodataset.org"
COCO_COLUMNS = ("AP", "AP50", "AR")
MPII_FILES = {
    "data.train": "mpii/annot/train.json",
    "data.images": "mpii/images",
    "data.test": "mpii/annot/valid.json",
    "data.test_images": "mpii/images",
}
AI_CHALLENGER = {"data.unlabeled": "ai_challenger/keypoint_train_annotations_20170909.json"}
MPII_SOURCE = "MPII (images, and annot/ as HRNet's lists with gt_valid.mat) is published at human-pose.mpi-inf.mpg.de"
AI_CHALLENGER_SOURCE = ", AI Challenger's keypoint set by its authors"
MPII_COLUMNS = (
    *(f"PCKh@0.5/{part}" for part in ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    "PCKh@0.5",
)


def _coco(labels: int) -> TableProtocol:
    return TableProtocol(
        text=(
            f"COCO train2017: {labels} persons keep their labels, all others are unlabeled; AP on val2017 with "
            "annotated boxes, no flip test, last weights"
        ),
        files=COCO_FILES,
        settings={**PAPERS, **LONG},
        labels=(labels,),
        metric="AP",
        source=COCO_SOURCE,
        columns=COCO_COLUMNS,
        schedules=COCO_SCHEDULES,
        notes=("100 epochs (drops at 70, 90).", REMAINING),
        notes_on_methods=(
            (("single", "akm", "akm+mixup"), "With 1K labels Single and AKM train 30 epochs (20, 25)."),
            (("dual",), "With 1K labels Dual trains 70 epochs (50, 60)."),
            (
                ("multi_augs", "multi_augs+dual"),
                "MultiAugs trains 30 epochs (20, 25) with 1K labels, as in its released configuration, and 70 (50, 60) "
                "with 5K, which is chosen here.",
            ),
            (
                ("pseudopose", "data_distill", "sspcm"),
                "The papers do not state the length of PseudoPose, DataDistill and SSPCM with 1K labels.",
            ),
            (("supervised",), SUPERVISED_LENGTH),
        ),
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
        settings={
            **PAPERS,
            **_epochs(400, 300, 350),
            "model.backbone": "resnet50.tv_in1k",
            "data.min_score": 0.0,
        },
        labels=(),
        metric="AP",
        source=COCO_SOURCE + "; person detections of unlabeled2017 come from a detector of your choice",
        columns=COCO_COLUMNS,
        notes=(
            "400 epochs (drops at 300, 350) with ResNets; detections of every score are unlabeled persons, as in "
            "Dual's released code.",
            SUPERVISED_LENGTH,
        ),
    ),
    "mpii-aic": TableProtocol(
        text="All of MPII labeled, AI Challenger unlabeled; PCKh@0.5 on MPII valid, annotated boxes",
        files={**MPII_FILES, **AI_CHALLENGER},
        settings={**PAPERS, **SQUARE, "model.backbone": "hrnet_w32.ms_in1k"},
        labels=(),
        metric="PCKh@0.5",
        source=MPII_SOURCE + AI_CHALLENGER_SOURCE,
        columns=MPII_COLUMNS,
        notes=(SUPERVISED_LENGTH,),
    ),
    "mpii-10k-aic-100k": TableProtocol(
        text=(
            "10,000 persons of MPII labeled, 100,000 persons of AI Challenger and no others unlabeled; PCKh@0.5 on "
            "MPII valid, annotated boxes"
        ),
        files={**MPII_FILES, **AI_CHALLENGER},
        settings={**PAPERS, **SQUARE, "data.include_remaining": False, "data.max_unlabeled": 100_000},
        labels=(10_000,),
        metric="PCKh@0.5",
        source=MPII_SOURCE + AI_CHALLENGER_SOURCE,
        columns=MPII_COLUMNS,
        notes=(SUPERVISED_LENGTH,),
    ),
    "mpii-1k": TableProtocol(
        text="1,000 persons of MPII labeled, 10,000 others unlabeled; PCKh@0.5 on MPII valid, annotated boxes",
        files=MPII_FILES,
        settings={**PAPERS, **SQUARE, "data.max_unlabeled": 10_000},
        labels=(1_000,),
        metric="PCKh@0.5",
        source=MPII_SOURCE,
        columns=MPII_COLUMNS,
        schedules={"dual": DUAL_1K},
        notes=("100 epochs (drops at 50, 70), Dual 70 (50, 60).", SUPERVISED_LENGTH),
    ),
    "wepdtof": TableProtocol(
        text="WEPDTOF-Pose, overhead fisheye, persons at any angle; AP with annotated boxes, any rotation",
        files={
            "data.train": "train.json",
            "data.images": "images",
            "data.test": "test.json",
            "data.test_images": "images",
        },
        settings={**PAPERS, **SQUARE, "views.rotation": 90.0},
        labels=(100,),
        metric="AP",
        source="WEPDTOF-Pose is published by its authors as COCO keypoint files of 14 joints",
        columns=COCO_COLUMNS,
        notes=("The number of labels and the rotation of the views, N(0, 90°) up to 180°, are chosen here.",),
    ),
    "lspet": TableProtocol(
        text="LSP Extended in COCO format: N persons keep their labels, the others are unlabeled; PCK@0.2 on val",
        files={"data.train": "train.json", "data.val": "val.json"},
        settings={**COMMON, **LONG, "data.include_labeled": False, "evaluation.decoder": "dark"},
        labels=(800,),
        metric="PCK@0.2",
        source="LSP Extended (Johnson and Everingham, CVPR 2011)",
    ),
    "people": TableProtocol(
        text="The rendered people: N persons keep their labels, the others are unlabeled; AP on 400 others",
        files={},
        settings={**COMMON, **LONG, "data.train": "people", "data.validation": 98, "evaluation.decoder": "dark"},
        labels=(100,),
        metric="AP",
        source="",
    ),
}
"""The protocols by name. `lspet` and `people` are ours and accept any number of labels."""
