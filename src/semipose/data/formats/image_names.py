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
from semipose.errors import DataError, MissingImagesError, collect_errors
from semipose.structures.instances import PoseDataset
from semipose.utils.files import is_file

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
        self._root = _split(str(root or _common_folder(paths.values())))
        self._by_name: dict[str, list[ImageId]] = defaultdict(list)
        self._by_stem: dict[str, list[ImageId]] = defaultdict(list)
        self._by_folder: dict[bool, dict[str, dict[str, list[ImageId]]]] = {True: {}, False: {}}
        for image_id, path in paths.items():
            self._by_name[_fold(path.name)].append(image_id)
            self._by_stem[_fold(path.stem)].append(image_id)

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
            last = _fold(parts[-1])
            for by_last, suffix in ((self._by_name, True), (self._by_stem, False)):
                candidates = self._in_folder(by_last.get(last, []), parts, suffix)
                for fold in (str, _fold) if candidates else ():
                    found = self._best(candidates, parts, suffix, fold)
                    if found[0]:
                        return found
        return [], ()

    def _in_folder(self, candidates: list[ImageId], parts: Parts, suffix: bool) -> list[ImageId]:
        """The candidates in a folder with the name that `parts` has, or in the root; all if `parts` has none."""
        if len(candidates) < 2 or len(parts) < 2:
            return candidates
        by_folder = self._by_folder[suffix].setdefault(_fold(parts[-1]), defaultdict(list))
        if not by_folder:
            for image_id in candidates:
                by_folder[_fold(self.paths[image_id].parent.name)].append(image_id)
        names = dict.fromkeys((_fold(parts[-2]), _fold(self._root[-1]) if self._root else ""))
        return [image_id for name in names for image_id in by_folder.get(name, ())]

    def _best(
        self, candidates: list[ImageId], parts: Parts, suffix: bool, fold: Callable[[str], str]
    ) -> tuple[list[ImageId], Parts]:
        """The candidates that share the most trailing components with `parts`; equal paths below the root first."""
        wanted = [fold(part) for part in reversed(parts)]
        ranks = {}
        for image_id in candidates:
            path = self.paths[image_id]
            own = _split(str(path if suffix else path.with_suffix("")))
            below = len(own) - len(self._root)
            pairs = zip(wanted, map(fold, reversed(own)), strict=False)
            common = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(own)))
            if common == len(wanted) or common >= below:
                ranks[image_id] = (common == len(wanted) == below, common)
        best = max(ranks.values(), default=(False, 0))
        return [i for i, rank in ranks.items() if rank == best], parts[: len(parts) - best[1]]


