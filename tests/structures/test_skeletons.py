"""The known skeletons, and skeletons inferred from joint names."""

import re
from dataclasses import replace

import pytest

from semipose.errors import DataError
from semipose.structures.skeletons import COCO, SKELETONS, infer_skeleton

COCO_SIGMAS = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_flip_order_is_its_own_inverse(skeleton):
    order = skeleton.flip_order
    assert [order[i] for i in order] == list(range(len(skeleton)))
    for k, name in enumerate(skeleton.joints):
        other = skeleton.joints[order[k]]
        swapped = name.replace("left", "~").replace("right", "left").replace("~", "right")
        assert other == swapped
    assert len(skeleton.sigmas) == len(skeleton)
    assert all(0 <= a < len(skeleton) and 0 <= b < len(skeleton) for a, b in skeleton.limbs)


def test_coco_sigmas_are_the_official_ones():
    assert [round(1000 * s) for s in COCO.sigmas] == COCO_SIGMAS


def test_known_names_return_the_known_skeleton():
    assert infer_skeleton(COCO.joints) is COCO
    titles = [n.replace("_", " ").title() for n in COCO.joints]
    assert infer_skeleton(titles) == replace(COCO, joints=tuple(titles))


def test_limbs_of_the_file_replace_those_of_the_known_skeleton():
    limbs = [(0, 5), (5, 6)]
    assert infer_skeleton(COCO.joints, limbs) == replace(COCO, limbs=((0, 5), (5, 6)))
    reversed_limbs = [(b, a) for a, b in reversed(COCO.limbs)]
    assert infer_skeleton(COCO.joints, reversed_limbs) is COCO


def test_pairs_and_sigmas_are_inferred_from_names():
    found = infer_skeleton(["snout", "left_wrist", "right_wrist", "L-Paw", "R-Paw"], [(0, 1)], name="cat")
    assert found.flip_pairs == ((1, 2), (3, 4))
    assert found.sigmas[1] == 0.062
    assert found.limbs == ((0, 1),)
    assert found.index("snout") == 0
    assert found.find("tail", "l_paw") == 3
    assert found.find("tail") is None
    with pytest.raises(DataError, match="tail"):
        found.index("tail")


@pytest.mark.parametrize(
    "names",
    [
        ["leftWrist", "rightWrist"], ["LWrist", "RWrist"], ["WristL", "WristR"], ["wrist_left", "wrist_right"],
        ["Wrist-l", "Wrist-r"], ["lwrist", "rwrist"], ["leftwrist", "rightwrist"], ["wrist L", "wrist R"],
    ],
)  # fmt: skip
def test_spellings_of_left_and_right(names, caplog):
    found = infer_skeleton(["tail", *names])
    assert found.flip_pairs == ((1, 2),)
    assert found.sigmas[1:] == (0.062, 0.062)
    assert not caplog.records


def test_words_that_begin_like_a_side_are_none():
    odd = infer_skeleton(["rung", "lung", "light", "rear", "left_ear", "upper_lip", "tail", "cleft", "bright"])
    assert odd.flip_pairs == ()
    assert odd.one_sided == ("left_ear",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no keypoints"),
        (["a", "a"], "twice"),
        (["a", "A"], "same name"),
        (["a", 3], "no joint name"),
        (["a", None], "no joint name"),
    ],
)
def test_invalid_names_raise(names, message):
    with pytest.raises(DataError, match=message):
        infer_skeleton(names)


def test_repr_shows_name_and_joints():
    assert repr(infer_skeleton(["nose", "left_eye", "right_eye"], name="face")) == (
        "Skeleton('face', 3 joints: nose, left_eye, right_eye)"
    )


def test_names_stay_and_are_found_in_any_spelling():
    found = infer_skeleton(["paw1LH_top", "Left Hip", "rightHip"])
    assert found.joints == ("paw1LH_top", "Left Hip", "rightHip")
    assert found.find("left_hip") == 1
    assert found.index("right_hip") == 2


def test_numbered_paws_without_a_partner_are_named():
    found = infer_skeleton(["paw1LH", "paw2LF", "paw3RF", "paw4RH", "nose"])
    assert found.flip_pairs == ()
    assert found.one_sided == ("paw1LH", "paw2LF", "paw3RF", "paw4RH")
    assert infer_skeleton(["paw1LH", "paw1RH", "paw3RF", "paw4LF"]).one_sided == ("paw3RF", "paw4LF")


def test_joints_that_are_similar_beside_pairs_are_named():
    names = ["left_ear", "right_ear", "lfinl", "rfinl", "lfinr"]
    assert infer_skeleton(names).one_sided == ("lfinl", "rfinl", "lfinr")
    assert infer_skeleton(names[2:]).one_sided == ()
    assert infer_skeleton([*names[:2], "lfin", "rfin"]).one_sided == ()


def test_a_joint_is_found_by_a_name_with_the_side_at_another_place():
    found = infer_skeleton(["nose", "front_left_paw", "front_right_paw"])
    assert found.find("left_front_paw") == found.find("frontPawL", "left_front_paw") == 1
    assert found.joints[1] == "front_left_paw"
    sides_last = [re.sub(r"(left|right)_(\w+)", r"\2_\1", name) for name in COCO.joints]
    assert sides_last[-1] == "ankle_right"
    assert infer_skeleton(sides_last) == replace(COCO, joints=tuple(sides_last))


def test_sigmas_come_from_body_parts_on_word_boundaries_only():
    found = infer_skeleton(["nose", "rear", "left_ear", "tail_hip", "chip"])
    assert [round(s, 3) for s in found.sigmas] == [0.026, 0.079, 0.035, 0.107, 0.079]
    assert found.sigma_sources == ("part", "default", "part", "part", "default")
    assert not found.sigmas_known
    assert found.describe_sigmas() == "by body part for 3, 0.079 by default for rear, chip"
    assert COCO.sigmas_known
    assert COCO.describe_sigmas() == "coco"


def test_given_pairs_sigmas_and_limbs():
    found = infer_skeleton(["tail", "paw_a", "paw_b"])
    given = found.with_given(
        flip_pairs=[("paw_a", "Paw B")], sigmas={"tail": 0.1, "paw_a": 0.05, "paw_b": 0.05}, limbs=[("tail", "paw_a")]
    )
    assert (given.flip_pairs, given.sigmas, given.limbs) == (((1, 2),), (0.1, 0.05, 0.05), ((0, 1),))
    assert given.sigmas_known
    assert given.describe_sigmas() == "given"
    assert given.describe_pairs() == "1 left/right pair (paw_a ↔ paw_b)"
    assert given.side(1) == "left"
    assert COCO.with_given(flip_pairs=[]).flip_order == tuple(range(17))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flip_pairs": [("left_eye", "right_eyee")]}, "right_eyee.*did you mean 'right_eye'"),
        ({"flip_pairs": [("left_eye", "left_eye")]}, "more than one place"),
        ({"sigmas": {"nose": 0}}, "positive"),
        ({"limbs": [("nose", "trunk")]}, "trunk"),
    ],
)
def test_wrong_given_properties_raise(given, message):
    with pytest.raises(DataError, match=message):
        COCO.with_given(**given)


@pytest.mark.parametrize("name", ["hip_left", "L hip", "Hip.L", "leftHip", "lhip"])
def test_a_known_joint_is_found_wherever_its_name_states_the_side(name):
    names = ["nose", name, name.replace("left", "right").replace("L", "R").replace("lhip", "rhip")]
    assert infer_skeleton(names).find("left_hip") == 1
    assert infer_skeleton(names).find("right_hip") == 2
    assert infer_skeleton(names).find("left_knee") is None
