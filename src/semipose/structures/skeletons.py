"""Skeletons: joint names, left/right pairs, OKS sigmas and limbs; the known ones, and inference from joint names."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from semipose.errors import DataError

log = logging.getLogger(__name__)

SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "neck": 0.079, "head_top": 0.079, "head": 0.079,
}  # fmt: skip
"""OKS sigma by body part, from COCO; neck and head, for which no data set gives one, have the shoulder's."""

DEFAULT_SIGMA = 0.079
"""OKS sigma of every other joint: the shoulder's."""


@dataclass(frozen=True, repr=False)
class Skeleton:
    """The K joints of a body in a fixed order.

    Attributes:
        name: Name of the skeleton.
        joints: K names in lower snake case.
        flip_pairs: Indices of the left and right joints that a horizontal flip exchanges.
        sigmas: K constants of the object keypoint similarity, as in COCO (k_i = 2 sigma_i).
        limbs: Indices of the joints that a drawing connects.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    limbs: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.joints)

    def __repr__(self) -> str:
        return f"Skeleton({self.name!r}, {len(self)} joints: {', '.join(self.joints)})"

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """Joint order of the flipped image: `flipped[k] = original[flip_order[k]]`."""
        order = list(range(len(self.joints)))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    @property
    def named_pairs(self) -> frozenset[frozenset[str]]:
        """The flip pairs by name, independent of the order of the joints."""
        return frozenset(frozenset((self.joints[a], self.joints[b])) for a, b in self.flip_pairs)

    def index(self, joint: str) -> int:
        """Returns the index of a joint.

        Raises:
            DataError: If the skeleton has no joint of that name.
        """
        try:
            return self.joints.index(joint)
        except ValueError:
            raise DataError(
                f"skeleton {self.name!r} has no joint {joint!r}; it has: {', '.join(self.joints)}"
            ) from None

    def find(self, *names: str) -> int | None:
        """Returns the index of the first of `names` that the skeleton has, or None."""
        return next((self.joints.index(n) for n in names if n in self.joints), None)


def infer_skeleton(names: Sequence[str], limbs: Sequence[tuple[int, int]] = (), name: str = "custom") -> Skeleton:
    """Returns the skeleton for the joint names of an annotation file.

    A known skeleton if the names are the same. Otherwise left and right joints are paired where the names differ only
    in their side (`left_wrist`, `LeftWrist`, `wrist_l`, `lwrist`); without any pair, a warning says that flipped views
    exchange no joints. Sigmas come from the body part in the name.

    Args:
        names: Joint names in the order of the file.
        limbs: Indices of the joints that a drawing connects.
        name: Name of a new skeleton.

    Raises:
        DataError: If there are no names, a name is not text, or two names are equal.
    """
    for joint in names:
        if not isinstance(joint, str) or not joint.strip():
            raise DataError(f"skeleton {name!r}: {joint!r} is no joint name; write names such as 'left_wrist'")
    joints = tuple(_snake(n) for n in names)
    if not joints:
        raise DataError(f"skeleton {name!r} lists no keypoints; give the category a non-empty 'keypoints' list")
    repeated = {j for j in joints if joints.count(j) > 1}
    if repeated:
        raise DataError(f"skeleton {name!r} names joint {sorted(repeated)[0]!r} twice; every joint needs its own name")
    for known in SKELETONS.values():
        if known.joints == joints:
            return known
    sides = {side_and_part(joint): i for i, joint in enumerate(joints)}
    pairs = tuple(
        (i, sides["right", part]) for (side, part), i in sides.items() if side == "left" and ("right", part) in sides
    )
    if not pairs and len(joints) > 1:
        log.warning(
            "skeleton %r: none of the joints %s is a left/right pair, flipped views exchange none; if there are pairs, "
            "name them left_… and right_…",
            name,
            ", ".join(joints)[:120],
        )
    return Skeleton(name, joints, pairs, tuple(_sigma(j) for j in joints), tuple(limbs))


def side_and_part(joint: str) -> tuple[str | None, str]:
    """Splits a joint name in snake case into its side ("left", "right" or None) and the rest of the name."""
    words = joint.split("_")
    for position in (0, -1):
        if words[position] in _SIDES and len(words) > 1:
            return _SIDES[words[position]], "_".join(words[1:] if position == 0 else words[:-1])
    for side in ("left", "right"):
        if joint != side and (joint.startswith(side) or joint.endswith(side)):
            return side, joint.removeprefix(side) if joint.startswith(side) else joint.removesuffix(side)
    if joint[1:] in SIGMAS and joint[0] in _SIDES:
        return _SIDES[joint[0]], joint[1:]
    return None, joint


_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def _snake(name: str) -> str:
    """Converts `LeftWrist`, `left wrist` and `left-wrist` to `left_wrist`."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip())
    return re.sub(r"[\s_-]+", "_", separated).lower()


def _sigma(joint: str) -> float:
    part = side_and_part(joint)[1]
    return next((s for known, s in SIGMAS.items() if part.endswith(known)), DEFAULT_SIGMA)


def _known(name: str, joints: str, limbs: str) -> Skeleton:
    names = tuple(joints.split())
    index = {n: i for i, n in enumerate(names)}
    pairs = tuple((i, index["right_" + n[5:]]) for n, i in index.items() if n.startswith("left_"))
    edges = tuple((index[a], index[b]) for a, b in (limb.split("-") for limb in limbs.split()))
    return Skeleton(name, names, pairs, tuple(_sigma(n) for n in names), edges)


_ARMS_AND_LEGS = (
    "left_shoulder-left_elbow left_elbow-left_wrist right_shoulder-right_elbow right_elbow-right_wrist "
    "left_hip-left_knee left_knee-left_ankle right_hip-right_knee right_knee-right_ankle "
    "left_shoulder-left_hip right_shoulder-right_hip left_hip-right_hip "
)

COCO = _known(
    "coco",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    _ARMS_AND_LEGS + "left_shoulder-right_shoulder nose-left_eye nose-right_eye left_eye-right_eye left_eye-left_ear "
    "right_eye-right_ear left_ear-left_shoulder right_ear-right_shoulder",
)
MPII = _known(
    "mpii",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    _ARMS_AND_LEGS + "pelvis-thorax thorax-upper_neck upper_neck-head_top thorax-left_shoulder thorax-right_shoulder",
)
AI_CHALLENGER = _known(
    "ai_challenger",
    "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee right_ankle "
    "left_hip left_knee left_ankle head_top neck",
    _ARMS_AND_LEGS + "neck-head_top neck-left_shoulder neck-right_shoulder",
)
LSP = _known(
    "lsp",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist neck head_top",
    _ARMS_AND_LEGS + "neck-head_top neck-left_shoulder neck-right_shoulder",
)

UNION = _known(
    "union",
    " ".join(dict.fromkeys(joint for s in (COCO, MPII, AI_CHALLENGER, LSP) for joint in s.joints)),
    _ARMS_AND_LEGS + "left_shoulder-right_shoulder nose-left_eye nose-right_eye neck-head_top upper_neck-head_top",
)
"""Every joint of the four, once. Joints that two data sets name differently (neck, upper neck) stay separate."""

SKELETONS: dict[str, Skeleton] = {s.name: s for s in (COCO, MPII, AI_CHALLENGER, LSP, UNION)}
"""The known skeletons by name."""
