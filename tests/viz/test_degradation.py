"""Strips, curves and orders show the numbers they were given, each in its place."""

import numpy as np
import pytest

from magface.errors import DataError
from magface.viz import style
from magface.viz.degradation import curves, orders, strip
from magface.viz.style import PAPER

HOSTILE = "_a $x^2$ \\ \n\x1b[31m \ud800 \u202e 字"


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 255, (2, 3, 16, 16, 3), np.uint8)


def test_a_strip_has_each_face_over_its_score(images, tmp_path):
    scores = np.array([[90.4, 50.5, 3], [91, 20, 0]])
    figure = strip(images, scores, ["blur", HOSTILE], [0, 0.5, 1], "worse")
    [on] = figure.axes
    assert len(on.images) == 6
    for number, (shown, text) in enumerate(zip(on.images, on.texts, strict=True)):
        row, column = divmod(number, 3)
        np.testing.assert_array_equal(shown.get_array(), images[row, column])
        left, right, bottom, top = shown.get_extent()
        assert left < text.get_position()[0] < right
        assert top < bottom <= text.get_position()[1]  # the axis goes down
        assert text.get_text() == f"{scores[row, column]:.0f}"
    assert [text.get_text() for text in on.get_xticklabels()] == ["0%", "50%", "100%"]
    assert on.get_yticklabels()[0].get_text() == "blur"
    style.save(figure, tmp_path / "figure")


def test_curves_are_means_over_the_middle_of_the_faces(tmp_path):
    rng = np.random.default_rng(0)
    scores = {"a": rng.uniform(0, 100, (50, 5, 4)), "b": rng.uniform(0, 100, (20, 5, 4))}
    kinds, strengths = ["blur", "noise", "JPEG", "crop", HOSTILE], [0, 0.25, 0.5, 1]
    figure = curves(scores, kinds, strengths, "five", PAPER)
    shown = [on for on in figure.axes if on.get_visible()]
    assert len(shown) == 5
    for kind, on in enumerate(shown):
        for line, band, each in zip(on.lines, on.collections, scores.values(), strict=True):
            np.testing.assert_allclose(line.get_xdata(), strengths)
            np.testing.assert_allclose(line.get_ydata(), each[:, kind].mean(0))
            low, high = np.percentile(each[:, kind], [10, 90], axis=0)
            outline = band.get_paths()[0].vertices
            for x, bottom, top in zip(strengths, low, high, strict=True):
                heights = outline[outline[:, 0] == x, 1]
                assert (heights.min(), heights.max()) == pytest.approx((bottom, top))
    assert [on.get_title("left") for on in shown[:4]] == kinds[:4]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a, 50 faces", "b, 20 faces"]
    style.save(figure, tmp_path / "figure")


def test_orders_are_numbers_on_their_colours(tmp_path):
    values = np.array([[-1, 0.256, np.nan], [1, -0.004, 0]])
    figure = orders(values, ["magnitude", HOSTILE], ["blur", "noise", "JPEG"], "orders")
    [on] = figure.axes
    [picture] = on.images
    np.testing.assert_array_equal(np.ma.filled(picture.get_array(), np.nan), values.T)
    assert picture.get_clim() == (-1, 1)
    written = {text.get_position(): text.get_text() for text in on.texts}
    assert written[0, 0] == "−1.00"
    assert written[0, 1] == "0.26"
    assert written[0, 2] == "–"
    assert written[1, 0] == "1.00"
    assert [text.get_text() for text in on.get_yticklabels()] == ["blur", "noise", "JPEG"]
    best, worst = picture.cmap(picture.norm(-1.0)), picture.cmap(picture.norm(1.0))
    assert best[2] > best[0]  # blue where it falls
    assert worst[0] > worst[2]
    style.save(figure, tmp_path / "figure")


def test_what_cannot_be_drawn_is_refused(images):
    for wrong in (
        lambda: strip(images, np.zeros((2, 2)), ["a", "b"], [0, 1]),
        lambda: strip(images[..., :1], np.zeros((2, 3)), ["a", "b"], [0, 0.5, 1]),
        lambda: strip(images[:0], np.zeros((0, 3)), [], [0, 0.5, 1]),
        lambda: curves({}, ["a"], [0, 1]),
        lambda: curves({"a": np.zeros((3, 2, 2))}, ["a"], [0, 1]),
        lambda: curves({"a": np.zeros((0, 1, 2))}, ["a"], [0, 1]),
        lambda: orders([[1.0]], ["a", "b"], ["c"]),
        lambda: orders(np.zeros((0, 1)), [], ["c"]),
    ):
        with pytest.raises(DataError):
            wrong()
