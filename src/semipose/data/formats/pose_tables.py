"""DeepLabCut's tables: header rows with scorer, (individuals,) bodyparts and coords, one row an image or a frame.

Lightning Pose has the same table. As csv it needs no package; as h5 it is a data frame of pandas.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semipose.data.formats.values import LARGEST_NUMBER
from semipose.errors import DataError
from semipose.utils.extras import import_extra
from semipose.utils.files import replacing
from semipose.utils.text import as_utf8, first_line

LEVELS = ("scorer", "individuals", "bodyparts", "coords")
"""Names of the header rows; tables of one animal have no `individuals`."""
H5_KEY = "df_with_missing"
"""The name under which DeepLabCut stores a table in an h5 file."""

Column = tuple[str | None, str]
"""The animal, None in a table of one, and the joint."""


@dataclass(frozen=True, eq=False)
class PoseTable:
    """The joints of the animals in R images or frames.

    Attributes:
        scorer: Who labeled or predicted.
        names: R names of images, or numbers of frames.
        columns: C pairs of animal and joint, in the order of the file.
        values: (R, C, 2) positions in pixels, or (R, C, 3) with likelihoods; NaN where there is none.
    """

    scorer: str
    names: Sequence[str | int]
    columns: tuple[Column, ...]
    values: np.ndarray

    @property
    def individuals(self) -> tuple[str | None, ...]:
        """The animals in the order of the columns."""
        return tuple(dict.fromkeys(individual for individual, _ in self.columns))

    @property
    def joints(self) -> tuple[str, ...]:
        """The joints of all animals in the order of the columns."""
        return tuple(dict.fromkeys(joint for _, joint in self.columns))

    @property
    def header(self) -> list[tuple[str, ...]]:
        """The cells above each value: scorer, animal (not in a table of one), joint, and x, y or likelihood."""
        coords = ("x", "y", "likelihood")[: self.values.shape[2]]
        above = [(self.scorer, *(() if i is None else (i,)), joint) for i, joint in self.columns]
        return [(*cells, coord) for cells in above for coord in coords]

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the header rows."""
        return LEVELS if len(self.header[0]) == len(LEVELS) else (LEVELS[0], *LEVELS[2:])


def is_csv_table(path: Path) -> bool:
    """Returns whether a file is a csv with the header rows of a pose table; False for a file that cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = [row[0] for _, row in zip(range(4), csv.reader(file), strict=False) if row]
    except (OSError, ValueError, csv.Error):
        return False
    return tuple(first[:3]) == (LEVELS[0], *LEVELS[2:]) or tuple(first) == LEVELS


def has_likelihoods(path: Path) -> bool:
    """Returns whether a csv or h5 file is a pose table with likelihoods, which predictions have and labels lack.

    Raises:
        ConfigError: If pandas or PyTables is not installed, for an h5 file.
    """
    if path.suffix.lower() == ".csv":
        if not is_csv_table(path):
            return False
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for _, row in zip(range(4), csv.reader(file), strict=False)]
        return any(row[:1] == [LEVELS[-1]] and "likelihood" in row for row in rows)
    try:
        return read_h5_table(path).values.shape[2] > 2
    except DataError:
        return False


def read_csv_table(path: Path, problems: list[str] | None = None) -> PoseTable:
    """Reads a csv table; the name of an image may be one cell, or one for each folder.

    Args:
        path: The file.
        problems: Collects one line for each broken row, which is then left out.

    Raises:
        DataError: If the file can't be used, or a row is broken and `problems` is None.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, csv.Error) as error:
        raise DataError(f"table {path} can't be read ({getattr(error, 'strerror', None) or error})") from None
    except UnicodeDecodeError:
        raise DataError(f"table {path} is not UTF-8; save it as UTF-8") from None
    header = [row for row in rows[:4] if row and row[0] in LEVELS]
    if not is_csv_table(path):
        raise DataError(f"table {path} does not begin with the rows {', '.join(LEVELS)}")
    width = len(header[0])
    names_width = next((n for n in range(1, width) if header[-1][n]), width)
    if any(len(row) != width for row in header) or names_width == width:
        raise DataError(f"table {path}: its header rows differ in length or have no column")
    levels = [dict(zip((row[0] for row in header), cells, strict=True)) for cells in zip(*header, strict=True)]
    columns = [(level.get("individuals"), level["bodyparts"], level["coords"]) for level in levels[names_width:]]
    names: list[str | int] = []
    values: list[list[float]] = []
    for number, row in enumerate(rows[len(header) :], start=len(header) + 1):
        if not any(row) or (number == len(header) + 1 and not any(row[names_width:]) and "." not in "".join(row)):
            continue  # an empty line, and the row with the names of the index
        try:
            if len(row) != width:
                raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {width}")
            numbers = [_number(cell, f"{path}: row {number}") for cell in row[names_width:]]
        except DataError as error:
            if problems is None:
                raise
            problems.append(str(error))
            continue
        names.append("/".join(cell for cell in row[:names_width] if cell))
        values.append(numbers)
    return _table(path, header[0][names_width], names, columns, np.array(values).reshape(len(names), len(columns)))


