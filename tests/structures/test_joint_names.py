"""Joint names: words, sides and pairs of real naming schemes."""

import pytest

from semipose.structures.joint_names import body_part, find_pairs, matching_keys, normalize, side_of, similar_names


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("front_left_paw", "front_right_paw"), ("body_middle_left", "body_middle_right"), ("hand.L", "hand.R"),
        ("thumb_left_1", "thumb_right_1"), ("finger_l_2", "finger_r_2"), ("LF_paw", "RF_paw"), ("LH paw", "RH paw"),
        ("L_eye", "R_eye"), ("leftWrist", "rightWrist"), ("paw_l", "paw_r"), ("wingL", "wingR"), ("LASI", "RASI"),
        ("forelegL1", "forelegR1"), ("eye-left-visible", "eye-right-visible"), ("lpaw1", "rpaw1"), ("FL", "FR"),
        ("leftear", "rightear"), ("pawl", "pawr"), ("left", "right"), ("L", "R"), ("rear_left", "rear_right"),
        ("left_eye_left_corner", "right_eye_right_corner"), ("left_wrist", "wrist_right"), ("lear", "rear"),
        ("TL", "TR"), ("hoofTL", "hoofTR"), ("LE", "RE"), ("LL", "LR"),
    ],
)  # fmt: skip
def test_pairs_wherever_the_side_is(left, right):
    assert find_pairs(["nose", right, left, "tail"]) == ((2, 1),)


@pytest.mark.parametrize(
    "names",
    [
        ["left_ear", "rear", "nose"], ["rung", "lung", "light", "right"], ["upper_lip", "tail", "cleft", "bright"],
        [f"face-{i}" for i in range(68)], ["L1", "L2", "L3"], ["left_paw", "right_hand"], ["lip", "rip"],
        ["road", "load"], ["rail", "lail", "TAIL", "TAIR"],
    ],
)  # fmt: skip
def test_no_pair_is_invented(names):
    assert find_pairs(names) == ()


def test_rear_wheels_of_two_naming_schemes():
    assert find_pairs(["FL", "FR", "RL", "RR"]) == ((0, 1), (2, 3))
    assert find_pairs(["LF", "RF", "LR", "RR"]) == ((0, 1), (2, 3))


@pytest.mark.parametrize(
    "names",
    [
        "l_ear r_ear lfin rfin", "left_ear right_ear lflank rflank", "TL TR BL BR", "UL UR LL LR",
        "Lear Rear mouthL mouthR Lwhisker1 Rwhisker1", "L_eye R_eye whiskerl2_tip whiskerr2_tip",
    ],
)  # fmt: skip
def test_beside_a_pair_one_letter_is_a_side(names):
    count = len(names.split())
    assert find_pairs(names.split()) == tuple((n, n + 1) for n in range(0, count, 2))


def test_one_letter_is_no_side_where_it_may_be_another_one():
    names = ["l_ear", "r_ear", "lfinl", "rfinl", "lfinr", "rfinr", "left_lip", "left_rip"]
    assert find_pairs(names) == ((0, 1),)
    assert similar_names(names, {0, 1}) == {2: [3, 4], 3: [2, 5], 4: [5, 2], 5: [4, 3]}


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("paw1LH_top", "left"), ("toe.R", "right"), ("leftwrist", "left"), ("rear", None), ("upright", None),
        ("tail", None), ("rf", None), ("wristleft2", "left"),
    ],
)  # fmt: skip
def test_side_of_a_single_name(name, side):
    assert side_of(name) == side


def test_body_part_is_the_name_without_its_side():
    assert body_part("front_left_knee", paired=False) == "front_knee"
    assert body_part("leftwrist", paired=False) == "wrist"
    assert body_part("rear", paired=False) == "rear"
    assert body_part("rear", paired=True) == "ear"


def test_the_place_of_the_side_does_not_matter_for_matching():
    for name in ("front_left_paw", "left_front_paw", "Front Paw.L", "frontPaw_left", "l_front_paw"):
        assert matching_keys([name]) == ("left_front_paw",)
    for name in ("hip_left", "L hip", "leftHip", "lefthip"):
        assert matching_keys([name]) == ("left_hip",)
    assert matching_keys(["rear", "LF_paw", "nose", "left"]) == ("rear", "lf_paw", "nose", "left")
    both = ["left_eye_right_corner", "right_eye_left_corner"]
    assert matching_keys(both) == tuple(both)


def test_joints_of_one_set_that_would_match_the_same_joint_match_none():
    keys = matching_keys(["left_front_paw", "front_left_paw", "nose"])
    assert len(set(keys)) == 3
    assert not set(keys[:2]) & {*matching_keys(["left_front_paw"]), *matching_keys(["front_left_paw"])}


def test_numbered_paws_are_paired_only_where_the_numbers_agree():
    """The paws of the mirror-mouse set of Lightning Pose; a training warns of joints that name a side alone."""
    assert find_pairs(["paw1LH_top", "paw2LF_top", "paw3RF_top", "paw4RH_top", "nose_top"]) == ()
    assert find_pairs(["paw1LH", "paw1RH", "paw3RF", "paw4LF"]) == ((0, 1),)


def test_normalized_names():
    names = ["LeftWrist", "left wrist", "left-wrist", "left.wrist", " left_wrist"]
    assert {normalize(name) for name in names} == {"left_wrist"}
    assert normalize("Schwänze") == normalize("Schwa\u0308nze")
