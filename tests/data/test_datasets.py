"""Data sets: options, skeletons that are mapped joint by name, and the parts of a run."""

import json
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

from semipose.config import load_config
from semipose.data import datasets
from semipose.data.data_config import RENDERED, DataConfig, check_given, open_data_file
from semipose.data.datasets import PEOPLE, load_splits, load_unlabeled, read_dataset
from semipose.data.formats.coco_writer import write_coco
from semipose.data.formats.registry import read_annotations
from semipose.errors import ConfigError
from semipose.structures.categories import PERSON
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import AI_CHALLENGER, COCO, LSP, MPII, UNION, infer_skeleton
from semipose.trainer import train


def one(skeleton, tmp_path, name, count=4):
    """A written set whose joint k lies at (k + 1, 2 k + 1)."""
    folder = tmp_path / name
    folder.mkdir()
    for i in range(count):
        (folder / f"{i}.jpg").write_bytes(bytes([i]))
    k = len(skeleton)
    joints = np.stack([np.arange(k) + 1.0, 2 * np.arange(k) + 1.0], axis=1)
    persons = [
        Instance(folder / f"{i}.jpg", i + 1, i + 1, (0, 0, 50, 50), joints, np.full(k, 2, np.int8), 100.0)
        for i in range(count)
    ]
    write_coco(PoseDataset(skeleton, tuple(persons), name), folder / "train.json")
    return folder / "train.json"


def test_the_union_has_every_joint_once():
    every = {j for s in (COCO, MPII, AI_CHALLENGER, LSP) for j in s.joints}
    assert set(UNION.joints) == every
    assert len(UNION) == len(every) == 22
    for a, b in UNION.flip_pairs:
        assert UNION.joints[a].replace("left", "right") == UNION.joints[b]
    assert {n for n in UNION.joints if "left" in n} == {UNION.joints[a] for a, _ in UNION.flip_pairs}


@pytest.mark.parametrize("skeleton", [COCO, MPII, AI_CHALLENGER, LSP])
def test_mapping_there_and_back(skeleton, tmp_path):
    persons = read_annotations(one(skeleton, tmp_path, "set"))
    mapped = persons.to_skeleton(UNION)
    for name in UNION.joints:
        i = UNION.index(name)
        if name in skeleton.joints:
            np.testing.assert_array_equal(mapped[0].joints[i], persons[0].joints[skeleton.index(name)])
            assert mapped[0].visibility[i] == 2
        else:
            assert mapped[0].visibility[i] == 0
            assert (mapped[0].joints[i] == 0).all()
    back = mapped.to_skeleton(skeleton)
    np.testing.assert_array_equal(back[0].joints, persons[0].joints)
    np.testing.assert_array_equal(back[0].visibility, persons[0].visibility)
    assert persons.to_skeleton(skeleton) is persons


def test_mpii_labels_and_ai_challenger_for_the_rest(tmp_path):
    mpii, aic = one(MPII, tmp_path, "mpii"), one(AI_CHALLENGER, tmp_path, "aic")
    with pytest.raises(ConfigError, match=r"data\.skeleton"):
        load_splits(DataConfig(train=str(mpii), val=str(aic)))
    splits = load_splits(DataConfig(train=str(mpii), unlabeled=str(aic), val=str(aic), skeleton="union", labels=2))
    assert splits.labeled.skeleton is splits.validation.skeleton is UNION
    trained = splits.labeled[0].visibility > 0
    assert {j for j, known in zip(UNION.joints, trained, strict=True) if known} == set(MPII.joints)
    evaluated = splits.validation[0].visibility > 0
    assert {j for j, known in zip(UNION.joints, evaluated, strict=True) if known} == set(AI_CHALLENGER.joints)
    assert all(p.joints is None for p in splits.unlabeled.instances)


def test_a_renamed_joint_is_named_and_union_only_where_it_helps(tmp_path):
    train = one(infer_skeleton(["nose_top", "tail", "left_ear", "right_ear"]), tmp_path, "train")
    renamed = one(infer_skeleton(["left ear", "right ear", "tail", "snout_top"]), tmp_path, "renamed")
    expected = rf"'snout_top' only in {renamed}, 'nose_top' only in {train}; give both the same joints under the same"
    for name in ("val", "test"):
        with pytest.raises(ConfigError, match=f"`data.{name}`: {expected}") as raised:
            load_splits(DataConfig(train=str(train), **{name: str(renamed)}))
        assert "union" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"'nose', .* and 14 more only in .*; set `data\.skeleton` to union"):
        load_splits(
            DataConfig(train=str(one(COCO, tmp_path, "coco")), val=str(one(infer_skeleton(["neck"]), tmp_path, "n")))
        )


