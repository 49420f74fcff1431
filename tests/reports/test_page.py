"""Rendering: text is escaped, empty parts leave no heading."""

import numpy as np

from semipose.reports.page import Page, Picture, Table, render
from semipose.reports.sheets import Sheet, SheetRow, Tile


def test_text_is_escaped():
    page = Page(
        "A <small> page", ["a & b"], [Table("T", ["<head>"], [["<entry>"]])], [Picture('"quoted"', "data:,")], []
    )
    html = render(page)
    for text in ("A &lt;small&gt; page", "a &amp; b", "&lt;head&gt;", "&lt;entry&gt;", 'alt="&#34;quoted&#34;"'):
        assert text in html


def test_page_without_charts():
    assert "<h2>" not in render(Page("Title", [], [], [], []))


def test_sheets_show_each_image_under_its_column():
    tiles = [Tile(np.zeros((40, 30, 3), np.uint8), f"caption {n}") for n in range(2)]
    sheet = Sheet("Title", "A text.", ["<first>", "second"], [SheetRow("row & label", tiles)])
    html = render(Page("T", [], [], [], [], [sheet]))
    assert html.count("data:image/jpeg") == 2
    for text in ("A text.", "<b>&lt;first&gt;</b>", "row &amp; label", "caption 1"):
        assert text in html
