"""Joints of a body: names, left/right pairs, OKS sigmas, limbs; the known skeletons and how to infer an unknown one."""

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
"""OKS sigma of each body part: COCO's own; neck and head top, where no set publishes one, take the shoulder's."""

DEFAULT_SIGMA = 0.079


@dataclass(frozen=True)
class Skeleton:
    """An ordered list of K joints and what is known of each.

    `joints`: names in lower snake case. `flip_pairs`: index pairs that a mirror image swaps. `sigmas`: K OKS constants
    (COCO keypoint evaluation, k_i = 2 sigma_i). `limbs`: index pairs to draw.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    limbs: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """Joint order of the mirror image: `flipped[k] = original[flip_order[k]]`; its own inverse."""
        order = list(range(len(self.joints)))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    @property
    def named_pairs(self) -> frozenset[frozenset[str]]:
        """The flip pairs as names, whatever the order of the joints."""
        return frozenset(frozenset((self.joints[a], self.joints[b])) for a, b in self.flip_pairs)

    def index(self, joint: str) -> int:
        """Position of a joint by name; DataError with the names at hand when there is none."""
        try:
            return self.joints.index(joint)
        except ValueError:
            raise DataError(
                f"skeleton {self.name!r} has no joint {joint!r}; it has: {', '.join(self.joints)}"
            ) from None

    def find(self, *names: str) -> int | None:
        """Position of the first of `names` that the skeleton has, or None."""
        return next((self.joints.index(n) for n in names if n in self.joints), None)


def infer_skeleton(names: Sequence[str], limbs: Sequence[tuple[int, int]] = (), name: str = "custom") -> Skeleton:
    """The skeleton for an annotation file's joint names: a known one where they agree, else pairs and sigmas by name.

    Pairs come from names that differ only by their side (`left_wrist`, `LeftWrist`, `wrist_l`, `lwrist`); where there
    are none, mirrored views swap no joints, and a warning says so. Sigmas come from the body part named. Raises
    DataError for an empty list or a repeated name.
    """
    odd = [n for n in names if not isinstance(n, str) or not n.strip()]
    if odd:
        raise DataError(f"skeleton {name!r}: {odd[0]!r} is no joint name; write names such as 'left_wrist'")
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
            "skeleton %r: no joint has a left and a right among %s; mirrored views swap none. Name them left_… and "
            "right_… if there are such pairs",
            name,
            ", ".join(joints)[:120],
        )
    return Skeleton(name, joints, pairs, tuple(_sigma(j) for j in joints), tuple(limbs))


def side_and_part(joint: str) -> tuple[str | None, str]:
    """Which side a joint name in snake case tells of, "left", "right" or None, and the name without it."""
    words = joint.split("_")
    for place in (0, -1):
        if words[place] in _SIDES and len(words) > 1:
            return _SIDES[words[place]], "_".join(words[1:] if place == 0 else words[:-1])
    for mark in ("left", "right"):
        if joint != mark and (joint.startswith(mark) or joint.endswith(mark)):
            return mark, joint.removeprefix(mark) if joint.startswith(mark) else joint.removesuffix(mark)
    if joint[1:] in SIGMAS and joint[0] in _SIDES:
        return _SIDES[joint[0]], joint[1:]
    return None, joint


_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def _snake(name: str) -> str:
    """`LeftWrist`, `LWrist`, `left wrist` and `left-wrist` in one spelling."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.strip())
    return re.sub(r"[\s_-]+", "_", apart).lower()


def _sigma(joint: str) -> float:
    part = side_and_part(joint)[1]
    return next((s for known, s in SIGMAS.items() if part.endswith(known)), DEFAULT_SIGMA)


def _known(name: str, joints: str, limbs: str) -> Skeleton:
    names = tuple(joints.split())
    position = {n: i for i, n in enumerate(names)}
    pairs = tuple((i, position["right_" + n[5:]]) for n, i in position.items() if n.startswith("left_"))
    edges = tuple((position[a], position[b]) for a, b in (limb.split("-") for limb in limbs.split()))
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
"""Every joint of the four, once. What two sets call differently (neck, upper neck, thorax) stays apart."""

SKELETONS: dict[str, Skeleton] = {s.name: s for s in (COCO, MPII, AI_CHALLENGER, LSP, UNION)}
