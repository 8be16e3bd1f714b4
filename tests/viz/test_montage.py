"""What is in a montage, and where."""

import numpy as np
import pytest

from magface.errors import DataError
from magface.viz import style
from magface.viz.montage import MOST, montage


def faces(count):
    return [np.full((112, 112, 3), shade, np.uint8) for shade in range(count)]


def test_every_face_is_there_in_reading_order_with_its_label_under_it():
    figure = montage(faces(5), ["a", "b", "c", "d", "e"], "five", columns=3)
    [on] = figure.axes
    assert [text.get_text() for text in on.texts] == ["a", "b", "c", "d", "e"]
    assert [int(image.get_array()[0, 0, 0]) for image in on.images] == [0, 1, 2, 3, 4]
    for image, text in zip(on.images, on.texts, strict=True):
        left, right, bottom, top = image.get_extent()
        assert left < text.get_position()[0] < right
        assert top < bottom <= text.get_position()[1]  # downwards
    corners = [(image.get_extent()[0], image.get_extent()[3]) for image in on.images]
    assert corners == sorted(corners, key=lambda corner: corner[::-1])
    assert len({top for _, top in corners}) == 2
    assert on.get_title(loc="left") == "five"


def test_rows_make_it_higher_and_each_face_is_a_square():
    one, three = montage(faces(4), list("abcd"), columns=4), montage(faces(12), list("abcdefghijkl"), columns=4)
    assert three.get_figheight() > 2 * one.get_figheight()
    left, right, bottom, top = one.axes[0].images[0].get_extent()
    assert right - left == pytest.approx(bottom - top)


def test_labels_are_text_and_a_long_one_is_cut():
    figure = montage(faces(2), ["$x_1$\n", "w" * 500])
    first, second = (text.get_text() for text in figure.axes[0].texts)
    assert first == r"$x_1$\n"
    assert len(second) < 40


def test_it_can_be_saved(tmp_path):
    png, svg = style.save(montage(faces(3), ["", "$", "3"]), tmp_path / "montage")
    assert png.stat().st_size > 0
    assert svg.stat().st_size > 0


@pytest.mark.parametrize(("count", "labels", "columns"), [(0, 0, 8), (MOST + 1, MOST + 1, 8), (2, 3, 8), (2, 2, 0)])
def test_nonsense_is_refused(count, labels, columns):
    with pytest.raises(DataError, match="a montage needs"):
        montage(faces(1) * count, ["x"] * labels, columns=columns)
