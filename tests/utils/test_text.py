"""Counts in words, and errors in a line."""

from semipose.utils.text import as_utf8, first_line, plural, some_of


def test_the_first_line_of_an_error():
    assert first_line(ValueError("\nno compiler\n at line 3")) == "no compiler"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("word " * 100))) <= 200


def test_one_is_singular_and_the_rest_plural():
    assert [plural(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [plural(n, "labeled person") for n in (1, 7)] == ["1 labeled person", "7 labeled persons"]


def test_names_in_words():
    assert [some_of(list("abcde")[:n]) for n in (0, 1, 2, 3, 5)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 2 more",
    ]
    assert some_of(["a", "b"], "or") == "a or b"


def test_bytes_that_are_not_utf8_are_escaped():
    assert as_utf8("Mäuse/caf\udce9 1.png") == r"Mäuse/caf\udce9 1.png"
