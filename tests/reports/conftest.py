"""A finished run, and a parser that checks a report while it reads it."""

import base64
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from semipose.config import load_config
from semipose.trainer import train


class ParsedPage(HTMLParser):
    """Addresses and text of a page whose tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.texts = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.images += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if "href" in values else []
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture
def parse():
    """Reads a report; its images can be decoded and nothing is loaded from elsewhere."""

    def parsed(path):
        page = ParsedPage(path.read_text(encoding="utf-8"))
        assert all(address.startswith("data:") for address in page.images + page.links)
        for address in page.images:
            content = base64.b64decode(address.partition("base64,")[2])
            if address.startswith("data:image/jpeg"):
                image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
                assert min(image.shape[:2]) >= 16
            else:
                assert b"</svg>" in content
                assert b'href="http' not in content
        return page

    return parsed


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, tiny_run):
    """The folder of a run that no test changes."""
    folder = tmp_path_factory.mktemp("report") / "run"
    train(load_config(None, {**tiny_run, "data.labels": 30, "data.validation": 12, "method": "trs"}), folder)
    return folder
