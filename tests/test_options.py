"""The options of the configuration are frozen: each has a reason, and a new one needs a paper or a measurement.

A reason is a paper, a page of docs/research that measured the gain (of the option, or of a recipe with it), or the
infrastructure that needs the option.
"""

import re
from pathlib import Path

import pytest

from semipose.config import describe_options
from semipose.methods import METHODS

RESEARCH = Path(__file__).parents[1] / "docs" / "research"

XIE = "paper: Xie et al., ICCV 2021 (PoseCons, PoseDual)"
MEAN_TEACHER = "paper: Tarvainen and Valpola, NeurIPS 2017"
SSPCM = "paper: Huang et al., CVPR 2023"
AKM = "paper: Meng et al., adaptive keypoint masking"
MULTI_AUGS = "paper: Zhou et al., arXiv 2402.11566"
TRS = "paper: Yun et al., arXiv 2501.09565"
DISTILLATION = "paper: Radosavovic et al., CVPR 2018"
BASELINE = "paper: Xiao et al., ECCV 2018 (SimpleBaseline)"
DARK = "paper: Zhang et al., CVPR 2020 (DARK)"
DATA = "infrastructure: names the data of a run"
MACHINE = "infrastructure: fits a run to the machine"
RUN = "infrastructure: what a run folder keeps, and how often"

RUN_OPTIONS = {
    "auto": MACHINE,
    "data.train": DATA,
    "data.images": DATA,
    "data.skeleton": "infrastructure: data sets with different joints train one network",
    "data.category": "infrastructure: files with several categories",
    "data.flip_pairs": "infrastructure: joints whose names do not state their side",
    "data.sigmas": "infrastructure: OKS of joints that COCO does not have",
    "data.limbs": "infrastructure: drawings of joints that the file does not connect",
    "data.labels": XIE,
    "data.split_seed": "infrastructure: the same split for every method of a comparison",
    "data.include_labeled": XIE,
    "data.include_remaining": TRS,
    "data.max_unlabeled": TRS,
    "data.unlabeled": DATA,
    "data.boxes": DATA,
    "data.min_score": "infrastructure: detections have scores",
    "data.box_category": "infrastructure: detectors number their classes differently",
    "data.crop_encoding": MACHINE,
    "data.val": DATA,
    "data.val_images": DATA,
    "data.validation": DATA,
    "data.test": DATA,
    "data.test_images": DATA,
    "data.on_error.train": "infrastructure: broken records of large data sets",
    "data.on_error.unlabeled": "infrastructure: broken records of large data sets",
    "data.on_error.val": "infrastructure: broken records of large data sets",
    "data.on_error.test": "infrastructure: broken records of large data sets",
    "input.height": BASELINE,
    "input.width": BASELINE,
    "input.padding": BASELINE,
    "model.backbone": BASELINE,
    "model.weights": BASELINE,
    "model.stage": "infrastructure: networks that a CPU can train (lsp-extended.md)",
    "model.frozen_stages": "infrastructure: few labels or no GPU",
    "model.head": "paper: Xu et al., NeurIPS 2022 (ViTPose)",
    "model.head_channels": "infrastructure: networks that a CPU can train (lsp-extended.md)",
    "method": "infrastructure: the methods that are compared",
    "loss.kind": "infrastructure: short budgets, the loss of all results on a CPU (lsp-extended.md)",
    "loss.sigma": BASELINE,
    "views.scale": XIE,
    "views.rotation": XIE,
    "views.easy_rotation_probability": XIE,
    "views.hard_rotation_probability": XIE,
    "views.flip_probability": XIE,
    "views.labeled_color_probability": "measured: late-teacher.md",
    "views.shift": "measured: boxes.md",
    "views.seen_mask": "infrastructure: off is the behavior of the papers' code",
    "train.epochs": XIE,
    "train.steps": "infrastructure: budgets that do not depend on the size of the data",
    "train.batch": XIE,
    "train.unlabeled_batch": XIE,
    "train.optimizer": "infrastructure: further optimizers of torch",
    "train.lr": XIE,
    "train.backbone_rate": "paper: Carion et al., ECCV 2020 (DETR)",
    "train.layer_decay": "paper: Bao et al., ICLR 2022 (BEiT); Xu et al., NeurIPS 2022 (ViTPose)",
    "train.accumulate": MACHINE,
    "train.schedule": "infrastructure: further schedules",
    "train.drops": XIE,
    "train.drop_factor": XIE,
    "train.warm_up": "infrastructure: large joint batches (Goyal et al., arXiv 1706.02677)",
    "train.weight_decay": "infrastructure: a parameter of the optimizer",
    "train.average": "measured: lsp-extended.md",
    "train.start": "infrastructure: starts from the weights of another run",
    "train.workers": MACHINE,
    "train.clip": "infrastructure: trainings that diverge",
    "train.evaluate_every": RUN,
    "train.select": XIE,
    "train.checkpoint_every": RUN,
    "train.log_every": RUN,
    "train.precision": "measured: speed.md",
    "train.channels_last": "measured: speed.md",
    "train.compile": "measured: speed.md",
    "train.device": MACHINE,
    "train.devices": MACHINE,
    "train.seed": "infrastructure: repeats a run, or varies it",
    "evaluation.flip_test": XIE,
    "evaluation.decoder": DARK,
    "evaluation.instance_score": BASELINE,
    "evaluation.precision": "measured: speed.md",
}
"""Options of every run."""