class ImageFolder:
    """The files of an image folder, found by the names in annotation records.

    A name that no file has is found where only its spelling differs or it begins with other folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries: dict[str, frozenset[str]] = {}
        self._folded: dict[str, dict[str, list[str]]] = {}
        self._names: dict[str, str] = {}
        self._respelled: list[str] = []
        self._moved: dict[str, str] = {}
        self._conflicts: list[tuple[str, str, str]] = []

    def find(self, name: str, where: str) -> Path:
        """Returns the path of an image; where there is no such file, the one that it would have.

        Raises:
            DataError: If the name is absolute, leaves the folder or could mean several files; begins with `where`.
        """
        folder, _, base = name.rpartition("/")
        if not _leaves(name) and base in self._list(folder):
            return self._record(name, Path(folder) / base)
        below = name.removeprefix(f"{self.root.absolute()}{os.sep}")
        spelled = [parts for parts in spellings(below) if parts]
        if _leaves(_ADDRESS.sub("", below)) or any(_leaves("/".join(parts)) for parts in spelled):
            raise DataError(f"{where}: image {name!r} is outside the image folder; make the name relative to it")
        attempts = sorted(((n, parts[n:]) for parts in spelled for n in range(len(parts))), key=lambda a: a[0])
        for dropped, parts in attempts:
            found = self._search(parts)
            if len(found) > 1:
                both = " or ".join(str(self.root / path) for path in found[:2])
                raise DataError(f"{where}: image {name!r} may be {both}; give its exact name")
            if found:
                self._respelled.append(name)
                folders = next(s[:dropped] for s in spelled if s[dropped:] == parts)
                own = _split(str(self.root.absolute()))[-dropped:] if dropped else ()
                return self._record(name, Path(found[0]), moved=[*map(_fold, folders)] != [*map(_fold, own)])
        return self.root.joinpath(*spelled[-1]) if _ADDRESS.match(below) else self.root / below

    def report(self, source: Path) -> None:
        """Logs how many names differ from their files.

        Raises:
            DataError: If images in different folders were found as the same file.
        """
        if self._conflicts:
            first, second, path = self._conflicts[0]
            raise DataError(
                f"{source}: images {first!r} and {second!r} would both be {self.root / path}; give the folder that "
                "contains the folders of the names with `images`"
            )
        if self._moved:
            path, name = next(iter(self._moved.items()))
            log.warning(
                "%s: %d images have a folder in their names that %s lacks; it is ignored (%s is %s)",
                *(source, len(self._moved), self.root, name, path),
            )
        elif self._respelled:
            log.info(
                "%s: the names of %d images are spelled differently from their files, for example %s",
                *(source, len(self._respelled), self._respelled[0]),
            )

    def _record(self, name: str, path: Path, moved: bool = False) -> Path:
        key = str(path)
        earlier = self._names.setdefault(key, name)
        if moved:
            self._moved.setdefault(key, name)
        if earlier != name and key in self._moved:
            self._conflicts.append((earlier, name, key))
        return self.root / path

    def _list(self, folder: str) -> frozenset[str]:
        if folder not in self._entries:
            try:
                self._entries[folder] = frozenset(os.listdir(self.root / folder))  # noqa: PTH208  (half the time)
            except (OSError, ValueError):
                self._entries[folder] = frozenset()
        return self._entries[folder]

    def _search(self, parts: Parts) -> list[str]:
        """The files whose path has these components, letter by letter or else regardless of case."""
        found = [""]
        for part in parts:
            found = [os.path.join(folder, entry) for folder in found for entry in self._matching(folder, part)]  # noqa: PTH118
        return found

    def _matching(self, folder: str, part: str) -> list[str]:
        if folder not in self._folded:
            self._folded[folder] = defaultdict(list)
            for entry in sorted(self._list(folder)):
                self._folded[folder][_fold(entry)].append(entry)
        similar = self._folded[folder].get(_fold(part), [])
        return [entry for entry in similar if _composed(entry) == part] or similar


def relative_names(paths: Mapping[ImageId, Path], folder: Path | None = None) -> dict[ImageId, str]:
    """Returns the names of images relative to `folder`, or to the folder that they share if not given, by id."""
    root = folder or Path(_common_folder(paths.values()))
    return {
        image_id: (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        for image_id, path in paths.items()
    }


def names_below_shared_folder(paths: Mapping[ImageId, Path]) -> tuple[Path, dict[ImageId, str]]:
    """Returns the absolute folder that images share, without `..`, and their names relative to it, by id."""
    absolute = {image_id: Path(os.path.abspath(path)) for image_id, path in paths.items()}  # noqa: PTH100  (keeps links)
    root = Path(os.path.commonpath([image.parent for image in absolute.values()]))
    return root, {image_id: image.relative_to(root).as_posix() for image_id, image in absolute.items()}


def spellings(name: str) -> list[Parts]:
    """Returns the components of the path in a name: as it is written, with slashes, and decoded from an address."""
    slashes = name.replace("\\", "/")
    address = _ADDRESS.sub("", slashes)
    if "://" in name:
        address = re.split(r"[?#]", address)[0]
    return list(dict.fromkeys(map(_split, (name, slashes, address, unquote(address)))))


def require_images(images: list[str], source: Path, problems: list[str] | None = None) -> None:
    """Checks that the image folder is the right one.

    Args:
        images: The image paths of the data set.
        source: The annotation file.
        problems: If None the first image must exist, otherwise any one of them.

    Raises:
        MissingImagesError: If the image does not exist.
    """
    if not any(is_file(Path(image)) for image in dict.fromkeys(images if problems is not None else images[:1])):
        raise MissingImagesError(images[0], source, cause=_describe_missing(Path(images[0])))


def _describe_missing(image: Path) -> str:
    """Why an image is missing: there is no such folder, or what the folder has in its place."""
    folder = next((parent for parent in image.parents if parent.is_dir()), Path())
    if folder != image.parent:
        return f"there is no folder {image.parent}"
    files = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    similar = [name for name in files if _fold(Path(name).stem) == _fold(image.stem)]
    if similar:
        return f"the folder has {similar[0]}"
    if files:
        return f"the folder has {len(files)} other files, the first is {files[0]}"
    folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return f"{folder} has only folders: {', '.join(folders[:3])}" if folders else f"{folder} is empty"


def _split(path: str) -> Parts:
    return tuple(part for part in _composed(path).split("/") if part not in ("", "."))


def _leaves(name: str) -> bool:
    """Whether a name is absolute, on any system, or leaves its folder."""
    parts = name.replace("\\", "/").split("/")
    return "\0" in name or ".." in parts or parts[0] == "" or bool(re.fullmatch("[a-zA-Z]:", parts[0]))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _fold(text: str) -> str:
    return _composed(_composed(text).casefold())


def _common_folder(paths: Iterable[Path]) -> str:
    folders = {path.parent for path in paths}
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative paths
        return ""