def test_a_set_without_a_common_joint(tmp_path):
    hands = one(infer_skeleton(["thumb", "index_finger"]), tmp_path, "hands")
    with pytest.raises(ConfigError, match=r"mpii has no joint of"):
        load_splits(DataConfig(train=str(hands), skeleton="mpii"))


def test_the_training_set_is_required():
    with pytest.raises(ConfigError, match=r"`data\.train` is missing: give a DeepLabCut project.*`people`"):
        load_splits(DataConfig())


@pytest.mark.parametrize("name", RENDERED)
def test_rendered_data_sets_bring_their_test_set(name):
    splits = load_splits(DataConfig(train=name, labels=50, validation=7))
    assert (len(splits.labeled), len(splits.validation)) == (50, 7)
    test = read_dataset(name, None, "val").trainable()
    assert len(splits.test) == len(test) == 400
    assert not {*test.instances.paths} & {*splits.unlabeled.instances.paths}
    assert splits.validation_set == "train"
    with pytest.raises(ConfigError, match=r"`data\.images`: photos has no annotations"):
        load_splits(DataConfig(train=name, images="photos"))


def test_the_wheel_lacks_the_rendered_people_and_says_so(monkeypatch, tmp_path):
    excluded = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert excluded["targets"]["wheel"]["exclude"] == ["src/semipose/people"]
    monkeypatch.setattr(datasets, "PEOPLE", tmp_path / "people")
    with pytest.raises(ConfigError, match=r"`people` is not part of the wheel; install semipose from its repository"):
        read_dataset("people", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boxes": "b.json"}, r"`data\.boxes`: b\.json belongs to `data\.unlabeled`"),
        ({"val_images": "v"}, r"`data\.val_images`: v belongs to `data\.val`"),
        ({"test_images": "t"}, r"`data\.test_images`: t belongs to `data\.test`"),
        ({"boxes": "b.json", "unlabeled": "u.json"}, r"`data\.boxes`: u\.json has its own boxes"),
    ],
)
def test_options_without_effect_are_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        load_splits(DataConfig(train="people", **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": "v.json", "validation": 9}, r"`data\.validation`: `data\.val` has the validation persons"),
        ({"min_score": 0.9, "unlabeled": "u"}, r"`data\.min_score`: it refers to a file as `data\.boxes`"),
        ({"box_category": 9, "unlabeled": "u", "boxes": "auto"}, r"`data\.box_category`: it refers to a file"),
    ],
)
def test_options_without_effect_are_refused_when_a_training_begins(options, message, tmp_path):
    """Not when its data is read again, since runs were trained with them."""
    with pytest.raises(ConfigError, match=message):
        train(load_config(None, data={"train": "people", **options}), tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        check_given(DataConfig(train="people", **options))
    load_splits(DataConfig(train="people", min_score=0.9))


def test_the_unlabeled_set_of_mpii_and_ai_challenger(small_people, tmp_path):
    """TRS, table IV: persons of the second set alone are unlabeled, and a number of them."""
    second = tmp_path / "second.json"
    write_coco(read_dataset("people", None).subset(range(60, 100)), second)
    (tmp_path / "images").symlink_to(PEOPLE / "images")
    data = {"train": str(small_people), "images": str(PEOPLE / "images"), "labels": 10, "validation": 0}
    data |= {"unlabeled": str(second), "include_labeled": False, "include_remaining": False}
    everyone = {Path(path).name for path in read_dataset("people", None).subset(range(60, 100)).instances.paths}
    found = load_splits(DataConfig(**data))
    own = {Path(path).name for path in found.labeled.instances.paths}
    assert {Path(path).name for path in found.unlabeled.instances.paths} == everyone - own
    assert found.split.unlabeled == ()
    assert found.account.left_out["without labels and not in the unlabeled set"] == 50
    few = load_splits(DataConfig(**data, max_unlabeled=12))
    assert len(few.unlabeled) == 12
    assert few.account.left_out["of the unlabeled set: more than `data.max_unlabeled`"] == len(found.unlabeled) - 12
    assert few.unlabeled.instances.paths != found.unlabeled.instances.paths[:12]


def test_a_number_of_the_remaining_persons_is_unlabeled(small_people):
    """TRS, table V: 1,000 labeled and 10,000 unlabeled persons of MPII."""
    data = {"train": str(small_people), "images": str(PEOPLE / "images"), "labels": 10, "validation": 0}
    found = load_splits(DataConfig(**data, include_labeled=False, max_unlabeled=20))
    assert len(found.unlabeled) == len(found.split.unlabeled) == 20
    assert set(found.split.labeled).isdisjoint(found.split.unlabeled)
    assert found.account.left_out["without labels and not in the unlabeled set"] == 30
    alone = load_splits(DataConfig(**data, include_remaining=False))
    assert alone.split.unlabeled == alone.split.labeled


@pytest.mark.parametrize("most", [5, 15])
def test_labeled_persons_do_not_count_as_unlabeled_ones(small_people, tmp_path, most):
    """A limit below the number of labels took nearly all unlabeled images, one of that number none."""
    for n in range(20):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((8, 8, 3), 10 * n, np.uint8))
    data = {"train": str(small_people), "images": str(PEOPLE / "images"), "validation": 0, "max_unlabeled": most}
    found = load_splits(DataConfig(**data, unlabeled=str(tmp_path)))
    assert len(found.unlabeled) == len(found.labeled) + most
    assert found.account.left_out["of the unlabeled set: more than `data.max_unlabeled`"] == 20 - most
    few = load_splits(DataConfig(**data, labels=50, unlabeled=str(tmp_path)))  # ten persons lose their labels
    assert len(few.split.unlabeled) == 50 + min(10, most)
    assert len(few.unlabeled) == 50 + most


