"""The page: whole without network, harmless whatever files are called, and readable without a script."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from magface.models import card as cards
from magface.models import default
from magface.recognizer import Photo, RecognizedFace
from magface.report import html
from magface.report.results import Results, write_faces
from magface.types import Face

EVIL = "<script>alert(1)</script>\"'onload='x&amp;.jpg"


class Page(HTMLParser):
    VOID = ("meta", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.data = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data)


def face(score, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    found = Face(np.array([1, 2, 30, 40], np.float32), np.zeros((5, 2), np.float32), 0.9)
    return RecognizedFace(found, noise, noise, np.ones(128, np.float32), score / 4, score, score / 2)


@pytest.fixture(scope="module")
def card():
    return cards.read(default.path())[0]


def page_of(folder, photos, people, card):
    with Results(folder / "out", "m", "yunet", 128) as results:
        for photo in photos:
            results.add(photo)
        table = results.merge([photo.path for photo in photos])
    faces = write_faces(folder / "out" / "faces.parquet", table, np.array(people))
    return html.render(table, faces, card, results.crops)


@pytest.fixture
def page(tmp_path, card):
    photos = [
        Photo(tmp_path / "a" / "one.jpg", (face(90, 1), face(12, 2))),
        Photo(tmp_path / "b" / EVIL.replace("/", "_"), (face(50, 3),)),
        Photo(tmp_path / "empty <b>.jpg"),
        Photo(tmp_path / "torn.jpg", error="torn.jpg is <i>damaged</i>."),
    ]
    return page_of(tmp_path, photos, [1, 2, 1], card)


def test_page_is_well_formed_and_asks_for_nothing_outside(page):
    parsed = Page(page)
    links = [value for _, name, value in parsed.attributes if name in ("src", "href", "action", "srcset")]
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    assert set(re.findall(r"url\(([^)]{5})", page)) == {"data:"}
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_names_of_files_cannot_inject(page):
    parsed = Page(page)
    assert parsed.tags.count("script") == 1
    assert "<i>damaged" not in page
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
    assert "<script>alert" not in page
    assert "empty &lt;b&gt;.jpg" in page


def test_everything_is_said(page, card):
    text = " ".join(" ".join(Page(page).data).split())
    for said in ("4 photos", "3 faces", "Person 1", "2 faces", "one.jpg", "torn.jpg is <i>damaged</i>.", card.name):
        words = said.split()
        assert all(word in text for word in words)
    assert card.licence in text
    assert "biometric" in text
    assert f"{card.threshold(1e-3).cosine:.3f}" in text


def test_faces_are_sorted_by_quality_in_bands(page):
    quality = page[page.index('id="quality"') :]
    quality = quality[: quality.index("<script>")]
    assert re.findall(r'class="score (\w+)">(\d+)<', quality) == [("strong", "90"), ("fair", "50"), ("weak", "12")]


def test_only_short_bands_are_open(tmp_path, card, monkeypatch):
    monkeypatch.setattr(html, "_OPEN", 1)
    photos = [Photo(tmp_path / "x.jpg", tuple(face(score, score) for score in (90, 50, 60)))]
    text = page_of(tmp_path, photos, [1, 2, 3], card)
    assert re.findall(r'class="band" (open)?>', text) == ["open", ""]


@pytest.mark.parametrize(
    ("percentile", "words"), [(0, "lowest 1 %"), (0.99, "lowest 1 %"), (1, "> 1 %"), (73.9, "> 73 %"), (100, "> 99 %")]
)
def test_no_face_is_better_than_all_or_than_none(percentile, words):
    tile = html._Tile(0, "a.jpg", 1, 1, 5.0, 50, percentile, "a.jpg")
    assert tile.rank.replace("\u202f", " ") == words


@pytest.mark.parametrize(("best", "doubted"), [(12, True), (60, False)])
def test_a_person_of_weak_pictures_is_doubted(tmp_path, card, best, doubted):
    photos = [Photo(tmp_path / "x.jpg", (face(best, 1), face(3, 2)))]
    text = page_of(tmp_path, photos, [1, 1], card)
    assert ("perhaps not one person" in text) == doubted


def test_every_picture_has_words(page):
    parsed = Page(page)
    pictures = page.count('role="img"') + parsed.tags.count("img")
    words = [value for _, name, value in parsed.attributes if name in ("aria-label", "alt") and "Face " in value]
    assert pictures == len(words) > 0
    assert "Face 2 in a/one.jpg, score 12" in words


def test_no_faces_still_make_a_page(tmp_path, card):
    text = page_of(tmp_path, [Photo(tmp_path / "x.jpg")], np.empty(0, np.int64), card)
    assert Page(text).tags.count("script") == 0
    assert "x.jpg" in text


def test_large_result_shows_the_best_of_each_person_first(tmp_path, card, monkeypatch):
    monkeypatch.setattr(html, "SHOWN", 3)
    photos = [Photo(tmp_path / "x.jpg", tuple(face(score, score) for score in (90, 80, 70, 60, 30)))]
    text = page_of(tmp_path, photos, [1, 1, 1, 1, 2], card)
    assert "shows 3 of 5 faces" in " ".join(text.split())
    shown = set(re.findall(r"Face (\d) in", text))
    assert shown == {"1", "2", "5"}
    assert "+2" in text


def test_a_lost_crop_leaves_its_place_empty(tmp_path, card):
    photos = [Photo(tmp_path / "x.jpg", (face(70, 1),))]
    with Results(tmp_path / "out", "m", "yunet", 128) as results:
        results.add(photos[0])
        table = results.merge([photos[0].path])
    faces = write_faces(tmp_path / "out" / "faces.parquet", table, np.array([1]))
    next(results.crops.iterdir()).unlink()
    assert "data:image" not in html.render(table, faces, card, results.crops)