def read_h5_table(path: Path) -> PoseTable:
    """Reads a table that pandas wrote as h5, as DeepLabCut does.

    Raises:
        DataError: If the file holds no such table.
        ConfigError: If pandas or PyTables is not installed.
    """
    import_extra("tables", "formats", f"reading {path.name}")
    pandas = import_extra("pandas", "formats", f"reading {path.name}")
    try:
        frame = pandas.read_hdf(path)
        levels = [dict(zip(frame.columns.names, cells, strict=True)) for cells in frame.columns]
        columns = [(level.get("individuals"), level["bodyparts"], level["coords"]) for level in levels]
        values = frame.to_numpy(dtype=float)
    except Exception as error:  # PyTables and pandas raise many types
        raise DataError(f"{path} has no table of DeepLabCut ({first_line(error)}); use the csv beside it") from None
    names = ["/".join(map(str, name)) if isinstance(name, tuple) else name for name in frame.index]
    return _table(path, str(levels[0]["scorer"]), names, columns, values)


def write_csv_table(table: PoseTable, path: Path) -> None:
    """Writes a table as csv; values that are not known are empty cells.

    In a first row without any value they are `nan`: pandas takes an empty row below several header rows for the name of
    the index, and loses the frame.
    """
    values = table.values.reshape(len(table.names), -1)
    rows = [[name, *cells] for name, *cells in zip(table.levels, *table.header, strict=True)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(rows)
        for number, name in enumerate(_in_utf8(table.names)):
            unknown = "nan" if number == 0 and np.isnan(values[0]).all() else ""
            cells = (unknown if math.isnan(value) else repr(value) for value in values[number].tolist())
            writer.writerow([name, *cells])


def _in_utf8(names: Sequence[str | int]) -> list[str | int]:
    """The names of images in UTF-8; numbers of frames stay."""
    return [as_utf8(name) if isinstance(name, str) else name for name in names]


def write_h5_table(table: PoseTable, path: Path) -> None:
    """Writes a table as h5 with pandas, under DeepLabCut's key; names of images are split into folders, as it does.

    Raises:
        ConfigError: If pandas or PyTables is not installed.
    """
    import_extra("tables", "formats", f"writing {path.name}")
    pandas = import_extra("pandas", "formats", f"writing {path.name}")
    columns = pandas.MultiIndex.from_tuples(table.header, names=table.levels)
    values = table.values.reshape(len(table.names), -1)
    names = _in_utf8(table.names)
    parts = [str(name).split("/") for name in names]
    is_split = bool(parts) and len({len(p) for p in parts}) == 1 and len(parts[0]) > 1
    index = pandas.MultiIndex.from_tuples(map(tuple, parts)) if is_split else pandas.Index(names)
    frame = pandas.DataFrame(values, index=index, columns=columns)
    with replacing(path) as temporary:
        frame.to_hdf(temporary, key=H5_KEY, mode="w")


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell or "nan")
    except ValueError:
        value = math.inf
    if abs(value) > LARGEST_NUMBER:
        raise DataError(f"{where}: {cell[:40]!r} is not a usable number")
    return value


def _table(
    path: Path, scorer: str, names: list[Any], columns: list[tuple[Any, Any, Any]], cells: np.ndarray
) -> PoseTable:
    """The table of cells (R, C') with one column for each coordinate."""
    index = {column: n for n, column in enumerate(columns)}
    pairs: tuple[Column, ...] = tuple(dict.fromkeys((individual, joint) for individual, joint, _ in columns))
    if len(index) < len(columns) or not all((*pair, coord) in index for pair in pairs for coord in "xy"):
        raise DataError(f"table {path} needs one column x and one column y for each joint")
    coords = ["x", "y", *(["likelihood"] if all((*pair, "likelihood") in index for pair in pairs) else [])]
    order = [index[(*pair, coord)] for pair in pairs for coord in coords]
    return PoseTable(scorer, names, pairs, cells[:, order].reshape(len(names), len(pairs), len(coords)))
