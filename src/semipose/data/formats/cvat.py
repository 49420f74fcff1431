"""CVAT's export "COCO Keypoints": a zip with a COCO file and, if wanted, the images."""

import zipfile
from pathlib import Path

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice
from semipose.data.formats.coco import CocoFormat
from semipose.data.formats.unpacked import unpacked
from semipose.errors import DataError
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton


class CocoZipFormat(Format):
    """A zip with `annotations/NAME.json` and, unless images are elsewhere, `images/`.

    It is unpacked into the cache folder.
    """

    def matches(self, path: Path) -> bool:
        """Returns whether a file is a zip."""
        return path.is_file() and zipfile.is_zipfile(path)

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of the COCO file in a zip, as `Format.read` describes."""
        file, folder = _content(path)
        return _named(CocoFormat().read(file, images or folder, problems, category), path)

    def read_boxes(
        self,
        path: Path,
        images: Path | None,
        problems: list[str] | None,
        skeleton: Skeleton | None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons without their joints, as `Format.read_boxes` describes."""
        file, folder = _content(path)
        return _named(CocoFormat().read_boxes(file, images or folder, problems, skeleton, category), path)


def _content(path: Path) -> tuple[Path, Path]:
    """The COCO file in a zip and the folder of its images."""
    try:
        folder = unpacked(path, lambda target: zipfile.ZipFile(path).extractall(target))
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is a broken zip ({error}); export it again") from None
    files = sorted((folder / "annotations").glob("*.json"))
    files = [f for f in files if f.name.startswith("person_keypoints")] or files
    if len(files) != 1:
        found = ", ".join(f.name for f in files) or "none"
        raise DataError(f"{path} needs one file annotations/*.json, it has {found}; unpack it and give one")
    subset = files[0].stem.removeprefix("person_keypoints_")
    candidates = (folder / "images" / subset, folder / "images", path.parent / "images")
    return files[0], next((f for f in candidates if f.is_dir()), path.parent)


def _named(persons: PoseDataset, path: Path) -> PoseDataset:
    """The persons with the zip as their source."""
    return PoseDataset(
        persons.skeleton, persons.instances, str(path), persons.empty_images, persons.category, persons.left_out
    )
