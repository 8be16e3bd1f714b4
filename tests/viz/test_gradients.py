"""Panels show the slopes at their place, with one scale of colours, and the line of the best magnitudes."""

from io import BytesIO

import numpy as np
import pytest

from magface.errors import DataError
from magface.viz.gradients import gradient_scale, magnitude_slope
from magface.viz.style import PAGE, PAPER

COSINE, MAGNITUDE = np.linspace(0.9, -0.5, 15), np.linspace(10, 110, 11)


def field(factor):
    return factor * np.outer(MAGNITUDE / 110, 1 - COSINE)


@pytest.fixture(scope="module")
def figure():
    best = np.linspace(100, 20, 15)
    return gradient_scale(COSINE, MAGNITUDE, {"a": field(40), "b": field(10)}, {"b": best}, "two losses")


def meshes(figure):
    return [on.collections[0] for on in figure.axes if on.get_title("left")]


def test_every_panel_shows_its_slopes_on_one_scale(figure):
    first, second = meshes(figure)
    np.testing.assert_allclose(first.get_array(), field(40))
    np.testing.assert_allclose(second.get_array(), field(10))
    assert first.get_clim() == second.get_clim() == (0.0, 60.0)


def test_slopes_below_0_are_not_cut_off():
    [mesh] = meshes(gradient_scale(COSINE, MAGNITUDE, {"a": field(1) - 0.5}))
    assert mesh.get_clim()[0] == pytest.approx((field(1) - 0.5).min())


def test_contours_are_the_same_levels_in_all_panels_and_on_the_bar(figure):
    panels = [on for on in figure.axes if on.get_title("left")]
    first, second = ([*on.collections[1].levels] for on in panels)
    assert first == [10, 20, 30, 40, 50]
    assert second == [10]
    assert [*figure.axes[-1].get_yticks()] == [0, 10, 20, 30, 40, 50, 60]


def test_easy_faces_are_on_the_left_and_angles_above(figure):
    on = figure.axes[0]
    assert on.get_xlim() == (0.9, -0.5)
    assert on.get_ylim() == (10, 110)
    above = on.child_axes[0]
    assert [label.get_text() for label in above.get_xticklabels()] == ["45°", "60°", "75°", "90°", "105°", "120°"]
    np.testing.assert_allclose(above.get_xticks(), np.cos(np.radians([45, 60, 75, 90, 105, 120])))


def test_the_best_magnitude_is_a_line_where_there_is_one(figure):
    first, second = (on for on in figure.axes if on.get_title("left"))
    assert not first.lines
    np.testing.assert_allclose(second.lines[0].get_xydata(), np.stack([COSINE, np.linspace(100, 20, 15)], 1))
    [text] = figure.legends[0].get_texts()
    assert "loss of such a face is least" in text.get_text()


def test_slopes_of_the_magnitude_are_white_at_0():
    figure = magnitude_slope(COSINE, MAGNITUDE, {"a": field(1) - 0.2})
    [mesh] = meshes(figure)
    assert mesh.get_clim() == pytest.approx((-(1.5 - 0.2), 1.5 - 0.2))
    assert mesh.cmap(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.01)
    assert not figure.legends


@pytest.mark.parametrize(
    ("draw", "size", "count"), [(gradient_scale, PAGE, 1), (magnitude_slope, PAPER, 3), (gradient_scale, PAPER, 9)]
)
def test_any_number_and_constant_slopes_are_drawn(draw, size, count):
    values = {f"_$x^2$ {i}": np.zeros((11, 15)) for i in range(count)}
    figure = draw(COSINE, MAGNITUDE, values, size=size)
    assert [on.get_title("left") for on in figure.axes[:count]] == [*values]
    figure.savefig(BytesIO(), dpi=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((COSINE, MAGNITUDE, {}), "1 to 9 losses; it was given 0"),
        ((COSINE, MAGNITUDE, {str(i): field(1) for i in range(10)}), "it was given 10"),
        ((COSINE[:1], MAGNITUDE, {"a": field(1)[:, :1]}), "at least two cosines"),
        ((COSINE, MAGNITUDE, {"a": field(1).T}), "11 magnitudes by 15 cosines"),
        ((COSINE, MAGNITUDE, {"a": field(np.nan)}), "must be finite"),
        ((COSINE, MAGNITUDE, {"a": field(1)}, {"a": MAGNITUDE}), "a magnitude for each of 15 cosines"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments, message):
    with pytest.raises(DataError, match=message):
        gradient_scale(*arguments)