def test_skeleton_file_sets_pairs_sigmas_limbs_and_category(tmp_path):
    (tmp_path / "skeleton.yaml").write_text(
        "flip_pairs: [[left_eye, right_eye]]\nsigmas: {nose: 0.5}\nlimbs: [[nose, left_eye]]\ncategory: person\n"
    )
    (tmp_path / "data.yaml").write_text(f"train: {one(COCO, tmp_path, 'set', 20)}\nskeleton: skeleton.yaml\n")
    config = open_data_file(DataConfig(train=str(tmp_path / "data.yaml"), limbs=[]))
    assert (config.skeleton, config.category, config.limbs) == ("own", "person", [])
    assert open_data_file(config) == config
    found = load_splits(config)
    assert found.labeled.skeleton.flip_pairs == ((1, 2),)
    assert found.labeled.skeleton.sigmas[0] == 0.5
    assert found.validation is not None
    assert found.validation.skeleton == found.labeled.skeleton


def test_wrong_skeletons_are_one_line_errors(tmp_path):
    path = str(one(COCO, tmp_path, "set"))
    with pytest.raises(ConfigError, match=r"`data.flip_pairs`.*did you mean 'right_eye'"):
        load_splits(DataConfig(train=path, flip_pairs=[("left_eye", "right_eyee")]))
    with pytest.raises(ConfigError, match=r"`data.category`.*no 'horse' but 'person'"):
        load_splits(DataConfig(train=path, category="horse"))


def test_validation_joints_are_matched_whatever_their_spelling(tmp_path):
    names = ["nose", "left_eye", "right_eye"]
    train = one(infer_skeleton(names), tmp_path, "train")
    val = one(infer_skeleton(["rightEye", "Nose", "left eye"]), tmp_path, "val")
    found = load_splits(DataConfig(train=str(train), val=str(val)))
    assert found.validation is not None
    assert found.validation.skeleton.joints == tuple(names)
    np.testing.assert_array_equal(found.validation[0].joints[:, 0], [2, 3, 1])


