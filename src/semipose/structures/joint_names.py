"""Joint names: their words, the side of the body that they name, and the name of the joint on the other side."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

Side = Literal["left", "right"]
_SIDES: tuple[Side, Side] = ("left", "right")

_SIDE_WORDS: dict[str, Side] = {"left": "left", "l": "left", "right": "right", "r": "right"}
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
_PART = (
    "nose|eye|ear|head|neck|shoulder|elbow|wrist|hip|knee|ankle|hand|foot|paw|toe|heel|thumb|finger|index|pinky|palm|"
    "arm|forearm|leg|foreleg|hindleg|thigh|shin|calf|wing|antenna|hoof|brow|eyebrow|cheek|temple"
)
"""Parts of a body before or after which `l` and `r` can be a side without a separator (`lwrist`, `pawr1`)."""
_PARTS = frozenset(_PART.split("|"))
_CODE = re.compile(r"[lr][fhbrm]|[fhbrm][lr]")
"""Side with front, hind, back, rear or middle: `LF`, `RH`, `BL`."""
_EDGE_LETTER = re.compile(r"(?<![^\W\d_])[lr]|[lr](?![^\W\d_])")
"""An `l` or `r` at the start or end of a word, digits aside: `lfin`, `finl2`."""
_WITH_PART = re.compile(rf"[lr](?:{_PART})\d*|(?:{_PART})[lr]\d*")
_ONE_LETTER = re.compile(rf"{_CODE.pattern}|[lr]\d+|\d+[lr]|{_WITH_PART.pattern}")
"""Words in which a single letter can be the side: `lf`, `l1`, `lwrist`."""


def words(name: str) -> list[str]:
    """Splits a name such as `LeftWrist`, `left wrist`, `hand.L` or `paw1LH_top` into words; letters keep their case."""
    text = unicodedata.normalize("NFC", name)
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    return [word for word in re.split(r"[\s_.-]+", separated) if word]


def normalize(name: str) -> str:
    """Returns the name in lower snake case."""
    return "_".join(words(name)).lower()


def matching_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Returns what the joints of different sets are matched by: the name in lower snake case, its side in front.

    `front_left_paw` and `FrontPaw.L` become `left_front_paw`; the other words keep their order. Names with several side
    words (`left_eye_right_corner`) stay as they are. Joints of one set that would have the same key keep their
    spelling, and match no other spelling.
    """
    keys = [_side_first(name) for name in names]
    return tuple(
        key if keys.count(key) == 1 else f"{normalize(name)} (as spelled)"
        for key, name in zip(keys, names, strict=True)
    )


def _side_first(name: str) -> str:
    stated = [word for word in map(str.lower, words(name)) if word in _SIDE_WORDS or _joined_side(word)]
    if len(stated) != 1:
        return normalize(name)
    side = _SIDE_WORDS.get(stated[0]) or _joined_side(stated[0])
    return f"{side}_{body_part(name, paired=False)}".rstrip("_")


def side_of(name: str) -> Side | None:
    """Returns the side that a name states in a word of its own, as `LF` or before or after a body part (`leftwrist`).

    A single letter without a separator is not enough, because `rear` is not the right ear.
    """
    parts = words(name)
    for word in parts:
        if side := _SIDE_WORDS.get(word.lower()):
            return side
    for word in parts:
        if word.isupper() and _CODE.fullmatch(word.lower()):
            return "left" if "L" in word else "right"
        if side := _joined_side(word.lower()):
            return side
    return None


def body_part(name: str, *, paired: bool) -> str:
    """Returns a name in snake case without its side; `paired` joints lose single letters as in `lwrist` as well."""
    kept = []
    for word in (word.lower() for word in words(name)):
        if word in _SIDE_WORDS:
            continue
        if side := _joined_side(word):
            word = word.removeprefix(side) if word.startswith(side) else word.removesuffix(side)
        elif paired and _WITH_PART.fullmatch(word):
            word = word[1:] if word[0] in "lr" and word[1:].rstrip("0123456789") in _PARTS else word[:-1]
        kept.append(word)
    return "_".join(kept)


