"""The demonstration: what it writes is readable, and its quality visibly falls."""

import subprocess
import sys
from pathlib import Path

import pytest

from magface import Recognizer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo photos")
    script = ROOT / "examples" / "demo_photos.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    photos = Recognizer().stream(sorted(folder.iterdir()))
    return {photo.path.stem: [face.score for face in photo.faces] for photo in photos}


def test_the_portrait_is_the_best(scores):
    [best] = scores["original"]
    assert all(score < best for name, found in scores.items() if name != "original" for score in found)


@pytest.mark.parametrize("series", ["blur_slight blur_strong", "small_2x small_4x small_6x", "jpeg_10 jpeg_4"])
def test_more_damage_is_a_lower_score(scores, series):
    found = [scores[name][0] for name in ("original", *series.split())]
    assert found == sorted(found, reverse=True)
