"""Fuzzing by meaning: a sound set is turned into plausible but odd exports, and its scores must stay what they are."""

import contextlib
import io
import json
import random
import shutil
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pycocotools import coco as oracle_coco
from pycocotools.cocoeval import COCOeval

import semipose
from semipose.data.crops import CropGeometry
from semipose.data.datasets import read_dataset
from semipose.data.formats.coco_results import save_predictions
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.registry import read_annotations
from semipose.data.prepare import convert_annotations, merge_annotations
from semipose.errors import DataError, InputError
from semipose.inference.pose_model import PoseModel
from semipose.losses import LossConfig
from semipose.models.pose_net import ModelConfig, PoseNet
from semipose.structures.instances import PoseDataset
from semipose.structures.predictions import Prediction, ground_truth_as_predictions
from semipose.structures.skeletons import COCO, Skeleton

Content = dict[str, Any]
Quirk = Callable[[Content, Path], bytes | None]
"""Changes the content of labels.json and the files below the folder; returns the file if it encodes it itself."""

RESULTS = "predictions.json"


# The sound set, and what is measured on it


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight persons in seven images, one image without persons."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "images").mkdir()
    persons = read_dataset("people", None).subset(range(8))
    for person in persons.instances:
        shutil.copy(person.image, folder / "images")
    write_coco(persons, folder / "labels.json")
    content = json.loads((folder / "labels.json").read_text())
    content["annotations"][7]["image_id"] = content["images"][0]["id"]  # two persons in one image
    content["annotations"][3]["keypoints"][3 * 9 : 3 * 11] = [0] * 6  # wrists that are not labeled
    content["annotations"][3]["num_keypoints"] = 15
    (folder / "labels.json").write_text(json.dumps(content))
    return folder


def turned(sound: Path, folder: Path, quirk: Quirk | None) -> Path:
    """A copy of the sound set with a quirk."""
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    labels = folder / "labels.json"
    if quirk:
        content = json.loads(labels.read_text())
        encoded = quirk(content, folder)
        labels.write_bytes(json.dumps(content).encode() if encoded is None else encoded)
    return labels


@cache
def network(skeleton: Skeleton) -> PoseModel:
    """A small network with random weights, the same for all skeletons with as many joints."""
    torch.manual_seed(0)
    net = PoseNet(ModelConfig(backbone="test_resnet", weights="none", head_channels=8), len(skeleton))
    return PoseModel(net.eval(), "f", skeleton, CropGeometry((64, 64)), LossConfig())


def noisy(persons: PoseDataset) -> list[Prediction]:
    """Labels with noise that depends on nothing but the labels."""
    found = []
    for p in ground_truth_as_predictions(persons):
        rng = np.random.default_rng(int(1000 * p.joints[5:].max()))
        joints = p.joints + rng.normal(0, 3, p.joints.shape)
        found.append(Prediction(p.image_id, None, joints, p.scores, float(rng.uniform()), p.box, p.category_id))
    return found


def measured(predictions: Path, labels: Path) -> dict[str, float]:
    """The scores of a results file, and the number of persons."""
    found = semipose.evaluate(predictions, labels)
    known = {name: value for name, value in found.scores.as_dict().items() if value is not None}
    return known | {"persons": found.protocol.n_persons}


def oracle(predictions: Path, labels: Path, sigmas: tuple[float, ...]) -> dict[str, float]:
    """AP and AR of two files by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = oracle_coco.COCO(str(labels))
        evaluation = COCOeval(truth, truth.loadRes(str(predictions)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("AP", "AP50", "AP75", "AR"), evaluation.stats[[0, 1, 2, 5]], strict=True))


def require_perfect(scores: dict[str, float]) -> None:
    assert scores["AP"] == scores["PCK@0.2"] == 1
    assert scores.get("pixel_error", 0.0) == pytest.approx(0.0, abs=1e-6)


def require_equal(scores: dict[str, float], expected: dict[str, float]) -> None:
    assert scores == pytest.approx(expected, rel=1e-6, abs=1e-6)


def poses(predictions: Path) -> np.ndarray:
    """All predicted poses in an order that no ids change, (N, 3 K)."""
    rows = np.array([record["keypoints"] for record in json.loads(predictions.read_text())])
    return rows[np.lexsort(rows.T[:2].round(1))]


@pytest.fixture(scope="module")
def base(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is measured on the sound set."""
    folder = tmp_path_factory.mktemp("base")
    return measure(turned(sound, folder, None))