CONSISTENCY = {
    "supervised_weight": XIE,
    "unlabeled_weight": XIE,
    "burn_in": "measured: h200.md",
    "ramp_up": "measured: h200.md",
    "min_peak": "measured: h200.md",
    "target": "measured: h200.md",
    "teacher_mode": "measured: h200.md",
    "bn_stats_from_hard_views": "measured: embedded-people.md",
}
"""Options of every method that learns from unlabeled images."""

HARD_VIEW = {"augmentations": XIE}
BACKBONES = {"backbones": XIE}

METHOD_OPTIONS = {
    "supervised": {"levels": TRS},
    "mean_teacher": {**CONSISTENCY, **HARD_VIEW, "momentum": MEAN_TEACHER},
    "late_teacher": {**CONSISTENCY, **HARD_VIEW, "momentum": MEAN_TEACHER, "levels": TRS},
    "pseudopose": {**CONSISTENCY, **HARD_VIEW, "teacher": XIE},
    "data_distill": {
        **CONSISTENCY,
        **HARD_VIEW,
        "teacher": DISTILLATION,
        "teacher_scales": DISTILLATION,
        "teacher_flip": DISTILLATION,
    },
    "single": {**CONSISTENCY, **HARD_VIEW},
    "dual": {**CONSISTENCY, **HARD_VIEW, **BACKBONES},
    "sspcm": {
        **CONSISTENCY,
        **HARD_VIEW,
        **BACKBONES,
        "lagged": SSPCM,
        "outliers.criterion": SSPCM,
        "outliers.min_peak": SSPCM,
        "outliers.max_distance": SSPCM,
    },
    "akm": {
        **CONSISTENCY,
        **HARD_VIEW,
        "mixup.enabled": AKM,
        "mixup.places": AKM,
        "mixup.beta": AKM,
        "mixup.weight": AKM,
    },
    "multi_augs": {**CONSISTENCY, **BACKBONES, "networks": MULTI_AUGS, "paths": MULTI_AUGS},
    "trs": {
        **CONSISTENCY,
        **HARD_VIEW,
        **BACKBONES,
        "levels": TRS,
        "reviewers.enabled": TRS,
        "reviewers.supervised": TRS,
        "reviewers.alpha": TRS,
        "reviewers.beta": TRS,
    },
}
"""Options of each method, without `method.`."""

AUGMENTATION_OPTIONS = {
    "joint_cutout.joints": XIE,
    "joint_cutout.jitter": XIE,
    "joint_cutout.half_size_min": XIE,
    "joint_cutout.half_size_max": XIE,
    "adaptive_joint_cutout.joints": AKM,
    "adaptive_joint_cutout.jitter": AKM,
    "adaptive_joint_cutout.half_size_min": AKM,
    "adaptive_joint_cutout.half_size_max": AKM,
    "adaptive_joint_cutout.min_joints": AKM,
    "adaptive_joint_cutout.gamma": AKM,
    "adaptive_joint_cutout.hard_peak": AKM,
    "cut_occlude.joints": SSPCM,
    "cut_occlude.jitter": SSPCM,
    "cut_occlude.half_size_min": SSPCM,
    "cut_occlude.half_size_max": SSPCM,
    "keypoint_mix.joints": TRS,
    "keypoint_mix.half_size_min": TRS,
    "keypoint_mix.half_size_max": TRS,
    "cutout.side": "paper: DeVries and Taylor, arXiv 1708.04552",
    "cutout_patches.patches": MULTI_AUGS,
    "cutout_patches.half_size_min": MULTI_AUGS,
    "cutout_patches.half_size_max": MULTI_AUGS,
    "cut_mix_patches.patches": MULTI_AUGS,
    "cut_mix_patches.half_size_min": MULTI_AUGS,
    "cut_mix_patches.half_size_max": MULTI_AUGS,
    "cut_mix.mix_targets": TRS,
    "cut_mix.beta": "paper: Yun et al., ICCV 2019",
    "cut_mix.max_area": "paper: Yun et al., ICCV 2019",
    "mixup.mix_targets": TRS,
    "mixup.beta": "paper: Zhang et al., ICLR 2018",
    "rand_augment.operations": "paper: Cubuk et al., NeurIPS 2020",
    "rand_augment.magnitude": "paper: Cubuk et al., NeurIPS 2020",
}
"""Options of each augmentation, without `method.augmentations.`."""


@pytest.mark.parametrize("method", METHODS)
def test_options_are_those_that_have_a_reason(method):
    known = {*RUN_OPTIONS, *(f"method.{name}" for name in METHOD_OPTIONS[method])}
    if "augmentations" in METHOD_OPTIONS[method]:
        known |= {f"method.augmentations.{name}" for name in AUGMENTATION_OPTIONS}
    names = [option.name for option in describe_options(method)]
    assert len(names) == len(set(names))
    assert set(names) - known == set(), "new options: give the reason here"
    assert known - set(names) == set(), "options that are gone: remove them here"


def test_every_reason_is_a_paper_a_measurement_or_infrastructure():
    reasons = {*RUN_OPTIONS.values(), *AUGMENTATION_OPTIONS.values()}
    reasons |= {reason for options in METHOD_OPTIONS.values() for reason in options.values()}
    for reason in reasons:
        assert re.match(r"(paper|measured|infrastructure): \w", reason), reason
        if reason.startswith("measured: "):
            assert (RESEARCH / reason.removeprefix("measured: ")).is_file(), reason
