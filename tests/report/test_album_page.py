"""The contact sheet: whole without network, harmless whatever people and files are called."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from magface.report import album, html
from magface.report import album_corrections as say

EVIL = "<script>alert(1)</script>\"'onload='x&amp;"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.data = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(" ".join(data.split()))


@pytest.fixture
def page(make, shoot, out):
    photos = {"a1": "ann 90", "a2": "ann 80", "a3": "ann 12", "b1": "bob 80", "b2": "bob 70", "c": "carl 60"}
    make(shoot(**photos, blur="dora 10", none="", torn="torn", **{EVIL.replace("/", "_"): "bob 75"}))
    album.correct(out, say.name("1", EVIL))
    return (out / "people.html").read_text()


def test_page_is_well_formed_and_asks_for_nothing_outside(page):
    parsed = Page(page)
    links = [value for _, name, value in parsed.attributes if name in ("src", "href", "action", "srcset")]
    assert all(link.startswith(("data:image/jpeg;base64,", "#", "people/")) for link in links)
    assert set(re.findall(r"url\(([^)]{5})", page)) == {"data:"}
    assert "default-src 'none'" in page
    assert "script" not in parsed.tags
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]


def test_everybody_is_on_it(page):
    data = Page(page).data
    assert EVIL in data
    assert "Person 2" in data
    assert "3 faces" in data
    for word in ("Seen once", "Too poor to tell", "Photos without a face", "torn.jpg"):
        assert word in data


def test_poor_faces_are_marked(page):
    assert page.count('class="poor"') == 1
    assert page.count('class="tile poor"') == 1
    assert "low quality" in page


def test_folders_are_linked_by_names_that_are_safe(page, out):
    links = [value for _, name, value in Page(page).attributes if name == "href" and value.startswith("people/")]
    assert len(links) == 2
    for link in links:
        assert (out / unquote(link)).is_dir()


def test_with_more_faces_than_fit_everybody_is_shown_first(make, shoot, out, monkeypatch):
    monkeypatch.setattr(html, "SHOWN", 4)
    make(shoot(**{f"{who}{n}": f"{who} {60 + n}" for who in ("ann", "bob", "carl") for n in range(3)}))
    page = (out / "people.html").read_text()
    assert "This page shows 4 of 9 faces" in " ".join(page.split())
    assert page.count("<article") == 3
    assert page.count("+1</li>") == 1
    assert page.count("+2</li>") == 2