def find_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Returns the indices (left, right) of the joints whose names differ only in their side, wherever it is stated.

    Where a pair is found, `similar_names` that are similar to each other alone are pairs, too.
    """
    keys = [normalize(name) for name in names]
    index = {key: i for i, key in enumerate(keys)}
    partners: dict[int, int] = {}
    for i, name in enumerate(names):
        for other in mirrored_names(name):
            j = index.get(other)
            if j is not None and i not in partners and j not in partners and keys[i] in mirrored_names(names[j]):
                partners[i], partners[j] = j, i
    _pair_in_any_order(names, partners)
    similar = similar_names(names, partners) if partners else {}
    partners |= {i: found[0] for i, found in similar.items() if len(found) == len(similar[found[0]]) == 1}
    return tuple((i, j) for i, j in sorted(partners.items()) if _is_left(names[i], keys[i], keys[j]))


def similar_names(names: Sequence[str], paired: Collection[int]) -> dict[int, list[int]]:
    """Returns for each joint the ones from which it differs in one `l` or `r` alone (`lfin` and `rfin`), if any.

    The letter is the first or last of a word. Joints that are paired or state a side otherwise are left out. Only the
    other joints can tell whether it is a side: `load` is not the left `road`.
    """
    index = {normalize(name): i for i, name in enumerate(names) if i not in paired and not side_of(name)}
    found = {i: [index[other] for other in _with_other_letter(key) if other in index] for key, i in index.items()}
    return {i: others for i, others in found.items() if others}


def _with_other_letter(key: str) -> list[str]:
    return [key[: m.start()] + _OTHER[m[0]] + key[m.end() :] for m in _EDGE_LETTER.finditer(key)]


def mirrored_names(name: str) -> list[str]:
    """Returns the names in snake case that the joint on the other side may have; none without a side.

    All side words change at once (`left_eye_right_corner`); without any, a single word with a side in it changes.
    """
    original = words(name)
    lower = [word.lower() for word in original]
    if any(word in _SIDE_WORDS for word in lower):
        return ["_".join(_OTHER.get(word, word) for word in lower)]
    return [
        "_".join([*lower[:i], other, *lower[i + 1 :]])
        for i, word in enumerate(original)
        for other in _mirrored_words(word)
    ]


def _mirrored_words(word: str) -> list[str]:
    """The other sides of a word that is no side word itself, most likely first."""
    lower, found = word.lower(), []
    for side in _SIDES:
        if lower.startswith(side):
            found.append(_OTHER[side] + lower.removeprefix(side))
        if lower.endswith(side):
            found.append(lower.removesuffix(side) + _OTHER[side])
    is_code = _ONE_LETTER.fullmatch(lower) or (word.isupper() and len(word) == 2)
    positions = range(len(lower) if is_code else word.isupper())
    return found + [lower[:i] + _OTHER[lower[i]] + lower[i + 1 :] for i in positions if lower[i] in "lr"]


def _joined_side(word: str) -> Side | None:
    """The side that is written together with a body part (`leftwrist`); None for `cleft` and `bright`."""
    word = word.rstrip("0123456789")
    for side in _SIDES:
        rest = word.removeprefix(side) if word.startswith(side) else word.removesuffix(side)
        if rest != word and rest in ("", *_PARTS):
            return side
    return None


def _pair_in_any_order(names: Sequence[str], partners: dict[int, int]) -> None:
    """Pairs the remaining joints whose side words are at different places (`left_wrist`, `wrist_right`)."""
    alone: dict[tuple[Side, str], list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        side = side_of(name)
        if side and i not in partners:
            alone[side, body_part(name, paired=False)].append(i)
    for (side, part), found in alone.items():
        others = alone.get(("right", part), [])
        if side == "left" and len(found) == len(others) == 1:
            partners[found[0]], partners[others[0]] = others[0], found[0]


def _is_left(name: str, key: str, other: str) -> bool:
    """Whether the first of two paired joints is the left one; where the names do not say it, by their difference."""
    differing = [a for a, b in zip(key, other, strict=False) if a != b]
    side = None if len(differing) == 1 and len(key) == len(other) else side_of(name)
    return side == "left" if side else differing[0] == "l"
