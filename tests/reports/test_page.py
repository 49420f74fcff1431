"""Rendering: text is escaped, empty parts leave no heading."""

from semipose.reports.page import Page, Picture, Table, render


def test_text_is_escaped():
    page = Page(
        "A <small> page", ["a & b"], [Table("T", ["<head>"], [["<entry>"]])], [Picture('"quoted"', "data:,")], []
    )
    html = render(page)
    for text in ("A &lt;small&gt; page", "a &amp; b", "&lt;head&gt;", "&lt;entry&gt;", 'alt="&#34;quoted&#34;"'):
        assert text in html


def test_page_without_charts():
    assert "<h2>" not in render(Page("Title", [], [], [], []))
