"""Skeletons: joint names, left/right pairs, OKS sigmas and limbs; the known ones, and inference from joint names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from math import inf
from typing import Literal

from semipose.errors import DataError
from semipose.structures.joint_names import (
    Side,
    body_part,
    find_pairs,
    matching_keys,
    normalize,
    side_of,
    similar_names,
)
from semipose.utils.text import plural, some_of

SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089, "neck": 0.079, "head_top": 0.079, "head": 0.079,
}  # fmt: skip
"""OKS sigma by body part, from COCO; neck and head, for which no data set gives one, have the shoulder's."""

DEFAULT_SIGMA = 0.079
"""OKS sigma of every other joint: the shoulder's."""

CENTERS = "centers of subjects"
"""Name of the skeleton whose joints are the centers of the subjects in an image, in no order."""

SigmaSource = Literal["set", "given", "part", "default"]
"""Where the OKS sigma of a joint comes from: its known data set, the user, its body part, or `DEFAULT_SIGMA`."""


@dataclass(frozen=True, repr=False)
class Skeleton:
    """The K joints of a body in a fixed order.

    Attributes:
        name: Name of the skeleton.
        joints: K names as the data set spells them.
        flip_pairs: Indices of the left and right joints that a horizontal flip exchanges; without any, nothing is
            mirrored, neither views nor the flip test.
        sigmas: K constants of the object keypoint similarity, as in COCO (k_i = 2 sigma_i).
        limbs: Indices of the joints that a drawing connects.
        sigma_sources: K sources of the sigmas; empty if all are `given`.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    limbs: tuple[tuple[int, int], ...] = ()
    sigma_sources: tuple[SigmaSource, ...] = ()

    def __len__(self) -> int:
        return len(self.joints)

    def __repr__(self) -> str:
        return f"Skeleton({self.name!r}, {len(self)} joints: {', '.join(self.joints)})"

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """What the joints of different sets are matched by: names in lower snake case with their side in front."""
        return matching_keys(self.joints)

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """Joint order of the flipped image: `flipped[k] = original[flip_order[k]]`."""
        order = list(range(len(self.joints)))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    @property
    def interchangeable(self) -> bool:
        """Whether the joints are those of `center_skeleton`."""
        return self.name == CENTERS

    @property
    def one_sided(self) -> tuple[str, ...]:
        """The joints without a partner that name a side or, where others are paired, have `similar_names`."""
        paired = {i for pair in self.flip_pairs for i in pair}
        similar = similar_names(self.joints, paired) if paired else {}
        return tuple(j for i, j in enumerate(self.joints) if i not in paired and (side_of(j) or i in similar))

    @property
    def sigmas_known(self) -> bool:
        """Whether every sigma comes from a known data set, the user or the body part in the joint's name."""
        return "default" not in self.sigma_sources

    def side(self, index: int) -> Side | None:
        """Returns the side of a joint, from its pair or its name."""
        for left, right in self.flip_pairs:
            if index in (left, right):
                return "left" if index == left else "right"
        return side_of(self.joints[index])

    def index(self, joint: str) -> int:
        """Returns the index of a joint, whatever the spelling of its name.

        Raises:
            DataError: If the skeleton has no joint of that name.
        """
        found = self.find(joint)
        if found is None:
            near = get_close_matches(normalize(joint), self._spelled, n=1)
            hint = f"did you mean {self.joints[self._spelled[near[0]]]!r}?" if near else f"it has: {self._listed}"
            raise DataError(f"skeleton {self.name!r} has no joint {joint!r}; {hint}")
        return found

    def find(self, *names: str) -> int | None:
        """Returns the index of the first of `names` that the skeleton has, or None.

        The spelling does not matter, and `left_hip` also finds `hip_left` and `L hip`.
        """
        for name in names:
            (key,) = matching_keys([name])
            for index_of, wanted in ((self._spelled, normalize(name)), (self._by_key, key), (self._by_side, key)):
                if wanted in index_of:
                    return index_of[wanted]
        return None

    def describe_pairs(self) -> str:
        """Returns the left and right joints in words."""
        pairs = ", ".join(f"{self.joints[a]} ↔ {self.joints[b]}" for a, b in self.flip_pairs)
        return f"{plural(len(self.flip_pairs), 'left/right pair')}{f' ({pairs})' if pairs else ''}"

    def describe_sigmas(self) -> str:
        """Returns in words where the OKS sigmas come from."""
        by_source = {
            source: [j for j, s in zip(self.joints, self.sigma_sources, strict=True) if s == source]
            for source in dict.fromkeys(self.sigma_sources)
        }
        if set(by_source) <= {"set"}:
            return self.name
        texts = {"set": "of a known set", "given": "given", "part": "by body part", "default": f"{DEFAULT_SIGMA}"}
        if len(by_source) == 1:
            (source,) = by_source
            return f"{DEFAULT_SIGMA} for all joints, by default" if source == "default" else texts[source]
        counts = [f"{texts[source]} for {len(joints)}" for source, joints in by_source.items() if source != "default"]
        if unknown := by_source.get("default"):
            counts.append(f"{DEFAULT_SIGMA} by default for {', '.join(unknown)}")
        return ", ".join(counts)

    def with_given(
        self,
        *,
        flip_pairs: Sequence[Sequence[str]] | None = None,
        sigmas: Mapping[str, float] | None = None,
        limbs: Sequence[Sequence[str]] | None = None,
    ) -> "Skeleton":
        """Returns the skeleton with properties that the user gives by joint names; what is None stays.

        Raises:
            DataError: If a name is unknown, a joint is in two pairs or in a pair with itself, or a sigma is not
                positive.
        """
        changed = self
        if flip_pairs is not None:
            pairs = tuple((self.index(a), self.index(b)) for a, b in flip_pairs)
            paired = [self.joints[i] for pair in pairs for i in pair]
            if repeated := next((joint for joint in paired if paired.count(joint) > 1), None):
                raise DataError(
                    f"joint {repeated!r} is in more than one place of the flip pairs; pair every joint once"
                )
            changed = replace(changed, flip_pairs=tuple(self._left_first(*pair) for pair in pairs))
        if sigmas is not None:
            given = {self.index(joint): sigma for joint, sigma in sigmas.items()}
            if wrong := [joint for joint, sigma in sigmas.items() if not 0 < sigma < inf]:
                raise DataError(f"sigma of {wrong[0]!r} is {sigmas[wrong[0]]}; give a positive number, as in COCO")
            sources = self.sigma_sources or _sources("given", len(self))
            changed = replace(
                changed,
                sigmas=tuple(given.get(i, sigma) for i, sigma in enumerate(self.sigmas)),
                sigma_sources=tuple("given" if i in given else source for i, source in enumerate(sources)),
            )
        if limbs is not None:
            changed = replace(changed, limbs=tuple((self.index(a), self.index(b)) for a, b in limbs))
        return changed

    @cached_property
    def _spelled(self) -> dict[str, int]:
        """Index of each joint by its name in lower snake case."""
        return {normalize(joint): i for i, joint in enumerate(self.joints)}

    @cached_property
    def _by_key(self) -> dict[str, int]:
        return {key: i for i, key in enumerate(self.keys)}

    @cached_property
    def _by_side(self) -> dict[str, int]:
        """Index of each joint by its side and body part, as in `left_hip`, wherever its name states the side."""
        sides = [(self.side(i), body_part(joint, paired=True), i) for i, joint in enumerate(self.joints)]
        return {f"{side}_{part}": i for side, part, i in reversed(sides) if side}

    @property
    def _listed(self) -> str:
        return ", ".join(self.joints)

    def _left_first(self, a: int, b: int) -> tuple[int, int]:
        return (b, a) if side_of(self.joints[a]) == "right" or side_of(self.joints[b]) == "left" else (a, b)


