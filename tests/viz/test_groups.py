"""Rows of groups are where their numbers say."""

import numpy as np
import pytest

from magface.errors import DataError
from magface.viz import style
from magface.viz.groups import Difference, Spread, forest, spreads
from magface.viz.style import PAPER

HOSTILE = "_a $x^2$ \\ \n\x1b[31m \ud800 \u202e 字"
SPREADS = {"male": Spread(70, 40, 75, 90), "female": Spread(60, 30, 65, 85), HOSTILE: Spread(0, 0, 0, 100)}


def rows(figure):
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def test_spreads_show_the_middle_the_median_and_the_mean():
    figure = spreads(SPREADS, {"retake": 35, "not accepted": 70}, "groups")
    [on] = figure.axes
    [bars] = on.collections
    np.testing.assert_array_equal(
        [segment[:, 0] for segment in bars.get_segments()], [[each.low, each.high] for each in SPREADS.values()]
    )
    medians, means, retake, accept = on.lines
    np.testing.assert_array_equal(medians.get_xydata(), [[75, 0], [65, 1], [0, 2]])
    np.testing.assert_array_equal(means.get_xydata(), [[70, 0], [60, 1], [0, 2]])
    assert [retake.get_xdata()[0], accept.get_xdata()[0]] == [35, 70]
    assert rows(figure)[:2] == ["male", "female"]
    assert on.get_ylim()[0] > on.get_ylim()[1]  # the first group is at the top
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == [
        "retake: below 35",
        "not accepted: below 70",
    ]


def test_forest_shows_each_comparison_with_its_interval(tmp_path):
    differences = {
        "as they are": [Difference(2, (1, 3)), Difference(-2, (-3, -1))],
        "adjusted": [Difference(0.5, (-0.5, 1.5)), Difference(-0.5, (-1.5, 0.5))],
    }
    figure = forest(["male", HOSTILE], differences, size=PAPER)
    [on] = figure.axes
    zero, *points = on.lines
    assert list(zero.get_xdata()) == [0, 0]
    for found, bars, each in zip(points, on.collections, differences.values(), strict=True):
        assert found.get_xdata().tolist() == [difference.value for difference in each]
        ends = [tuple(segment[:, 0]) for segment in bars.get_segments()]
        assert ends == [difference.interval for difference in each]
        np.testing.assert_array_equal(np.round(found.get_ydata()), [0, 1])
    assert (points[0].get_ydata() < points[1].get_ydata()).all()  # they do not lie over each other
    style.save(figure, tmp_path / "figure")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: spreads({}),
        lambda: spreads({"a": Spread(50, 60, 50, 70)}),
        lambda: spreads({"a": Spread(50, float("nan"), 50, 70)}),
        lambda: forest([], {"a": []}),
        lambda: forest(["a"], {}),
        lambda: forest(["a"], {"b": []}),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw):
    with pytest.raises(DataError):
        draw()
