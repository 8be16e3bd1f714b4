"""The same gallery over every store: memory, SQLite (plain, encrypted, half precision, approximate) and Milvus."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from magface.gallery import Gallery, open_gallery
from magface.gallery.records import Entry, Settings
from magface.models import card as cards
from magface.models import default
from magface.models.card import Comparison, ScoreThreshold, Threshold

SIZE = 64
NEEDS = {"encrypted": "sqlcipher3", "approximate": "faiss", "milvus": "milvus_lite"}
SETTINGS = {"half": Settings(precision="f16"), "approximate": Settings(index="approximate")}
BACKENDS = ("memory", "sqlite", "encrypted", "half", "approximate", "milvus")


def load_memory():
    spec = importlib.util.spec_from_file_location("memory", Path(__file__).with_name("memory.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MemoryStore


MemoryStore = load_memory()


class Place:
    """Where a gallery of some kind is; every gallery that was opened is closed in the end.

    Attributes:
        kind: one of `BACKENDS`.
        exact: whether its index has the precision of the vectors and misses nobody.
    """

    def __init__(self, kind, folder, card):
        if kind in NEEDS:
            pytest.importorskip(NEEDS[kind])
        self.kind, self.card, self.exact = kind, card, kind not in ("half", "approximate")
        self._key = "correct horse" if kind == "encrypted" else ""
        self._store = MemoryStore(card)
        self.uri = f"milvus:{folder / 'faces'}" if kind == "milvus" else str(folder / "faces.db")
        self._opened = []

    def create(self, card=None, **settings):
        """An empty gallery, of the settings of the kind unless others are given."""
        card = card or self.card
        settings = dataclasses.replace(SETTINGS.get(self.kind, Settings()), **settings)
        if self.kind == "memory":
            self._store = MemoryStore(card, settings)
            return Gallery(self._store)
        return self._keep(open_gallery(self.uri, card, create=True, settings=settings, key=self._key))

    def open(self, card=None):
        """Another handle on the gallery."""
        return Gallery(self._store) if self.kind == "memory" else self._keep(self.other(card))

    def other(self, card=None):
        """As `open`; the caller closes it."""
        return open_gallery(self.uri, card, key=self._key)

    def _keep(self, gallery):
        self._opened.append(gallery)
        return gallery

    def close(self):
        while self._opened:
            self._opened.pop().close()


@pytest.fixture(scope="session")
def card():
    """Of a model of 64 numbers, whose thresholds are those of random directions, which are nearly normal."""
    model, _ = cards.read(default.path())
    rates = {1e-2: 2.3263, 1e-3: 3.0902, 1e-4: 3.7190}
    score = Comparison(0.3, 0.5, tuple(ScoreThreshold(rate, 0.8 * z - 3, 1000) for rate, z in rates.items()))
    return dataclasses.replace(
        model,
        embedding_size=SIZE,
        thresholds=tuple(Threshold(rate, z / SIZE**0.5, 1000) for rate, z in rates.items()),
        comparison=score,
        sha256="a" * 64,
    )


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(scope="session")
def make_place(card):
    """Makes a place of a kind in a folder; the caller closes it."""
    return lambda kind, folder: Place(kind, folder, card)


@pytest.fixture
def place(backend, make_place, tmp_path):
    found = make_place(backend, tmp_path)
    yield found
    found.close()


@pytest.fixture(scope="session")
def memory_store():
    return MemoryStore


@pytest.fixture
def gallery(place):
    return place.create()


@pytest.fixture
def in_memory(card):
    return Gallery(MemoryStore(card))


@pytest.fixture(scope="session")
def crowd():
    """Makes faces of people: `(entries, centres)`, `each` faces of each of `count` people, named `person 0`, ..."""

    def make(count, each=3, seed=0, noise=0.6, score=90.0, name="person {}"):
        rng = np.random.default_rng(seed)
        centres = rng.normal(0, 1.5, (count, SIZE)).astype(np.float32)
        vectors = centres[:, None] + rng.normal(0, noise * 1.5, (count, each, SIZE)).astype(np.float32)
        entries = [
            Entry(name.format(person), vectors[person, face], score, f"{seed}/{person}/{face}.jpg", time=1e9)
            for person in range(count)
            for face in range(each)
        ]
        return entries, centres

    return make
