"""Which categories of a COCO file are read, and what they state about their joints."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from semipose.data.formats.values import is_id
from semipose.errors import DataError
from semipose.structures.categories import ANIMAL, PERSON, Category
from semipose.structures.skeletons import SKELETONS, Skeleton, infer_skeleton

log = logging.getLogger(__name__)

ALL = "all"
"""Stands for all categories, which are then read as one."""


@dataclass(frozen=True)
class CategoryChoice:
    """The category that is read of a file with several.

    Attributes:
        name: Name of the category, `all` to merge them, or None where none is preferred.
        option: The parameter that holds the name, for messages.
    """

    name: str | None = None
    option: str = "category"


ANY_CATEGORY = CategoryChoice()
"""No choice: a file has one category, or is refused where joints are needed."""


def single_category(name: str | None, skeleton: Skeleton, choice: CategoryChoice) -> Category:
    """Returns the category of a source in a format without categories.

    Args:
        name: The name that the source gives its subjects, if it does.
        skeleton: The joints; those of a known set are a person's.
        choice: Names the category where the source does not.
    """
    if name := name or (choice.name if choice.name != ALL else None):
        return Category(1, name)
    return PERSON if any({*known.keys} == {*skeleton.keys} for known in SKELETONS.values()) else ANIMAL


@dataclass(frozen=True)
class ReadCategories:
    """The ids of the categories that are read, their joints, and the category of the persons."""

    ids: frozenset[int | str]
    skeleton: Skeleton
    category: Category


def read_categories(
    categories: list[dict[str, Any]],
    path: Path,
    skeleton: Skeleton | None,
    choice: CategoryChoice,
    used_ids: Callable[[], set[Any]],
) -> ReadCategories:
    """Returns the categories of a file that are read.

    Args:
        categories: The list of the file.
        path: The file, for messages.
        skeleton: The skeleton where no category has joints; None if joints are needed. With it, a file in which nothing
            is chosen has the persons of all categories.
        choice: The category that the user or the training data names.
        used_ids: Returns the category ids of the annotations, which a file with several categories needs.

    Raises:
        DataError: If no category can be used, or several can and none is chosen.
    """
    if not categories or not all(is_id(c.get("id")) for c in categories):
        raise DataError(f"annotation file {path} needs categories, each with an 'id'")
    candidates = [c for c in categories if c.get("keypoints")]
    if not candidates and skeleton is None:
        raise DataError(f"annotation file {path} has no category with 'keypoints'; list the joint names in one")
    chosen = _choose(candidates or categories, path, choice, used_ids, labels=skeleton is None)
    if candidates:
        skeleton = _skeleton(chosen, path)
    assert skeleton is not None
    return ReadCategories(frozenset(c["id"] for c in chosen), skeleton, _as_one(chosen))


def _choose(
    candidates: list[dict[str, Any]],
    path: Path,
    choice: CategoryChoice,
    used_ids: Callable[[], set[Any]],
    *,
    labels: bool,
) -> list[dict[str, Any]]:
    if len(candidates) == 1:
        return candidates
    listed = ", ".join(f"{_category(c).name} (id {c['id']})" for c in candidates[:10])
    named = [c for c in candidates if choice.name == _category(c).name]
    if named:
        log.info("%s: category %s of %s", path, choice.name, listed)
        return named[:1]
    if choice.name in (ALL, " + ".join(_category(c).name for c in candidates)):
        log.info("%s: the categories %s are read as one", path, listed)
        return candidates
    ids = used_ids()
    used = [c for c in candidates if c["id"] in ids]
    if len(used) == 1:
        log.info("%s: category %s of %s, the only one with annotations", path, _category(used[0]).name, listed)
        return used
    if not labels:
        log.info("%s: boxes of the categories %s", path, listed)
        return candidates
    near = get_close_matches(choice.name or "", [_category(c).name for c in candidates], n=1)
    what = f"no category {choice.name!r} but {listed}" if choice.name else f"persons of several categories, {listed}"
    hint = f"did you mean {near[0]!r}?" if near else f"name one as `{choice.option}`, or set it to {ALL} to merge them"
    raise DataError(f"annotation file {path} has {what}; {hint}")


def _category(category: dict[str, Any]) -> Category:
    name = category.get("name")
    return Category(category["id"], name if isinstance(name, str) and name else PERSON.name)


def _as_one(categories: list[dict[str, Any]]) -> Category:
    members = tuple(map(_category, categories))
    if len(members) == 1:
        return members[0]
    names = [member.name for member in members]
    name = " + ".join(names) if len(names) < 4 else PERSON.name if PERSON.name in names else ANIMAL.name
    return Category(members[0].id, name, members)


def _skeleton(chosen: list[dict[str, Any]], path: Path) -> Skeleton:
    names = chosen[0]["keypoints"]
    if not isinstance(names, list) or any(c["keypoints"] != names for c in chosen):
        raise DataError(f"annotation file {path} has categories with different 'keypoints'; name one of them")
    first, k = chosen[0], len(names)
    skeleton = infer_skeleton(names, _limbs(first.get("skeleton") or [], k, path), name=path.stem)
    pairs, sigmas = first.get("flip_pairs"), first.get("sigmas") or None
    if isinstance(sigmas, list) and len(sigmas) == k:
        sigmas = dict(zip(names, sigmas, strict=True))
    are_pairs = isinstance(pairs, list) and all(_is_pair(pair, str) for pair in pairs)
    if pairs is not None and not are_pairs:
        raise DataError(f"annotation file {path}: 'flip_pairs' of the category is not a list of pairs of joint names")
    if sigmas is not None and not _are_sigmas(sigmas):
        raise DataError(
            f"annotation file {path}: 'sigmas' of the category are not {k} numbers or numbers by joint name"
        )
    try:
        return skeleton.with_given(flip_pairs=pairs, sigmas=sigmas)
    except DataError as error:
        raise DataError(f"annotation file {path}: {error}") from None


def _are_sigmas(sigmas: Any) -> bool:
    return isinstance(sigmas, dict) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in sigmas.values()
    )


def _is_pair(pair: Any, kind: type) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, kind) for part in pair)


def _limbs(pairs: Any, k: int, path: Path) -> list[tuple[int, int]]:
    if not isinstance(pairs, list):
        raise DataError(f"annotation file {path}: 'skeleton' of the category is not a list of pairs of joints")
    for pair in pairs:
        if not _is_pair(pair, int) or not all(1 <= i <= k for i in pair):
            raise DataError(
                f"annotation file {path}: limb {str(pair)[:40]} of the category is not a pair of joints 1 to {k}"
            )
    return [(a - 1, b - 1) for a, b in pairs]