def center_skeleton(subjects: int) -> Skeleton:
    """Returns the skeleton of whole images: as many joints as subjects, whose heatmaps all show all of them."""
    names = tuple(f"center {n + 1}" for n in range(subjects))
    return Skeleton(CENTERS, names, (), (DEFAULT_SIGMA,) * subjects)


def infer_skeleton(names: Sequence[str], limbs: Sequence[tuple[int, int]] = (), name: str = "custom") -> Skeleton:
    """Returns the skeleton for the joint names of an annotation file, which it keeps as they are.

    It has the properties of a known skeleton if the names are the same, whatever their spelling; limbs that are given
    replace its own. Otherwise left and right joints are paired where the names differ only in their side, wherever it
    is (`left_wrist`, `LeftWrist`, `front_left_paw`, `hand.L`, `lwrist`). Sigmas come from the body part at the end of
    the name.

    Args:
        names: Joint names in the order of the file.
        limbs: Indices of the joints that a drawing connects.
        name: Name of a new skeleton.

    Raises:
        DataError: If there are no names, a name is not text, or two names are equal or differ only in spelling.
    """
    for joint in names:
        if not isinstance(joint, str) or not joint.strip():
            raise DataError(f"skeleton {name!r}: {joint!r} is no joint name; write names such as 'left_wrist'")
    joints = tuple(names)
    if not joints:
        raise DataError(f"skeleton {name!r} lists no keypoints; give the category a non-empty 'keypoints' list")
    keys = [normalize(joint) for joint in joints]
    for i, key in enumerate(keys):
        if (first := keys.index(key)) < i:
            same = "twice" if joints[first] == joints[i] else f"and {joints[i]!r}, which is the same name"
            raise DataError(f"skeleton {name!r} names joint {joints[first]!r} {same}; every joint needs its own name")
    for known in SKELETONS.values():
        if known.keys == matching_keys(joints):
            if limbs and set(map(frozenset, limbs)) != set(map(frozenset, known.limbs)):
                return replace(known, joints=joints, limbs=tuple(limbs))
            return known if known.joints == joints else replace(known, joints=joints)
    pairs = find_pairs(joints)
    paired = {i for pair in pairs for i in pair}
    sigmas = [_sigma(joint, i in paired) for i, joint in enumerate(joints)]
    sources: list[SigmaSource] = ["default" if sigma is None else "part" for sigma in sigmas]
    return Skeleton(name, joints, pairs, tuple(s or DEFAULT_SIGMA for s in sigmas), tuple(limbs), tuple(sources))


