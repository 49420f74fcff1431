"""The papers' tables: every published score digit by digit, every run a valid configuration, studies on small data."""

import shutil
from copy import deepcopy

import pytest
import torch

from semipose.build import make_method
from semipose.config import RunConfig
from semipose.data.datasets import PEOPLE
from semipose.methods.multi_augs import Config as MultiAugsConfig
from semipose.metrics import pck
from semipose.models.pose_net import PoseNet
from semipose.structures.skeletons import COCO
from semipose.studies.grid import StudyRun, load_grid, presets
from semipose.studies.study import run_study
from tests.conftest import slow_but

COCO_1K_5K_10K = (1000, 5000, 10000)
PARTS = [f"PCKh@0.5/{p}" for p in ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")] + ["PCKh@0.5"]
WILD = ["AP", "AP50", "AR"]

SUPERVISED = "31.5 46.4 51.1"
PSEUDOPOSE = "37.2 50.9 56.0"
DATA_DISTILL = "37.6 51.6 56.6"
SINGLE = "42.1 52.3 57.3"
DUAL = "44.6 55.6 59.6"
AKM = "42.9 53.1 57.8"
AKM_MIXUP = "47.3 56.1 59.1"
AFFINE = "38.5 50.5 55.4"
TRS = "50.9 60.4 62.9"

AP_BY_LABELS = {
    "trs-table2": {
        "supervised": SUPERVISED,
        "pseudopose": PSEUDOPOSE,
        "data_distill": DATA_DISTILL,
        "single": SINGLE,
        "dual": DUAL,
        "akm": AKM,
        "akm+mixup": AKM_MIXUP,
        "sspcm": "46.9 57.5 60.7",
        "multi_augs": "45.5 56.2 59.9",
        "multi_augs+dual": "49.7 58.8 61.8",
        "trs": TRS,
    },
    "trs-table6": {
        "base": "45.7 56.9 60.6",
        "MFL": "47.3 58.2 61.3",
        "KM": "48.4 58.6 61.8",
        "MFL + KM, no reviewers": "44.8 56.8 60.5",
        "all": TRS,
    },
    "trs-table7": {},
    "trs-table8": {"K = 3": "50.2", "K = 5": "50.9", "K = 7": "50.0", "K = 9": "49.8"},
    "trs-table9": {
        "cutout": "47.4",
        "mixup": "46.2",
        "cut_mix": "49.6",
        "rand_augment": "49.5",
        "joint_cutout": "49.6",
        "cut_occlude": "50.1",
        "keypoint_mix": "50.9",
    },
    "trs-table10": {
        "supervised": "34.4 50.3 56.3",
        "dual": "48.7 61.2 65.0",
        "sspcm": "49.4 61.6 65.4",
        "trs": "52.2 63.5 67.6",
    },
    "akm-table1": {
        "supervised": SUPERVISED,
        "pseudopose": PSEUDOPOSE,
        "data_distill": DATA_DISTILL,
        "single, affine": AFFINE,
        "single, joint cutout": SINGLE,
        "dual, affine": "41.5 54.8 58.7",
        "dual, RandAugment": "43.7 55.4 59.3",
        "dual, joint cutout": DUAL,
        "akm": AKM,
        "akm+mixup": AKM_MIXUP,
    },
    "akm-table3": {
        "affine": AFFINE,
        "affine + adaptive": AKM,
        "affine + mixup": "46.0 54.8 58.7",
        "affine + adaptive + mixup": AKM_MIXUP,
    },
    "akm-table4": {"m = 6": "41.88", "m = 8": "42.92", "m = 10": "42.01", "m = 12": "41.70"},
    "akm-table5": {
        "before the backbone": "44.67",
        "layer-1": "45.26",
        "layer-3": "46.22",
        "deconvolutions": "35.47",
        "final layer": "26.57",
    },
    "wepdtof-pose": {},
}
"""Published COCO val AP by study and row, with 1K, 5K and 10K labels."""

SEVERAL = {
    "trs-table3": (0, WILD, {
        "supervised, ResNet-50": "70.9 91.4 74.2",
        "dual, ResNet-50": "73.9 92.5 77.0",
        "sspcm, ResNet-50": "74.2 92.7 77.2",
        "multi_augs+dual, ResNet-50": "74.6 93.5 77.6",
        "supervised, ResNet-101": "72.5 92.5 75.6",
        "dual, ResNet-101": "75.3 93.6 78.2",
        "sspcm, ResNet-101": "75.5 93.8 78.4",
        "multi_augs+dual, ResNet-101": "76.3 93.5 79.2",
    }),
    "coco-wild-hrnet": (0, WILD, {
        "supervised": "77.2 93.5 79.9",
        "dual": "79.2 94.6 81.7",
        "sspcm": "79.4 94.8 81.9",
        "multi_augs+dual": "79.5 94.6 82.1",
    }),
    "trs-table4": (10_000, PARTS, {
        "dual": "95.6 93.8 85.0 78.4 85.8 79.4 74.2 85.3",
        "sspcm": "95.5 93.6 84.7 78.3 85.9 79.4 74.3 85.3",
        "trs": "95.7 93.9 85.7 79.3 86.3 79.1 74.9 85.7",
    }),
    "trs-table5": (1000, PARTS, {}),
    "akm-table2": (0, PARTS, {
        "dual": "98.7 97.3 93.7 90.2 92.0 90.3 86.5 93.0",
        "akm+mixup": "98.7 97.4 94.0 91.1 92.2 90.8 86.5 93.3",
    }),
}  # fmt: skip
"""Number of labels (0 = all), metrics and published scores by study and row."""

OURS = {"label-efficiency", "lspet-methods", "people-constants", "people-methods"}
"""Studies that are in no paper."""


def published(name):
    """The published scores of a study as text: {row: {labels: {metric: digits}}}."""
    return {
        label: {n: {m: str(score) for m, score in scores.items()} for n, scores in row.published.items()}
        for label, row in load_grid(name).rows.items()
        if row.published
    }


@pytest.mark.parametrize("name", AP_BY_LABELS)
def test_published_ap(name):
    expected = {
        row: {n: {"AP": digits} for n, digits in zip(COCO_1K_5K_10K, text.split(), strict=False)}
        for row, text in AP_BY_LABELS[name].items()
    }
    if name == "trs-table2":
        expected["supervised, all labels"] = {0: {"AP": "67.1"}}
    assert published(name) == expected


@pytest.mark.parametrize("name", SEVERAL)
def test_published_scores_of_several_metrics(name):
    labels, metrics, rows = SEVERAL[name]
    assert published(name) == {
        row: {labels: dict(zip(metrics, text.split(), strict=True))} for row, text in rows.items()
    }
    assert load_grid(name).columns == metrics


def test_columns_of_body_parts_are_those_of_the_scores():
    assert [f"PCKh@0.5/{part}" for part in pck.PARTS] == PARTS[:-1]


def test_every_study_of_a_paper_is_here():
    assert {*AP_BY_LABELS, *SEVERAL} == set(presets()) - OURS


def test_scores_of_another_test_set_are_marked():
    rows = load_grid("akm-table2").rows
    assert {name for name, row in rows.items() if "test server" in row.not_comparable} == {"dual", "akm+mixup"}


def test_the_study_of_four_data_sets_needs_only_their_files(tmp_path):
    needed = [path for part in load_grid("label-efficiency").parts().values() for path in part.missing_files(tmp_path)]
    assert {str(path.relative_to(tmp_path)) for path in needed} == {
        *("lspet/train.json", "lspet/val.json"),
        *("lab/mirror-mouse/coco_train20.json", "lab/mirror-mouse/frames", "lab/mirror-mouse/coco_test.json"),
        *("lab/openfield/coco_train5.json", "lab/openfield/coco_unlabeled51.json", "lab/openfield/coco_test.json"),
    }


def test_no_label_of_the_study_of_four_data_sets_is_held_out():
    for run in (grid := load_grid("label-efficiency")).runs():
        data = grid.run_config(run).data
        assert data.val or data.train == "people"


@pytest.mark.parametrize("name", sorted(set(presets()) - OURS))
def test_the_protocol_of_the_papers(name):
    """What all their tables have in common; weights of another network than a ResNet are those of HRNet's authors."""
    grid = load_grid(name)
    for run in grid.runs():
        config = grid.run_config(run)
        assert config.views.seen_mask is False
        evaluation = config.evaluation
        assert (evaluation.decoder, evaluation.flip_test, evaluation.instance_score) == ("quarter", False, "rescored")
        assert evaluation.precision == "32-true"
        assert (config.data.include_labeled, config.data.validation, config.train.select) == (False, 0, "last")
        backbones = [config.model.backbone, *getattr(config.method, "backbones", {}).values()]
        assert all(b.endswith((".tv_in1k", ".ms_in1k")) for b in backbones), backbones
        if grid.rows[run.row].options["method"] == "dual" and run.labels == 1000:
            assert (config.train.epochs, steps_of_drops(config)) == (70, [50, 60])


def test_only_trs_mixes_targets_by_cut_mix():
    """Table IX cites CutMix, which mixes labels; MultiAugs pastes image patches, which have a name of their own."""
    found = {}
    for name in presets():
        grid = load_grid(name)
        for run in grid.runs():
            method = grid.run_config(run).method
            used = [a for path in getattr(method, "paths", [getattr(method, "augmentations", [])]) for a in path]
            for augmentation in used:
                if augmentation.kind == "cut_mix":
                    found.setdefault(method.name, set()).add(augmentation.mix_targets)
    assert found == {"trs": {True}}


def steps_of_drops(config: RunConfig) -> list[float]:
    """The epochs at which the learning rate falls."""
    return [round(drop * config.train.epochs, 1) for drop in config.train.drops]


@pytest.mark.parametrize(
    ("name", "row", "labels", "epochs", "drops"),
    [
        ("trs-table2", "single", 1000, 30, [20, 25]),
        ("trs-table2", "akm+mixup", 1000, 30, [20, 25]),
        ("trs-table2", "trs", 1000, 100, [70, 90]),
        ("trs-table2", "dual", 5000, 100, [70, 90]),
        ("trs-table10", "dual, ResNet-18 and ResNet-50", 1000, 70, [50, 60]),
        ("trs-table3", "trs, ResNet-101", None, 400, [300, 350]),
        ("coco-wild-hrnet", "supervised", None, 300, [220, 260]),
        ("trs-table4", "dual", 10_000, 100, [50, 70]),
        ("trs-table5", "trs", 1000, 100, [50, 70]),
        ("akm-table2", "akm+mixup", None, 100, [50, 70]),
    ],
)
def test_schedules(name, row, labels, epochs, drops):
    config = load_grid(name).run_config(StudyRun(row, labels, 0))
    assert (config.train.epochs, steps_of_drops(config)) == (epochs, drops)


def test_unlabeled_persons():
    def data(name):
        grid = load_grid(name)
        return grid.run_config(grid.runs()[0]).data

    wild, fourth, fifth, mpii = map(data, ("trs-table3", "trs-table4", "trs-table5", "akm-table2"))
    assert (wild.labels, wild.min_score) == (None, 0)
    assert (fourth.labels, fourth.max_unlabeled, fourth.include_remaining) == (10_000, 100_000, False)
    assert (fifth.labels, fifth.max_unlabeled, fifth.unlabeled) == (1000, 10_000, None)
    assert (mpii.labels, mpii.max_unlabeled) == (None, None)
    assert "ai_challenger" in fourth.unlabeled
    assert fourth.unlabeled == mpii.unlabeled


def test_rows_without_keypoint_mix_have_no_augmentation():
    """TRS names rotation and scale there; joint cutout has a row of its own in table IX."""
    grid = load_grid("trs-table6")
    augmentations = {
        row: [a.kind for a in grid.run_config(StudyRun(row, 1000, 0)).method.augmentations] for row in grid.rows
    }
    assert augmentations == {
        "base": [], "MFL": [], "KM": ["keypoint_mix"], "MFL + KM, no reviewers": ["keypoint_mix"],
        "all": ["keypoint_mix"],
    }  # fmt: skip
    one = load_grid("trs-table8").run_config(StudyRun("K = 1", 1000, 0))
    assert one.method == grid.run_config(StudyRun("MFL", 1000, 0)).method


def test_who_mixes_targets():
    """Mixup and CutMix of TRS, table IX, as the cited methods do; MultiAugs leaves the target as it is."""

    def config(name, row, labels):
        return load_grid(name).run_config(StudyRun(row, labels, 0)).method

    assert [config("trs-table9", row, 1000).augmentations[0].mix_targets for row in ("mixup", "cut_mix")] == [
        True,
        True,
    ]
    assert "mix_targets" in load_grid("trs-table9").note
    wild = (("trs-table3", "multi_augs+dual, ResNet-101"), ("coco-wild-hrnet", "multi_augs+dual"))
    assert [config(name, row, None).paths[1][1].kind for name, row in wild] == ["cut_mix_patches"] * 2
    assert [config(name, row, None).paths for name, row in wild] == [MultiAugsConfig().paths[:2]] * 2


def test_places_of_mixup_are_added_to_the_image():
    grid = load_grid("akm-table5")
    methods = [grid.run_config(run).method for run in grid.runs()]
    assert all(method.mixup.places[0] == "image" for method in methods)
    assert [a.kind for method in methods for a in method.augmentations] == ["joint_cutout"] * 5


NETWORKS: dict[str, PoseNet] = {}
"""Built networks by configuration."""


def network_once(*configuration, **options):
    """Returns a copy of a network that is built once."""
    key = repr((configuration, options))
    if key not in NETWORKS:
        NETWORKS[key] = PoseNet(*configuration, **options)
    return deepcopy(NETWORKS[key])


@pytest.mark.parametrize("name", slow_but(presets(), "label-efficiency", "trs-table3"))
def test_the_networks_of_every_run_can_be_built(name, monkeypatch):
    """Without weights, on PyTorch's meta device; equal networks are copies."""
    monkeypatch.setattr("semipose.build.PoseNet", network_once)
    grid = load_grid(name)
    built = set()
    for run in grid.runs():
        config = grid.run_config(run)
        model = config.model.model_copy(update={"weights": "none"})
        key = (config.method.model_dump_json(), model.model_dump_json())
        if key not in built:
            built.add(key)
            with torch.device("meta"):
                method = make_method(config.model_copy(update={"model": model}), COCO, torch.Generator())
            found = {module.config.backbone for module in method.modules() if isinstance(module, PoseNet)}
            given = {*getattr(config.method, "backbones", {}).values()}
            assert found
            assert given <= found <= given | {config.model.backbone}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row"),
    [("trs-table3", "dual, ResNet-50"), ("trs-table4", "supervised"), ("akm-table5", "layer-3")],
)
def test_studies_run_to_their_table_on_small_data(name, row, small_people, tmp_path, tiny_run):
    (tmp_path / "set").mkdir()
    for part in ("train.json", "val.json"):
        shutil.copy(small_people, tmp_path / "set" / part)
    (tmp_path / "set" / "images").symlink_to(PEOPLE / "images")
    small = {key: value for key, value in tiny_run.items() if key.startswith(("model", "input", "train"))}
    if name == "akm-table5":
        small |= {"model.backbone": "resnet18"}
    grid = load_grid(name).scaled(0.001).overridden(small)
    grid = grid.model_copy(update={"labels": grid.labels[:1], "rows": {row: grid.rows[row]}})
    result = run_study(grid, tmp_path / "out", data=tmp_path / "set", jobs=2)
    assert not result.failures
    text = result.table.read_text()
    assert f"| {row} |" in text
    assert "in place of the study's own data" in text
