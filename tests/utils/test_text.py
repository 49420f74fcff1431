"""Counts in words."""

from semipose.utils.text import plural


def test_one_is_singular_and_the_rest_plural():
    assert [plural(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [plural(n, "labeled person") for n in (1, 7)] == ["1 labeled person", "7 labeled persons"]
