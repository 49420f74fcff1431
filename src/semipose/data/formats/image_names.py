"""The image that a name or an id means: one rule for annotations, predictions, detections and folders.

Names may differ in their spelling: back slashes, percent-encoding, composed and decomposed letters, upper and lower
case, `./`, the addresses of Label Studio. What could mean several images is never guessed.
"""

import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from semipose.data.formats.values import is_id
from semipose.errors import DataError, collect_errors
from semipose.structures.instances import PoseDataset

log = logging.getLogger(__name__)

ImageId = int | str
Parts = tuple[str, ...]

_ADDRESS = re.compile(r"^(?:[a-zA-Z][\w+.-]+://[^/]*/|/?data/local-files/\?d=|/data/(?=upload/))+")
"""What comes before the path of an image in an address, for example of Label Studio."""
_WHOLE_NUMBER = re.compile(r"\s*-?[0-9]{1,18}(?:\.0*)?\s*")


def image_id_of(value: Any) -> ImageId | None:
    """Returns the value of a JSON field as an id, 7.0 as 7; None for what cannot be an id."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if is_id(value) else None


def id_value(image_id: ImageId) -> ImageId:
    """Returns what ids are compared by: 7, "7" and "7.0" are equal."""
    if isinstance(image_id, str) and _WHOLE_NUMBER.fullmatch(image_id):
        return int(image_id.split(".")[0])
    return image_id


@dataclass(frozen=True)
class ImageReference:
    """How a record names its image; a file name counts more than an id, which only one file gives a meaning to."""

    image_id: ImageId | None
    file_name: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "ImageReference | None":
        """Returns the `image_id` and `file_name` of a record; None if it has neither."""
        name = record.get("file_name")
        reference = cls(image_id_of(record.get("image_id")), name if isinstance(name, str) and name else None)
        return None if reference == cls(None) else reference

    @property
    def has_folder(self) -> bool:
        """Whether the name has a folder."""
        name = self.file_name or str(self.image_id)
        return any(len(parts) > 1 for parts in spellings(name))

    def __str__(self) -> str:
        return repr(self.image_id if self.file_name is None else self.file_name)[:80]


class ImageIndex:
    """Finds the images of a data set or a folder.

    A name means the image whose path ends in it; or, if the name has more folders, the image whose whole path below
    the root the name ends in. A file name or stem alone means the only image that has it.

    Args:
        paths: The path of each image by its id.
        ids: The ids that an id may mean, by `id_value`.
        root: The folder that the images share.
    """

    def __init__(
        self, paths: Mapping[ImageId, Path], ids: Mapping[ImageId, Sequence[ImageId]], root: Path | None = None
    ) -> None:
        self.paths = paths
        self._ids = ids
        self._has_numbers = any(isinstance(image_id, int) for image_id in ids)
        self._root = split_path(str(root or _common_folder(paths.values())))
        self._by_name: dict[str, list[ImageId]] = defaultdict(list)
        self._by_stem: dict[str, list[ImageId]] = defaultdict(list)
        self._by_folder: dict[bool, dict[str, dict[str, list[ImageId]]]] = {True: {}, False: {}}
        for image_id, path in paths.items():
            self._by_name[fold_case(path.name)].append(image_id)
            self._by_stem[fold_case(path.stem)].append(image_id)

    @classmethod
    def of_dataset(cls, persons: PoseDataset) -> "ImageIndex":
        """Returns the images of a data set, with the ids of its annotation file."""
        ids: dict[ImageId, list[ImageId]] = defaultdict(list)
        paths = persons.image_paths
        for image_id in paths:
            ids[id_value(image_id)].append(image_id)
        return cls(paths, {**ids, **{image_id: [image_id] for image_id in paths}})

    @classmethod
    def of_folder(cls, images: Sequence[Path], folder: Path) -> "ImageIndex":
        """Returns the images of a folder, whose ids count from 1; a number means the image whose stem it is."""
        numbers: dict[ImageId, list[ImageId]] = defaultdict(list)
        for number, image in enumerate(images, start=1):
            if isinstance(value := id_value(image.stem), int):
                numbers[value].append(number)
        return cls(dict(enumerate(images, start=1)), numbers, folder)

    def find(self, reference: ImageReference) -> list[ImageId]:
        """Returns the id of the image that is meant; none if it is not here, several if the name is ambiguous."""
        return self._find(reference)[0]

    def locate(
        self,
        references: Sequence[ImageReference],
        path: Path,
        noun: str,
        source: str,
        problems: list[str] | None,
        *,
        is_sample: bool = False,
    ) -> list[ImageId | None]:
        """Returns the image of each record of a file, None for those that are left out; logs what was left out.

        Args:
            references: How each record names its image.
            path: The file.
            noun: What a record is, for messages.
            source: Name of the data set or folder.
            problems: Collects one line for each record whose image is ambiguous, which is then left out.
            is_sample: Whether the images were taken from more, so that records for others are no reason to warn.

        Raises:
            DataError: If no record is for an image of `source`, or one is ambiguous and `problems` is None.
        """
        matches = [self._find(reference) for reference in references]
        if any(ids and not folder and r.has_folder for r, (ids, folder) in zip(references, matches, strict=True)):
            matches = [([], ()) if folder else (ids, ()) for ids, folder in matches]  # other folders are other images
        folders: dict[ImageId, set[Parts]] = defaultdict(set)
        for ids, folder in matches:
            if len(ids) == 1 and folder:
                folders[ids[0]].add(folder)
        found: list[ImageId | None] = []
        unknown: list[ImageReference] = []
        by_value = respelled = 0
        for number, (reference, (ids, folder)) in enumerate(zip(references, matches, strict=True), start=1):
            found.append(None)
            with collect_errors(problems):
                where = f"{path}: {noun} {number}"
                if len(ids) > 1:
                    several = " or ".join(str(self.paths[i]) for i in ids[:2])
                    raise DataError(f"{where}: image {reference} may be {several}; name it by its path")
                if ids and folder and len(folders[ids[0]]) > 1:
                    others = " and ".join(repr("/".join(parts)) for parts in sorted(folders[ids[0]])[:2])
                    raise DataError(f"{where}: images in the folders {others} would all be {self.paths[ids[0]]}")
                if not ids:
                    unknown.append(reference)
                    continue
                found[-1] = ids[0]
                respelled += bool(folder)
                by_value += self._is_by_value(reference, ids[0])
        if unknown and len(unknown) == len(references):
            raise DataError(
                f"{path}: none of its {len(references)} {noun}s is for an image of {source} (the first is for image "
                f"{unknown[0]}); 'file_name' must be the name of an image, or 'image_id' its id"
            )
        if unknown and not is_sample:
            log.warning(
                "%s: %d of %d %ss are for images outside %s and are left out; the first is for image %s",
                *(path, len(unknown), len(references), noun, source, unknown[0]),
            )
        if by_value:
            log.info(
                "%s: the image ids of %d %ss are texts where %s has numbers, or the reverse; matched by value",
                *(path, by_value, noun, source),
            )
        if respelled:
            log.warning("%s: %d %ss name a folder that %s does not have; it is ignored", path, respelled, noun, source)
        return found

    def _is_by_value(self, reference: ImageReference, image_id: ImageId) -> bool:
        """Whether an id, not a name, means the image, as text for a number or the reverse."""
        given = reference.image_id
        return (
            reference.file_name is None
            and given is not None
            and type(given) is not type(image_id)
            and id_value(given) == id_value(image_id)
        )

    def _find(self, reference: ImageReference) -> tuple[list[ImageId], Parts]:
        """The images, and the folders of the name that they are not in."""
        image_id, name = reference.image_id, reference.file_name
        if name is not None:
            ids, folder = self._find_name(name)
            return ([image_id], folder) if len(ids) > 1 and image_id in ids else (ids, folder)
        if image_id is None:
            return [], ()
        if image_id in self._ids:
            return list(self._ids[image_id]), ()
        if isinstance(image_id, int):
            return ([], ()) if self._has_numbers else self._find_name(str(image_id))
        by_value = self._ids.get(id_value(image_id), ())
        named, folder = self._find_name(image_id)
        if str(id_value(image_id)) == image_id:  # "7" is the id 7 or the image 7.jpg, but "007" is a name first
            return list(dict.fromkeys([*by_value, *named])), folder
        return (named, folder) if named else (list(by_value), ())

    def _find_name(self, name: str) -> tuple[list[ImageId], Parts]:
        for parts in filter(None, spellings(name)):
            last = fold_case(parts[-1])
            for by_last, suffix in ((self._by_name, True), (self._by_stem, False)):
                candidates = self._in_folder(by_last.get(last, []), parts, suffix)
                for fold in (str, fold_case) if candidates else ():
                    found = self._best(candidates, parts, suffix, fold)
                    if found[0]:
                        return found
        return [], ()

    def _in_folder(self, candidates: list[ImageId], parts: Parts, suffix: bool) -> list[ImageId]:
        """The candidates in a folder with the name that `parts` has, or in the root; all if `parts` has none."""
        if len(candidates) < 2 or len(parts) < 2:
            return candidates
        by_folder = self._by_folder[suffix].setdefault(fold_case(parts[-1]), defaultdict(list))
        if not by_folder:
            for image_id in candidates:
                by_folder[fold_case(self.paths[image_id].parent.name)].append(image_id)
        names = dict.fromkeys((fold_case(parts[-2]), fold_case(self._root[-1]) if self._root else ""))
        return [image_id for name in names for image_id in by_folder.get(name, ())]

    def _best(
        self, candidates: list[ImageId], parts: Parts, suffix: bool, fold: Callable[[str], str]
    ) -> tuple[list[ImageId], Parts]:
        """The candidates that share the most trailing components with `parts`; equal paths below the root first."""
        wanted = [fold(part) for part in reversed(parts)]
        ranks = {}
        for image_id in candidates:
            path = self.paths[image_id]
            own = split_path(str(path if suffix else path.with_suffix("")))
            below = len(own) - len(self._root)
            pairs = zip(wanted, map(fold, reversed(own)), strict=False)
            common = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(own)))
            if common == len(wanted) or common >= below:
                ranks[image_id] = (common == len(wanted) == below, common)
        best = max(ranks.values(), default=(False, 0))
        return [i for i, rank in ranks.items() if rank == best], parts[: len(parts) - best[1]]


def relative_names(paths: Mapping[ImageId, Path], folder: Path | None = None) -> dict[ImageId, str]:
    """Returns the names of images relative to `folder`, or to the folder that they share if not given, by id."""
    root = folder or Path(_common_folder(paths.values()))
    return {
        image_id: (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        for image_id, path in paths.items()
    }


def names_below_shared_folder(
    paths: Mapping[ImageId, Path], folder: Path | None = None
) -> tuple[Path, dict[ImageId, str]]:
    """Returns the absolute folder that images share, without `..`, and their names relative to it, by id.

    A given folder takes its place if all images lie below it.
    """
    absolute = {image_id: Path(os.path.abspath(path)) for image_id, path in paths.items()}  # noqa: PTH100  (keeps links)
    root = Path(os.path.abspath(folder or ""))  # noqa: PTH100
    if folder is None or not all(image.is_relative_to(root) for image in absolute.values()):
        root = Path(os.path.commonpath([image.parent for image in absolute.values()]))
    return root, {image_id: image.relative_to(root).as_posix() for image_id, image in absolute.items()}


def without_address(name: str) -> str:
    """Returns the path of an image in an address, for example of Label Studio; other names as they are."""
    return _ADDRESS.sub("", name)


def spellings(name: str) -> list[Parts]:
    """Returns the components of the path in a name: as it is written, with slashes, and decoded from an address."""
    slashes = name.replace("\\", "/")
    address = _ADDRESS.sub("", slashes)
    if "://" in name:
        address = re.split(r"[?#]", address)[0]
    return list(dict.fromkeys(map(split_path, (name, slashes, address, unquote(address)))))


def split_path(path: str) -> Parts:
    """Returns the components of a path, with composed letters and without `.`."""
    return tuple(part for part in composed(path).split("/") if part not in ("", "."))


def leaves_folder(name: str) -> bool:
    """Returns whether a name is absolute, on any system, or leaves its folder."""
    parts = name.replace("\\", "/").split("/")
    return "\0" in name or ".." in parts or parts[0] == "" or bool(re.fullmatch("[a-zA-Z]:", parts[0]))


def composed(text: str) -> str:
    """Returns the text with composed letters, as most file systems have them."""
    return unicodedata.normalize("NFC", text)


def fold_case(text: str) -> str:
    """Returns what upper and lower case, and composed and decomposed letters, have in common."""
    return composed(composed(text).casefold())


def _common_folder(paths: Iterable[Path]) -> str:
    folders = {path.parent for path in paths}
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative paths
        return ""
