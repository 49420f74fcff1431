"""Rendering: text is escaped, empty parts leave no heading."""

import numpy as np

from semipose.reports.page import Answer, Page, Picture, Table, render
from semipose.reports.sheets import Sheet, SheetRow, Tile


def test_text_is_escaped():
    page = Page("A <small> page", ["a & b"], [Table("T", ["<head>"], [["<entry>"]])], [Picture('"quoted"', "data:,")])
    html = render(page)
    for text in ("A &lt;small&gt; page", "a &amp; b", "&lt;head&gt;", "&lt;entry&gt;", 'alt="&#34;quoted&#34;"'):
        assert text in html


def test_page_without_charts():
    assert "<h2>" not in render(Page("Title", [], [], []))


def test_the_answer_opens_the_page_and_the_options_end_it():
    page = Page(
        "Title",
        ["a line"],
        [Table("Scores", ["network"], [["teacher"]], "what it means")],
        [Picture("a chart", "data:,")],
        answers=[Answer("12.3 px", "is the error")],
        suggestions=["Try `train.steps=2` & <more>"],
        details=["the protocol"],
        settings=[Table("Options", ["option"], [["lr"]])],
    )
    html = render(page).partition("<h1>")[2]
    order = ("12.3 px", "a line", "Try <code>train.steps=2</code> &amp; &lt;more&gt;", "what it means", "a chart")
    places = [html.index(text) for text in (*order, "the protocol", "Options")]
    assert places == sorted(places)


def test_nothing_is_loaded_from_elsewhere():
    html = render(Page("Title", [], [], [Picture("a chart", "data:,")]))
    assert "http" not in html
    assert 'addEventListener("click"' in html  # a click enlarges an image


def test_sheets_show_each_image_under_its_column():
    tiles = [Tile(np.zeros((40, 30, 3), np.uint8), f"caption {n}") for n in range(2)]
    sheet = Sheet("Title", "A text.", ["<first>", "second"], [SheetRow("row & label", tiles)], {"nose": (1, 20, 255)})
    html = render(Page("T", [], [], [], [sheet]))
    assert html.count("data:image/jpeg") == 2
    for text in ("A text.", "<b>&lt;first&gt;</b>", "row &amp; label", "caption 1", "rgb(1, 20, 255)"):
        assert text in html
