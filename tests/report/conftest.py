"""An album without a network: photos are lists of who is on them, and a stand-in reads them."""

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from magface.models import card as cards
from magface.models import default
from magface.recognizer import Photo, RecognizedFace
from magface.report import album
from magface.types import Face


class Reader:
    """Reads photos of lines `WHO SCORE`, a face each, from left to right; `WHO` ends in letters that vary the face."""

    def __init__(self, model="m", threshold=0.5):
        card = cards.read(default.path())[0]
        self.card = dataclasses.replace(card, cluster_threshold=threshold)
        self.embedder = SimpleNamespace(fingerprint=model)
        self.detector = SimpleNamespace(name="lines")
        self.read = []

    def stream(self, paths):
        for path in paths:
            self.read.append(Path(path).name)
            try:
                text = Path(path).read_text()
            except OSError as error:
                yield Photo(path, error=f"cannot read {path} ({error.strerror}).")
                continue
            if text == "torn":
                yield Photo(path, error=f"{path} is damaged.")
            else:
                yield Photo(
                    path, tuple(self._face(place, *line.split()) for place, line in enumerate(text.splitlines()))
                )

    def _face(self, place, who, score):
        draw = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{who} {score} {place}".encode()).digest()[:8]))
        person, _, look = who.partition("-")
        base = np.random.default_rng(int.from_bytes(hashlib.sha256(person.encode()).digest()[:8])).normal(size=128)
        vector = base / np.linalg.norm(base) + (0.3 + bool(look)) * draw.normal(size=128) / np.sqrt(128)
        magnitude = 3 + float(score) / 8
        vector *= magnitude / np.linalg.norm(vector)
        noise = draw.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        box = np.array([50 * place, 10, 50 * place + 40, 60], np.float32)
        found = Face(box, np.zeros((5, 2), np.float32), 0.9)
        return RecognizedFace(found, noise, noise, vector.astype(np.float32), magnitude, float(score), 50.0)


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def another_reader():
    return Reader


@pytest.fixture
def shoot(tmp_path):
    """Writes photos: `shoot(a="ann 80", b=["ann 80", "bob 70"])`; gives their paths."""

    def write(**photos):
        (tmp_path / "photos").mkdir(exist_ok=True)
        for name, lines in photos.items():
            text = lines if isinstance(lines, str) else "\n".join(lines)
            (tmp_path / "photos" / f"{name}.jpg").write_text(text)
        return sorted((tmp_path / "photos").iterdir())

    return write


@pytest.fixture
def out(tmp_path):
    return tmp_path / "album"


@pytest.fixture
def make(reader, out):
    """Makes the album of photos."""
    return lambda paths=(), **options: album.make(
        reader, paths, out, album.Wishes(**{k: options.pop(k) for k in list(options) if k in WISHES}), **options
    )


WISHES = ("threshold", "algorithm", "min_score", "photos")
