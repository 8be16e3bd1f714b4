"""Sets of faces that several forms of data are tried on."""

import io

import pytest
from PIL import Image

from magface.data.face_set import FaceSet, Held, Record


def picture(number, kind):
    stream = io.BytesIO()
    Image.new("RGB", (112, 112), (40 * number % 256, 100, 7 * number % 256)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="session")
def faces():
    """Seven crops of four people, with names, sources and suspicion that are hard to keep."""
    facts = [
        ("Zoë/1.jpg", "Zoë", "JPEG", "web", False),
        ("Zoë/2.png", "Zoë", "PNG", "", True),
        ("Ann Lee/a.b.c.webp", "Ann Lee", "WEBP", "a\tb", False),
        ("web/album/1.jpg", "../Bob", "JPEG", "fi\nlm", False),
        ("7", "", "PNG", "", False),
        ("ann lee/A.B.C.WEBP", "ann lee", "WEBP", '"quoted"', True),
        ("Ann Lee/a.b.c.jpg", "Ann Lee", "JPEG", "", False),
    ]
    return FaceSet.of(
        [
            Record(name, person, Held(picture(number, kind)), source, suspect)
            for number, (name, person, kind, source, suspect) in enumerate(facts)
        ]
    )


@pytest.fixture(scope="session")
def known():
    """What a set of faces knows, by name: bytes, person, source, suspicion."""

    def facts(faces):
        rows = enumerate(faces.records())
        return {each.name: (faces.encoded(row), each.person, each.source, each.suspect) for row, each in rows}

    return facts


@pytest.fixture
def stopped(faces):
    """The same set, whose fifth image stops the program when it is read."""

    class Stop:
        def read(self):
            raise KeyboardInterrupt

    records = list(faces.records())
    records[4] = Record("7", "", Stop())
    return FaceSet.of(records)
