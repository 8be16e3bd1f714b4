"""Photos of one colour, and a detector that does to a photo what its colour says."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

DETECTOR = """
import os, signal, time
import numpy as np
from magface import align
from magface.types import Face

KILL, RAISE, NOBODY, TWO, PARENT, SLOW = 13, 14, 15, 16, 17, 18

def once():
    try:
        os.close(os.open(__file__ + ".done", os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False

class Own:
    name = "own"

    def detect(self, images):
        [image] = images
        colour = int(image[0, 0, 0])
        if colour == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if colour == RAISE:
            raise RuntimeError("no such landmark")
        if colour == PARENT and once():
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        if colour == SLOW:
            time.sleep(0.1)
        face = Face(np.float32([0, 0, 112, 112]), align.TEMPLATE, 0.5)
        return [[face] * {NOBODY: 0, TWO: 2}.get(colour, 1)]

detector = Own
"""


@pytest.fixture(scope="session")
def colours():
    """What the detector does at which colour."""
    return SimpleNamespace(kill=13, fail=14, nobody=15, two=16, parent=17, slow=18)


@pytest.fixture
def detector(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(DETECTOR)
    return path


@pytest.fixture(scope="session")
def write_photos():
    """Writes photos `000.png`, ... of these colours into a folder."""

    def write(folder, colours):
        folder.mkdir(exist_ok=True)
        for number, colour in enumerate(colours):
            image = np.full((112, 112, 3), colour, np.uint8)
            image[40:80, 30:90] = (number * 37) % 256
            Image.fromarray(image).save(folder / f"{number:03}.png")
        return folder

    return write
