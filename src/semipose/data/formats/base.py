"""The contract of annotation formats."""

from abc import ABC, abstractmethod
from pathlib import Path

from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice
from semipose.structures.instances import PoseDataset
from semipose.structures.skeletons import Skeleton


class Format(ABC):
    """A file format of pose annotations.

    Attributes:
        is_upright: Whether positions in a file refer to the image that a viewer shows, rotated as its EXIF data ask.
            The reader returns those in the stored image.
    """

    is_upright = False

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Returns whether a file has this format, by its content; False for a file that cannot be read."""

    @abstractmethod
    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons of an annotation file.

        Args:
            path: The file.
            images: The image folder; None to find it near the file.
            problems: Collects one line for each broken record, which is then left out.
            category: The category that is read, where the format has several.

        Returns:
            The persons, in the order of the file.

        Raises:
            DataError: If the file cannot be used, or a record is broken and `problems` is None.
        """

    def read_boxes(
        self,
        path: Path,
        images: Path | None,
        problems: list[str] | None,
        skeleton: Skeleton | None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the persons without their joints, with the arguments of `read`.

        Args:
            path: The file.
            images: The image folder.
            problems: Collects broken records.
            skeleton: The skeleton of the result where the file has none.
            category: The category that is read.
        """
        return self.read(path, images, problems, category).without_labels()
