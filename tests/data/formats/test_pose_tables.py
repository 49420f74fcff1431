"""DeepLabCut's tables: what is written is what pandas and this reader read."""

import importlib.util
import os

import numpy as np
import pytest

from semipose.data.formats.pose_tables import (
    PoseTable,
    is_csv_table,
    read_csv_table,
    read_h5_table,
    write_csv_table,
    write_h5_table,
)
from semipose.errors import ConfigError, DataError

HEAD = "scorer,a,a,a,a\nbodyparts,Nase,Nase,left ear,left ear\ncoords,x,y,x,y\n"
COLUMNS = (("m 1", "Nase"), ("m 1", "left ear"), ("Mäuse", "Nase"), ("Mäuse", "left ear"))


def needs(*modules: str):
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} not installed")


def table(columns=COLUMNS, dims=3, names=("a/b.png", "c.png")) -> PoseTable:
    values = np.random.default_rng(0).normal(size=(len(names), len(columns), dims)) * 100
    values[1, 2] = np.nan
    return PoseTable("Me, myself", names, columns, values)


@pytest.mark.parametrize("columns", [COLUMNS, tuple((None, j) for j in ("Nase", "left ear", "tail"))])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("suffix", [".csv", pytest.param(".h5", marks=needs("pandas", "tables"))])
def test_what_is_written_is_read(tmp_path, columns, dims, suffix):
    path, written = tmp_path / f"t{suffix}", table(columns, dims)
    (write_csv_table if suffix == ".csv" else write_h5_table)(written, path)
    again = (read_csv_table if suffix == ".csv" else read_h5_table)(path)
    assert (again.scorer, tuple(again.names), again.columns) == (written.scorer, written.names, columns)
    np.testing.assert_array_equal(again.values, written.values)


@pytest.mark.parametrize("suffix", [".csv", pytest.param(".h5", marks=needs("pandas", "tables"))])
@pytest.mark.parametrize("folder", ["", "v/"])
def test_names_that_are_not_utf8_are_escaped(tmp_path, suffix, folder):
    path, names = tmp_path / f"t{suffix}", [folder + os.fsdecode(b"caf\xe9.png"), f"{folder}b.png"]
    (write_csv_table if suffix == ".csv" else write_h5_table)(table(names=names), path)
    again = (read_csv_table if suffix == ".csv" else read_h5_table)(path)
    assert again.names == [rf"{folder}caf\udce9.png", f"{folder}b.png"]


@needs("pandas")
@pytest.mark.parametrize("columns", [COLUMNS, tuple((None, j) for j in ("Nase", "left ear", "tail"))])
@pytest.mark.parametrize("first_is_known", [True, False])
def test_pandas_reads_the_csv_as_that_of_deeplabcut(tmp_path, columns, first_is_known):
    import pandas

    written = table(columns, names=(0, 1))
    if not first_is_known:
        written.values[0] = np.nan
    write_csv_table(written, tmp_path / "t.csv")
    frame = pandas.read_csv(tmp_path / "t.csv", header=list(range(len(written.levels))), index_col=0)
    assert tuple(frame.columns.names) == written.levels
    assert list(frame.columns) == written.header
    assert list(frame.index) == [0, 1]
    np.testing.assert_array_equal(frame.to_numpy(), written.values.reshape(2, -1))


def test_names_in_several_cells_and_rows_without_content(tmp_path):
    path = tmp_path / "t.csv"
    lines = ["scorer,,,a,a", "bodyparts,,,Nase,Nase", "coords,,,x,y", ",,,,", "labeled-data,v,a.png,1,2", ""]
    path.write_text("\ufeff" + "\n".join([*lines, "labeled-data,v,b.png,,"]), encoding="utf-8")
    read = read_csv_table(path)
    assert read.names == ["labeled-data/v/a.png", "labeled-data/v/b.png"]
    np.testing.assert_array_equal(read.values, [[[1, 2]], [[np.nan] * 2]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("frame,x,y\n1,2,3\n", "does not begin"),
        (HEAD + "a.png,1,2,3\n", "row 4 has 4 cells"),
        (HEAD + "a.png,1,2,3,four\n", "row 4: 'four'"),
        (HEAD + "a.png,1,2,3,inf\n", "row 4: 'inf'"),
        ("scorer,a,a\nbodyparts,b,b\ncoords,x,likelihood\n", "one column y"),
        ("scorer,a,a,a\nbodyparts,b,b\ncoords,x,y\n", "differ in length"),
    ],
)
def test_broken_tables_are_errors(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_csv_table(path)


def test_broken_rows_are_collected(tmp_path):
    (tmp_path / "t.csv").write_text(HEAD + "a.png,1,2,3,four\nb.png,1,2,3,4\n")
    problems: list[str] = []
    assert read_csv_table(tmp_path / "t.csv", problems).names == ["b.png"]
    assert len(problems) == 1
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + "ä.png,1,2,3,4\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        read_csv_table(tmp_path / "latin.csv")


def test_other_files_are_no_tables(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n")
    assert not is_csv_table(tmp_path / "t.csv")
    assert not is_csv_table(tmp_path)
    assert not is_csv_table(tmp_path / "gone.csv")


def test_h5_without_its_package_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tables", None)
    with pytest.raises(ConfigError, match=r"writing t\.h5 needs .*'tables'.*semipose\[formats\]"):
        write_h5_table(table(), tmp_path / "t.h5")
    with pytest.raises(ConfigError, match=r"reading t\.h5 needs"):
        read_h5_table(tmp_path / "t.h5")


@needs("pandas", "tables")
def test_h5_of_something_else(tmp_path):
    (tmp_path / "t.h5").write_bytes(b"no table")
    with pytest.raises(DataError, match="has no table of DeepLabCut"):
        read_h5_table(tmp_path / "t.h5")
