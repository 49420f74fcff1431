"""The files of an image folder that the names in annotation records mean."""

import filecmp
import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from semipose.data.formats.image_names import (
    Parts,
    composed,
    fold_case,
    leaves_folder,
    spellings,
    split_path,
    without_address,
)
from semipose.errors import ConfigError, DataError, MissingImagesError
from semipose.utils.files import is_file

log = logging.getLogger(__name__)


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
        if not leaves_folder(name) and base in self._list(folder):
            return self._record(name, Path(folder) / base)
        below = name.removeprefix(f"{self.root.absolute()}{os.sep}")
        spelled = [parts for parts in spellings(below) if parts]
        if leaves_folder(without_address(below)) or any(leaves_folder("/".join(parts)) for parts in spelled):
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
                own = split_path(str(self.root.absolute()))[-dropped:] if dropped else ()
                return self._record(name, Path(found[0]), moved=[*map(fold_case, folders)] != [*map(fold_case, own)])
        return self.root.joinpath(*spelled[-1]) if without_address(below) != below else self.root / below

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
                self._folded[folder][fold_case(entry)].append(entry)
        similar = self._folded[folder].get(fold_case(part), [])
        return [entry for entry in similar if composed(entry) == part] or similar


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


def images_to_copy(source: Path, target: Path, names: Iterable[str]) -> list[str]:
    """Returns the names of the images in the folder `source` that the folder `target` lacks.

    Raises:
        ConfigError: If `target` has another image of one of the names.
    """
    lacking = []
    for name in names:
        old, new = target / name, source / name
        if not old.exists():
            lacking.append(name)
        elif not old.samefile(new) and not filecmp.cmp(old, new, shallow=False):
            raise ConfigError(f"`out`: {old} exists and is another image than {new}; choose another folder")
    return lacking


def _describe_missing(image: Path) -> str:
    """Why an image is missing: there is no such folder, or what the folder has in its place."""
    folder = next((parent for parent in image.parents if parent.is_dir()), Path())
    if folder != image.parent:
        return f"there is no folder {image.parent}"
    files = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    similar = [name for name in files if fold_case(Path(name).stem) == fold_case(image.stem)]
    if similar:
        return f"the folder has {similar[0]}"
    if files:
        return f"the folder has {len(files)} other files, the first is {files[0]}"
    folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return f"{folder} has only folders: {', '.join(folders[:3])}" if folders else f"{folder} is empty"