def measure(labels: Path) -> dict[str, Any]:
    """The scores of the labels, of noisy labels and of a network, with their files in `out` beside the labels."""
    persons, out = read_annotations(labels), labels.parent / "out"
    save_predictions(ground_truth_as_predictions(persons), out / "own.json")
    save_predictions(noisy(persons), out / "noisy.json")
    semipose.predict(network(persons.skeleton), labels, out=out, device="cpu")
    return {
        "own": measured(out / "own.json", labels),
        "noisy": measured(out / "noisy.json", labels),
        "network": measured(out / RESULTS, labels),
        "poses": poses(out / RESULTS),
        "names": persons.skeleton.joints,
    }


# Quirks of annotation files


def rename_images(content: Content, folder: Path, name: Callable[[str], str], listed: Callable[[str], str]) -> None:
    """Moves each image to `name` of its file name, and lists it as `listed` of that."""
    for image in content["images"]:
        moved = name(image["file_name"])
        (folder / "images" / moved).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / image["file_name"]).rename(folder / "images" / moved)
        image["file_name"] = listed(moved)


def renamed(name: Callable[[str], str], listed: Callable[[str], str] = str) -> Quirk:
    return lambda content, folder: rename_images(content, folder, name, listed)


def renumbered(new_id: Callable[[int], int | str]) -> Quirk:
    """Other image ids."""

    def quirk(content: Content, folder: Path) -> None:
        ids = {image["id"]: new_id(n) for n, image in enumerate(content["images"])}
        for image in content["images"]:
            image["id"] = ids[image["id"]]
        for record in content["annotations"]:
            record["image_id"] = ids[record["image_id"]]

    return quirk


def encoded(encoding: str, **options: Any) -> Quirk:
    return lambda content, folder: json.dumps(content, **options).encode(encoding)


def each(change: Callable[[Content], object]) -> Quirk:
    """Changes every annotation."""

    def quirk(content: Content, folder: Path) -> None:
        for record in content["annotations"]:
            change(record)

    return quirk


def in_category(change: Callable[[Content], object]) -> Quirk:
    """Changes the category."""
    return lambda content, folder: (change(content["categories"][0]), None)[1]


def joints_named(name: Callable[[str], str]) -> Quirk:
    return in_category(lambda category: category.update(keypoints=[name(joint) for joint in category["keypoints"]]))


def side_last(joint: str) -> str:
    side, _, part = joint.partition("_")
    return f"{part}_{side}" if part else joint


def camel(joint: str) -> str:
    return "".join(word.capitalize() for word in joint.split("_"))


def short_side(joint: str) -> str:
    return joint.replace("left_", "L ").replace("right_", "R ")


def reordered(content: Content, folder: Path) -> None:
    chance = random.Random(0)
    for key in ("images", "annotations"):
        chance.shuffle(content[key])
        content[key] = [dict(reversed(record.items())) for record in content[key]]
    content.update({key: content.pop(key) for key in sorted(content)})


def category(number: int | str, name: str) -> Quirk:
    def quirk(content: Content, folder: Path) -> None:
        content["categories"][0] |= {"id": number, "name": name}
        for record in content["annotations"]:
            record["category_id"] = number

    return quirk


