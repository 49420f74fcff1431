"""The category of the subjects of a data set."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """A COCO category.

    Attributes:
        id: Its id, as in the annotation file.
        name: Its name, likewise.
        members: The categories of the file that are read as this one; the first has its id. None if it is one itself.
    """

    id: int | str
    name: str
    members: tuple["Category", ...] = ()

    @property
    def parts(self) -> tuple["Category", ...]:
        """The categories of the file: its members, or itself if it has none."""
        return self.members or (self,)

    @property
    def values(self) -> tuple[int | str, ...]:
        """Ids and names that detections of this category may have."""
        return tuple(value for part in self.parts for value in (part.id, part.name))


PERSON = Category(1, "person")
"""The category of data sets of people that state none."""
ANIMAL = Category(1, "animal")
"""That of the other data sets that state none."""
