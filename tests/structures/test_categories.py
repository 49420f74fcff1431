"""A category is read as itself, or as several categories of the file together."""

from semipose.structures.categories import PERSON, Category


def test_parts_are_the_members_or_the_category_itself():
    cat, dog = Category(17, "cat"), Category(18, "dog")
    assert Category(17, "cat, dog", (cat, dog)).parts == (cat, dog)
    assert cat.parts == (cat,)
    assert (PERSON.id, PERSON.name, PERSON.parts) == (1, "person", (PERSON,))