def objects_besides(content: Content, folder: Path) -> None:
    """Boxes of a class without joints."""
    content["categories"].insert(0, {"id": 7, "name": "ball"})
    record = {"image_id": content["images"][0]["id"], "category_id": 7, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    content["annotations"].insert(0, {"id": 900, **record})


def unlabeled_with_numbers(record: Content) -> None:
    """Joints that are not labeled have coordinates, as some tools write."""
    flat = record["keypoints"]
    for k in range(17):
        if flat[3 * k + 2] == 0:
            flat[3 * k : 3 * k + 2] = [-1, 4000]


def cameras(content: Content, folder: Path) -> None:
    """Two folders with files of the same names."""
    names = iter([f"cam{camera}/{n:03}.jpg" for n in range(1, 5) for camera in (1, 2)])
    rename_images(content, folder, lambda name: next(names), str)


def crowd(flag: Any) -> Quirk:
    """A crowd besides the persons."""

    def quirk(content: Content, folder: Path) -> None:
        record = content["annotations"][1]
        content["annotations"].append({**record, "id": 901, "iscrowd": flag, "keypoints": [0] * 51, "num_keypoints": 0})

    return quirk


SAME: dict[str, Quirk] = {
    # ids
    "image ids from 0": renumbered(lambda n: n),
    "image ids in another order": renumbered(lambda n: 99 - n),
    "large image ids": renumbered(lambda n: 2**45 + n),
    "image ids as texts": renumbered(lambda n: f"frame-{9 - n}"),
    "image ids as digits in texts": renumbered(lambda n: str(10 * n)),
    "image ids with zeros in front": renumbered(lambda n: f"{n:012}"),
    "half of the image ids are texts": renumbered(lambda n: n if n % 2 else f"{n}"),
    "annotation ids from 0": each(lambda record: record.update(id=record["id"] - 1)),
    "no annotation ids": each(lambda record: record.pop("id")),
    # order and encoding
    "another order": reordered,
    "a byte-order mark": encoded("utf-8-sig"),
    "UTF-16": encoded("utf-16"),
    "UTF-16 of the other byte order": lambda content, folder: b"\xfe\xff" + json.dumps(content).encode("utf-16-be"),
    "indented, with blank lines": lambda content, folder: b"\n \n" + json.dumps(content, indent=4).encode() + b"\n\n",
    "Windows line ends": lambda content, folder: json.dumps(content, indent=1).replace("\n", "\r\n").encode(),
    # names of files
    "folders": renamed(lambda name: f"a/b{name[4]}/{name}"),
    "two cameras with the same names": cameras,
    "a folder in the names that is not there": renamed(str, lambda name: f"project/images/{name}"),
    "the image folder in the names": renamed(str, lambda name: f"images/{name}"),
    "a dot in front": renamed(str, lambda name: f"./{name}"),
    "back-slashes": renamed(lambda name: f"a/b/{name}", lambda name: name.replace("/", "\\")),
    "blanks": renamed(lambda name: f"my images/photo {name}"),
    "percent-encoded": renamed(lambda name: f"my images/photo {name}", quote),
    "composed umlauts": renamed(lambda name: f"Köln {name}", lambda name: unicodedata.normalize("NFD", name)),
    "decomposed umlauts": renamed(
        lambda name: unicodedata.normalize("NFD", f"Köln {name}"), lambda name: unicodedata.normalize("NFC", name)
    ),
    "upper-case suffixes": renamed(str, lambda name: name.upper()),
    "lower-case suffixes": renamed(lambda name: name.replace(".jpg", ".JPG"), lambda name: name.lower()),
    "Japanese names": renamed(lambda name: f"写真/{name}"),
    # names of joints
    "joints in camel case": joints_named(camel),
    "joints with a side at the end": joints_named(side_last),
    "joints with short sides": joints_named(short_side),
    "joints with blanks": joints_named(lambda joint: joint.replace("_", " ").title()),
    "joints with dashes": joints_named(lambda joint: joint.replace("_", "-")),
    "joints in upper case": joints_named(str.upper),
    # categories
    "category 2, a horse": category(2, "horse"),
    "category 0": category(0, "person"),
    "objects besides": objects_besides,
    "no skeleton": in_category(lambda category: category.pop("skeleton")),
    # values
    "coordinates as floats": each(lambda record: record.update(keypoints=[float(v) for v in record["keypoints"]])),
    "all joints occluded": each(lambda record: record.update(keypoints=[min(v, 1) if n % 3 == 2 else v for n, v in
                                                                      enumerate(record["keypoints"])])),
    "unlabeled joints with numbers": each(unlabeled_with_numbers),
    "no num_keypoints": each(lambda record: record.pop("num_keypoints")),
    "num_keypoints of 0": each(lambda record: record.update(num_keypoints=0)),
    "iscrowd missing": each(lambda record: record.pop("iscrowd")),
    "iscrowd null": each(lambda record: record.update(iscrowd=None)),
    "iscrowd as text": each(lambda record: record.update(iscrowd="0")),
    "iscrowd false": each(lambda record: record.update(iscrowd=False)),
    "a crowd": crowd(1),
    "a crowd as text": crowd("1"),
    "other keys": each(lambda record: record.update(segmentation=[], attributes={"occluded": False}, score=None)),
}  # fmt: skip
"""Other ways to write the same set: every score stays the same."""


@pytest.mark.parametrize("name", SAME)
def test_another_way_to_write_a_set_changes_no_score(name, sound, base, tmp_path):
    labels = turned(sound, tmp_path, SAME[name])
    found = measure(labels)
    require_perfect(found["own"])
    require_equal(found["noisy"], base["noisy"])
    require_equal(found["network"], base["network"])
    np.testing.assert_allclose(found["poses"], base["poses"], atol=1e-3)


@pytest.mark.parametrize("name", SAME)
def test_names_and_categories_stay_and_pycocotools_agrees_on_files_that_are_written(name, sound, tmp_path):
    """Of a set that is read, converted or merged; with the results of its labels and of a network."""
    labels = turned(sound, tmp_path, SAME[name])
    persons, out = read_annotations(labels), tmp_path / "out"
    out.mkdir()
    written = tmp_path / "written.json"
    images = write_coco(persons, written)
    convert_annotations(labels, tmp_path / "converted.json")
    for copy in (written, tmp_path / "converted.json"):
        again = read_annotations(copy, images)
        given, kept = [json.loads(p.read_text(_encoding(p)))["categories"] for p in (labels, copy)]
        given = [c for c in given if c.get("keypoints")]
        assert [(c["id"], c["name"], c["keypoints"]) for c in kept] == [
            (c["id"], c["name"], c["keypoints"]) for c in given
        ]
        assert set(again.image_paths) == set(persons.image_paths)
        save_predictions(noisy(again), out / "noisy.json")
        semipose.predict(network(again.skeleton), copy, images=images, out=out, device="cpu")
        for results in (out / "noisy.json", out / RESULTS):
            ours = semipose.evaluate(results, copy, images=images).scores.as_dict()
            if not _ids_sort(again):  # pycocotools sorts the ids
                continue
            for metric, value in oracle(results, copy, again.skeleton.sigmas).items():
                assert ours[metric] == pytest.approx(value, abs=1e-9), metric
            assert 0 < oracle(out / "noisy.json", copy, again.skeleton.sigmas)["AP"] < 1


def _encoding(path: Path) -> str:
    head = path.read_bytes()[:2]
    return "utf-16" if head in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _ids_sort(persons: PoseDataset) -> bool:
    return len({type(image_id) for image_id in persons.image_paths}) == 1


def test_merged_sets_score_as_by_pycocotools(sound, tmp_path):
    first, second = turned(sound, tmp_path / "a", None), turned(sound, tmp_path / "b", SAME["image ids as texts"])
    for image in (path for path in (tmp_path / "b").rglob("*") if path.suffix in (".jpg", ".png")):
        image.write_bytes(image.read_bytes() + b"\0")  # other bytes; copies would be merged
    merge_annotations([first, second], tmp_path / "both.json")
    persons = read_annotations(tmp_path / "both.json", tmp_path)
    assert len(persons) == 16
    save_predictions(noisy(persons), tmp_path / "noisy.json")
    ours = semipose.evaluate(tmp_path / "noisy.json", tmp_path / "both.json", images=tmp_path).scores.as_dict()
    for metric, value in oracle(tmp_path / "noisy.json", tmp_path / "both.json", persons.skeleton.sigmas).items():
        assert ours[metric] == pytest.approx(value, abs=1e-9), metric


# Quirks that lose something: labels still score 1, and what is missing is counted


def half(change: Callable[[Content], object]) -> Quirk:
    """Changes every second annotation."""

    def quirk(content: Content, folder: Path) -> None:
        for record in content["annotations"][::2]:
            change(record)

    return quirk


ESTIMATED: dict[str, tuple[Quirk, Quirk]] = {
    "area of 0": (each(lambda r: r.update(area=0)), each(lambda r: r.pop("area"))),
    "half of the areas are 0": (half(lambda r: r.update(area=0)), half(lambda r: r.pop("area"))),
    "area null": (each(lambda r: r.update(area=None)), each(lambda r: r.pop("area"))),
    "zero boxes": (each(lambda r: r.update(bbox=[0, 0, 0, 0])), each(lambda r: r.pop("bbox"))),
    "half of the boxes are zero": (half(lambda r: r.update(bbox=[0, 0, 0, 0])), half(lambda r: r.pop("bbox"))),
    "boxes null": (each(lambda r: r.update(bbox=None)), each(lambda r: r.pop("bbox"))),
    "zero boxes and areas": (
        each(lambda r: r.update(bbox=[0.0, 0.0, 0.0, 0.0], area=0.0)),
        each(lambda r: (r.pop("bbox"), r.pop("area"))),
    ),
}
"""Placeholders, and the same set without the values that they stand for."""


@pytest.mark.parametrize("name", ESTIMATED)
def test_placeholders_are_absent_values(name, sound, tmp_path):
    quirk, absent = ESTIMATED[name]
    found = []
    for labels in (turned(sound, tmp_path / "a", quirk), turned(sound, tmp_path / "b", absent)):
        persons, out = read_annotations(labels), labels.parent / "out"
        save_predictions(ground_truth_as_predictions(persons), out / "own.json")
        save_predictions(noisy(persons), out / "noisy.json")
        require_perfect(measured(out / "own.json", labels))
        network_scores = semipose.evaluate(network(COCO), labels, device="cpu").scores.as_dict()
        assert persons.instances.trainable.sum() == 8
        found.append((measured(out / "noisy.json", labels), network_scores))
    assert found[0] == found[1]


def change_first(**values: Any) -> Quirk:
    """Changes the first annotation."""
    return lambda content, folder: (content["annotations"][0].update(values), None)[1]


REFUSED: dict[str, Quirk] = {
    "an empty box": change_first(bbox=[]),
    "a box of texts": change_first(bbox=["1", "2", "30", "40"]),
    "a box with names": change_first(bbox={"x": 1, "y": 2, "width": 30, "height": 40}),
    "corners the wrong way round": change_first(bbox=[100, 100, -60, -60]),
    "keypoints as pairs": change_first(keypoints=[[1, 2, 2]] * 17),
    "keypoints as texts": change_first(keypoints=["1"] * 51),
    "visibility as a score": change_first(keypoints=[10, 20, 0.7] * 17),
    "too few joints": change_first(keypoints=[10, 20, 2] * 16),
    "infinite coordinates": change_first(keypoints=[float("inf"), 20, 2] * 17),
    "a category that is not listed": change_first(category_id=77),
    "an image that is not listed": change_first(image_id=777),
    "a negative area": change_first(area=-5),
}
"""Records that have no meaning."""


@pytest.mark.parametrize("name", REFUSED)
def test_records_without_a_meaning_are_refused_by_their_id(name, sound, tmp_path):
    with pytest.raises(DataError, match=r"annotation 1\b.*") as caught:
        read_annotations(turned(sound, tmp_path, REFUSED[name]))
    assert "\n" not in str(caught.value)


# Quirks of results


Records = list[dict[str, Any]]


def outside(records: Records, persons: PoseDataset) -> bytes | None:
    """As many results of images that the set does not list."""
    records += [{**record, "image_id": 5000 + n} for n, record in enumerate(records)]
    return None


def named(name: Callable[[Path], str], with_id: bool = True) -> Callable[[Records, PoseDataset], None]:
    """Results that name files, with ids of another numbering or none."""

    def quirk(records: Records, persons: PoseDataset) -> None:
        files = persons.image_paths
        for n, record in enumerate(records):
            record["file_name"] = name(files[record["image_id"]])
            record.pop("annotation_id", None)
            record["image_id"] = 7000 + n
            if not with_id:
                del record["image_id"]

    return quirk


def many(records: Records, persons: PoseDataset) -> None:
    """More than 20 results in an image, of which COCO counts those with the highest scores."""
    worst = {**records[0], "score": -1.0, "keypoints": [0.0] * 51}
    worst.pop("annotation_id", None)
    records += [dict(worst) for _ in range(40)]


def records_of(change: Callable[[dict[str, Any]], object]) -> Callable[[Records, PoseDataset], None]:
    return lambda records, persons: [change(record) for record in records] and None


SAME_RESULTS: dict[str, Callable[[Records, PoseDataset], bytes | None]] = {
    "results in another order": lambda records, persons: random.Random(0).shuffle(records),
    "results of other images": outside,
    "results with image ids as texts": records_of(lambda r: r.update(image_id=str(r["image_id"]))),
    "half of the results with image ids as texts": lambda records, persons: records_of(
        lambda r: r.update(image_id=str(r["image_id"]))
    )(records[::2], persons),
    "results with image ids as floats": records_of(lambda r: r.update(image_id=float(r["image_id"]))),
    "results that name files": named(lambda path: path.name),
    "results that name relative paths": named(lambda path: f"images/{path.name}"),
    "results that name absolute paths": named(lambda path: str(path.absolute())),
    "results that name paths of another computer": named(lambda path: f"C:\\data\\images\\{path.name}"),
    "results that name stems": named(lambda path: path.stem),
    "results that name files and have no ids": named(lambda path: path.name, with_id=False),
    "results with scores in percent": records_of(lambda r: r.update(score=100 * r["score"])),
    "results without boxes": records_of(lambda r: r.pop("bbox")),
    "results without annotation ids": records_of(lambda r: r.pop("annotation_id", None)),
    "results with other keys": records_of(lambda r: r.update(id=5, area=3.0, segmentation=[])),
    "results with a byte-order mark": lambda records, persons: json.dumps(records).encode("utf-8-sig"),
    "results in UTF-16": lambda records, persons: json.dumps(records).encode("utf-16"),
    "more than 20 results in an image": many,
}
"""Other ways to write the same results."""


@pytest.mark.parametrize("name", SAME_RESULTS)
def test_another_way_to_write_results_changes_no_score(name, sound, base, tmp_path):
    """Or it is refused in one line that names the record."""
    labels = turned(sound, tmp_path, None)
    persons = read_annotations(labels)
    for what, predictions in (("own", ground_truth_as_predictions(persons)), ("noisy", noisy(persons))):
        path = tmp_path / f"{what}.json"
        save_predictions(predictions, path)
        records = json.loads(path.read_text())
        changed = SAME_RESULTS[name](records, persons)
        path.write_bytes(json.dumps(records).encode() if changed is None else changed)
        try:
            found = measured(path, labels)
        except InputError as error:
            assert "record 1: " in str(error)
            assert name in MAY_BE_REFUSED
            continue
        require_equal(found, base[what])


MAY_BE_REFUSED = {"results with image ids as floats", "results that name files and have no ids"}
"""Results whose images have no usable id."""


def test_results_of_other_images_are_counted(sound, tmp_path, caplog):
    labels = turned(sound, tmp_path, None)
    persons = read_annotations(labels)
    save_predictions(ground_truth_as_predictions(persons), tmp_path / RESULTS)
    records = json.loads((tmp_path / RESULTS).read_text())
    outside(records, persons)
    (tmp_path / RESULTS).write_text(json.dumps(records))
    found = semipose.evaluate(tmp_path / RESULTS, labels)
    assert "8" in caplog.text + json.dumps(found.as_dict()["protocol"])


# Quirks of detections


def boxes_of(persons: PoseDataset) -> Records:
    """The annotated boxes as detections."""
    return [
        {"image_id": p.image_id, "category_id": 1, "bbox": list(p.box), "score": 0.9 - 0.01 * n}
        for n, p in enumerate(persons.instances)
    ]


def other_classes(person: Any, other: Any) -> Callable[[Records, PoseDataset], None]:
    """Persons of class `person`, and boxes of another class."""

    def quirk(records: Records, persons: PoseDataset) -> None:
        for record in records:
            record["category_id"] = person
        records += [{**record, "category_id": other, "bbox": [1, 1, 9, 9]} for record in records[:3]]

    return quirk


SAME_BOXES: dict[str, Callable[[Records, PoseDataset], bytes | None]] = {
    "boxes in another order": lambda records, persons: records.reverse(),
    "boxes with another class": other_classes(1, 18),
    "boxes with class ids as texts": other_classes("1", "18"),
    "boxes with class ids as floats": other_classes(1.0, 18.0),
    "boxes with image ids as texts": records_of(lambda r: r.update(image_id=str(r["image_id"]))),
    "boxes that name files": lambda records, persons: records_of(
        lambda r: r.update(image_id=persons.image_paths[r["image_id"]].name)
    )(records, persons),
    "boxes that name stems": lambda records, persons: records_of(
        lambda r: r.update(image_id=persons.image_paths[r["image_id"]].stem)
    )(records, persons),
    "boxes without scores": records_of(lambda r: r.pop("score")),
    "boxes with a byte-order mark": lambda records, persons: json.dumps(records).encode("utf-8-sig"),
}
"""Other ways to write the same detections."""


@pytest.mark.parametrize("name", SAME_BOXES)
def test_another_way_to_write_boxes_changes_no_pose(name, sound, base, tmp_path):
    labels = turned(sound, tmp_path, None)
    persons = read_annotations(labels)
    records = boxes_of(persons)
    changed = SAME_BOXES[name](records, persons)
    boxes = tmp_path / "boxes.json"
    boxes.write_bytes(json.dumps(records).encode() if changed is None else changed)
    for number, source in enumerate((labels, tmp_path / "images")):
        if source != labels and "image ids" in name + " image ids" and "name" not in name:
            continue  # a folder has no ids
        out = tmp_path / f"out{number}"
        semipose.predict(network(COCO), source, boxes=boxes, out=out, device="cpu")
        np.testing.assert_allclose(poses(out / RESULTS), base["poses"], atol=1e-3)


def test_two_cameras_with_the_same_names_keep_their_boxes_and_scores(sound, base, tmp_path, caplog):
    """Predictions on the folder, with boxes that name relative paths, then their evaluation."""
    labels = turned(sound, tmp_path, cameras)
    persons = read_annotations(labels)
    records = boxes_of(persons)
    for record in records:
        path = persons.image_paths[record["image_id"]]
        record["image_id"] = path.relative_to(tmp_path / "images").as_posix()
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    out = tmp_path / "out"
    semipose.predict(network(COCO), tmp_path / "images", boxes=tmp_path / "boxes.json", out=out, device="cpu")
    np.testing.assert_allclose(poses(out / RESULTS), base["poses"], atol=1e-3)
    semipose.predict(network(COCO), labels, out=tmp_path / "usual", device="cpu")
    usual = json.loads((tmp_path / "usual" / RESULTS).read_text())
    for record in usual:
        del record["annotation_id"]  # predictions on a folder have none
    (tmp_path / "usual" / RESULTS).write_text(json.dumps(usual))
    require_equal(measured(out / RESULTS, labels), measured(tmp_path / "usual" / RESULTS, labels))
    for record in records:
        record["image_id"] = Path(record["image_id"]).name
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    caplog.clear()
    try:
        semipose.predict(network(COCO), tmp_path / "images", boxes=tmp_path / "boxes.json", out=out, device="cpu")
    except DataError as error:
        assert "none of its 8 detections" in str(error)
    else:
        assert json.loads((out / RESULTS).read_text()) == []
        assert "cam1/001.jpg" in caplog.text
        assert "cam2/001.jpg" in caplog.text


# Mirrored sets


MIRRORED: dict[str, Callable[[str], str]] = {
    "left_wrist": str,
    "LeftWrist": camel,
    "wrist_left": side_last,
    "L wrist": short_side,
    "front_left_wrist": lambda joint: joint.replace("left_", "front_left_").replace("right_", "front_right_"),
    "wristL_tip": lambda joint: f"{joint[5:]}L_tip" if joint.startswith("left") else
                                f"{joint[6:]}R_tip" if joint.startswith("right") else joint,
    "wrist.L": lambda joint: f"{joint[5:]}.L" if joint.startswith("left") else
                             f"{joint[6:]}.R" if joint.startswith("right") else joint,
    "wrist_left_1": lambda joint: f"{side_last(joint)}_1",
}  # fmt: skip
"""Spellings of a side."""


@pytest.mark.parametrize("name", MIRRORED)
def test_a_mirrored_set_with_mirrored_names_gives_mirrored_poses(name, sound, tmp_path):
    """With the flip test a network does not know left from right, if the pairs are those of the names."""
    labels = turned(sound, tmp_path, joints_named(MIRRORED[name]))
    persons = read_annotations(labels)
    assert persons.skeleton.joints == tuple(MIRRORED[name](joint) for joint in COCO.joints)
    expected = {tuple(sorted(pair)) for pair in COCO.flip_pairs}
    assert {tuple(sorted(pair)) for pair in persons.skeleton.flip_pairs} == expected
    content, mirror = json.loads(labels.read_text()), tmp_path / "mirror"
    (mirror / "images").mkdir(parents=True)
    widths = {}
    for image in content["images"]:
        with Image.open(tmp_path / "images" / image["file_name"]) as opened:
            widths[image["id"]] = opened.width
            image["file_name"] = image["file_name"].replace(".jpg", ".png")
            ImageOps.mirror(opened).save(mirror / "images" / image["file_name"])
    for image in json.loads(labels.read_text())["images"]:
        with Image.open(tmp_path / "images" / image["file_name"]) as opened:
            opened.save(tmp_path / "images" / image["file_name"].replace(".jpg", ".png"))
    (tmp_path / "png.json").write_text(json.dumps(content))
    order = COCO.flip_order
    for record in content["annotations"]:
        triples = np.reshape(np.array(record["keypoints"], float), (-1, 3))[list(order)]
        triples[:, 0] = (widths[record["image_id"]] - 1 - triples[:, 0]) * (triples[:, 2] > 0)
        record["keypoints"] = [float(v) if n % 3 < 2 else int(v) for n, v in enumerate(triples.ravel())]
        x, y, width, height = record["bbox"]
        record["bbox"] = [widths[record["image_id"]] - x - width, y, width, height]
    (mirror / "labels.json").write_text(json.dumps(content))
    found = []
    for data, images in ((tmp_path / "png.json", tmp_path / "images"), (mirror / "labels.json", mirror / "images")):
        found.append(semipose.evaluate(network(persons.skeleton), data, images=images, flip_test=True, device="cpu"))
    usual, mirrored = ({k: v for k, v in evaluation.scores.as_dict().items() if v is not None} for evaluation in found)
    assert mirrored == pytest.approx(usual, abs=0.02)  # fractions, and pixels
