"""What methods say is kept under what made it, and taken from there."""

import numpy as np
import pytest

from magface.benchmarks.faces import embed
from magface.benchmarks.methods import Image, Magnitude
from magface.benchmarks.qualities import judge
from magface.data import features, image_folder
from magface.errors import DataError
from magface.types import Embeddings


class Counting:
    """Mean colour, and how often it was asked."""

    name = "mean colour"

    def __init__(self):
        self.seen = 0

    def __call__(self, crops):
        means = [crop.mean() for crop in crops]
        self.seen += len(means)
        return np.array(means, np.float32)


@pytest.fixture
def faces(album_of_crops):
    return image_folder.read(album_of_crops)


class Bar:
    def __init__(self):
        self.expected, self.done = 0, 0

    def expect(self, images):
        self.expected += images

    def __call__(self, images):
        self.done += images


def test_scores_are_made_once_and_are_those_of_the_images(embedder, faces, tmp_path):
    method, bar = Counting(), Bar()
    found = judge([method, Image("contrast")], embedder, faces, tmp_path, bar)
    again = judge([method, Image("contrast")], embedder, faces, tmp_path, bar)
    crops = [faces.read(row) for row in range(len(faces))]
    np.testing.assert_array_equal(found["mean colour"], np.array([crop.mean() for crop in crops], np.float32))
    np.testing.assert_array_equal(found["contrast"], Image("contrast")(crops))
    assert found.keys() == again.keys() == {"mean colour", "contrast"}
    assert all((found[name] == again[name]).all() for name in found)
    assert method.seen == len(faces)
    assert bar.expected == bar.done == 4 * len(faces)
    judge([method], embedder, faces[np.arange(3)], tmp_path)
    assert method.seen == len(faces) + 3


def test_magnitudes_are_those_of_the_embeddings(embedder, faces, tmp_path):
    _, embeddings = embed(embedder, faces, tmp_path)
    found = judge([Magnitude(embedder, "other")], embedder, faces, tmp_path)
    np.testing.assert_array_equal(found["other"], embeddings.magnitude)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("change", ["names", "columns", "bytes"])
def test_a_cache_that_was_changed_is_refused(embedder, faces, tmp_path, change):
    judge([Counting()], embedder, faces, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    scores = np.ones((len(faces), 2 if change == "columns" else 1), np.float32)
    if change == "bytes":
        file.write_bytes(file.read_bytes()[:50])
    else:
        features.write(file, faces.names[::-1] if change == "names" else faces.names, Embeddings(scores))
    with pytest.raises(DataError, match=r"damaged|delete it"):
        judge([Counting()], embedder, faces, tmp_path)


def test_a_cache_that_cannot_be_written_is_said(embedder, faces, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another cache"):
        judge([Counting()], embedder, faces, tmp_path / "file")
