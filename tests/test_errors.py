"""The exceptions: one line each, lists of problems, missing images."""

import pickle

import pytest

from semipose.errors import (
    BrokenDataError,
    ConfigError,
    DataError,
    InputError,
    MissingImagesError,
    RunError,
    SemiposeError,
    WeightsError,
    collect_errors,
)


def test_every_exception_has_the_common_base():
    assert all(issubclass(cls, InputError) for cls in (DataError, ConfigError, WeightsError, BrokenDataError))
    assert issubclass(MissingImagesError, DataError)
    assert issubclass(RunError, SemiposeError)
    assert not issubclass(RunError, InputError)


def test_message_is_one_line_without_very_long_words():
    text = str(DataError(f"first\nsecond {'x' * 1000} third"))
    assert "\n" not in text
    assert len(text) < 200
    assert text.startswith("first second x")
    assert text.endswith("x third")


def test_listing_is_limited():
    error = BrokenDataError("30 problems", [f"problem {n}" for n in range(30)])
    assert error.listing(2) == ["problem 0", "problem 1", "… and 28 more"]
    assert len(error.listing(30)) == 30
    assert BrokenDataError("the only one", ["the only one"]).listing() == []


def test_missing_images_name_the_parameter():
    assert "`images`" in str(MissingImagesError("a.jpg", "labels.json"))
    assert "`data.val_images`" in str(MissingImagesError("a.jpg", "labels.json", "data.val_images"))


def test_collect_errors_appends_data_errors_only():
    problems: list[str] = []
    with collect_errors(problems):
        raise DataError("broken")
    assert problems == ["broken"]
    with pytest.raises(RunError), collect_errors(problems):
        raise RunError("stopped")


def test_collect_errors_raises_without_a_list():
    with pytest.raises(DataError, match="broken"), collect_errors(None):
        raise DataError("broken")


def test_errors_survive_pickling():
    for error in (
        ConfigError("no\nway"),
        BrokenDataError("two problems", ["one", "other"]),
        MissingImagesError("a.jpg", "labels.json", "data.images", "a folder is there"),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