def test_an_adaptation_holds_out_whole_images(small_people, tmp_path):
    content = json.loads(small_people.read_text())
    for n, record in enumerate(content["annotations"]):
        record["image_id"] = content["annotations"][n // 4 * 4]["image_id"]
    (tmp_path / "crowds.json").write_text(json.dumps(content))
    data = DataConfig(unlabeled=str(tmp_path / "crowds.json"), images=str(PEOPLE / "images"))
    found = load_unlabeled(data, LSP, PERSON, ())
    assert (len(found.held_out), len(found.unlabeled)) == (8, 52)
    assert {*found.unlabeled.instances.paths}.isdisjoint(found.held_out.instances.paths)
    alone = {"annotations": content["annotations"][:4]}
    (tmp_path / "one.json").write_text(json.dumps(content | alone))
    found = load_unlabeled(data.model_copy(update={"unlabeled": str(tmp_path / "one.json")}), LSP, PERSON, ())
    assert (len(found.held_out), len(found.unlabeled)) == (1, 3)


def test_a_run_without_labels_has_the_joints_of_its_network(small_people):
    """Its validation set, of another skeleton, is evaluated on the joints that both have."""
    data = {"unlabeled": str(small_people), "images": str(PEOPLE / "images")}
    found = load_unlabeled(DataConfig(**data), LSP, PERSON, ("neck",))
    assert (len(found.labeled), len(found.unlabeled), len(found.held_out)) == (0, 54, 6)
    assert {*found.unlabeled.instances.paths}.isdisjoint(found.held_out.instances.paths)
    assert not found.unlabeled.instances.labeled.any()
    assert (found.labeled.skeleton, found.unlabeled.skeleton, found.unlearned_joints) == (LSP, LSP, ("neck",))
    judged = load_unlabeled(DataConfig(**data, val="people"), LSP, PERSON, ())
    assert (len(judged.unlabeled), judged.held_out, judged.validation.skeleton) == (60, None, LSP)
    known = judged.validation.instances.labeled_joints
    assert {j for j, some in zip(LSP.joints, known, strict=True) if not some} == {"neck", "head_top"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 5}, r"`data\.labels`: there are no labels"),
        ({"validation": 5}, r"`data\.validation`: there are no labels"),
        ({"boxes": "auto"}, r"`data\.boxes`: auto learns from labels"),
        ({"unlabeled": None}, r"`data\.unlabeled`: without `data\.train` give images"),
        ({"val": "people"}, r"`data\.val`: .* has none of the network's joints snout"),
    ],
)
def test_what_a_run_without_labels_refuses(small_people, options, message):
    data = {"unlabeled": str(small_people), "images": str(PEOPLE / "images"), **options}
    with pytest.raises(ConfigError, match=message):
        load_unlabeled(
            DataConfig(**data), infer_skeleton(["snout"], "mouse"), read_dataset("people", None).category, ()
        )


def test_words_in_place_of_a_file_of_boxes(small_people, tmp_path):
    """Whole images can't tell several labeled persons apart; `auto` finds them, if the training set shows several."""
    twice = tmp_path / "twice.json"
    content = json.loads((PEOPLE / "val.json").read_text())
    content["annotations"].append(content["annotations"][0] | {"id": 10**6})
    twice.write_text(json.dumps(content))
    data = {"train": str(small_people), "images": str(PEOPLE / "images"), "val": str(small_people)}
    for word in ("whole", "auto"):
        splits = load_splits(DataConfig(**data, labels=20, boxes=word))
        sets = (splits.labeled, splits.unlabeled, splits.validation)
        assert {person.box for persons in sets for person in persons.instances} == {(0, 0, 192, 192)}
    unlabeled = load_splits(DataConfig(**data, unlabeled=str(twice), include_labeled=False, boxes="auto")).unlabeled
    assert len(unlabeled) == len({*unlabeled.instances.paths}) == len(content["images"])
    for word, changed, remedy in (
        ("whole", {"train": str(twice)}, "take auto, .* or leave it out, and to predict give `boxes=FILE`"),
        ("whole", {"val": str(twice)}, "take auto"),
        ("auto", {"val": str(twice)}, "give training labels that show several"),
    ):
        with pytest.raises(ConfigError, match=rf"`boxes={word}` is one box .*1 image of .*{remedy}"):
            load_splits(DataConfig(**data | changed, boxes=word))
    several = load_splits(DataConfig(**data | {"train": str(twice)}, boxes="auto"))
    assert (several.several, splits.several) == (True, False)
    assert several.labeled[0].box != (0, 0, 192, 192) != several.validation[0].box


@pytest.mark.parametrize(("persons", "labels", "held_out"), [(60, None, 10), (40, None, 4), (60, 5, 10), (12, 5, 1)])
def test_enough_persons_are_held_out_to_measure_on_where_the_labels_allow_it(small_people, persons, labels, held_out):
    content = json.loads(small_people.read_text())
    small_people.write_text(json.dumps({**content, "annotations": content["annotations"][:persons]}))
    splits = load_splits(DataConfig(train=str(small_people), images=str(PEOPLE / "images"), labels=labels))
    assert (len(splits.validation), len(splits.labeled)) == (held_out, labels or persons - held_out)


def test_a_tenth_is_held_out_where_ten_would_leave_too_few_labels(small_people):
    """Three persons in each of ten images: ten validation persons and the others in their images are too many."""
    content = json.loads(small_people.read_text())
    for number, record in enumerate(content["annotations"][:30]):
        record["image_id"] = content["images"][number // 3]["id"]
    small_people.write_text(json.dumps({**content, "annotations": content["annotations"][:30]}))
    splits = load_splits(DataConfig(train=str(small_people), images=str(PEOPLE / "images"), labels=20))
    assert (len(splits.validation), len(splits.labeled)) == (2, 20)