def _sources(source: SigmaSource, joints: int) -> tuple[SigmaSource, ...]:
    return (source,) * joints


def _sigma(joint: str, paired: bool) -> float | None:
    """The sigma of the body part that a name ends with; None if it ends with another word."""
    part = f"_{body_part(joint, paired=paired)}"
    return next((sigma for known, sigma in SIGMAS.items() if part.endswith(f"_{known}")), None)


def _known(name: str, joints: str, limbs: str) -> Skeleton:
    names = tuple(joints.split())
    index = {n: i for i, n in enumerate(names)}
    pairs = tuple((i, index["right_" + n[5:]]) for n, i in index.items() if n.startswith("left_"))
    edges = tuple((index[a], index[b]) for a, b in (limb.split("-") for limb in limbs.split()))
    sigmas = tuple(_sigma(n, True) or DEFAULT_SIGMA for n in names)
    return Skeleton(name, names, pairs, sigmas, edges, _sources("set", len(names)))


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


def describe_difference(first: tuple[str, Skeleton], second: tuple[str, Skeleton], option: str) -> str:
    """Returns in words which joints only one of two sets has, and what to do about it.

    Args:
        first: Source and skeleton of a set.
        second: Those of another one with other joints.
        option: The parameter that maps both onto a known skeleton.
    """
    parts = []
    for (source, own), (_, other) in ((first, second), (second, first)):
        only = [joint for joint, key in zip(own.joints, own.keys, strict=True) if key not in other.keys]
        parts += [f"{some_of([*map(repr, only)])} only in {source}"] if only else []
    in_union = {*first[1].keys, *second[1].keys} <= {*UNION.keys}
    remedy = "give both the same joints under the same names"
    return f"{', '.join(parts)}; {f'set `{option}` to union' if in_union else remedy}"
