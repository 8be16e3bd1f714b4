"""Figures show the rates that the data can tell, at their place, and files come out whole and the same each time."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm
from sklearn.metrics import roc_curve

from magface.benchmarks.result import Curve
from magface.errors import DataError
from magface.metrics import verification
from magface.viz import curves, style
from magface.viz.curves import Cmc, cmc, det, roc
from magface.viz.style import PAGE, PAPER

HOSTILE = "_a $x^2$ \\ \n\x1b[31m \ud800 \u202e 字 " + "w" * 300


def curve_of(genuine, impostor):
    found = verification.roc(genuine, impostor)
    return Curve(tuple(found.fmr), tuple(found.tar), len(genuine), len(impostor))


def normal(genuine, impostor, distance, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(distance, 1, genuine), rng.normal(0, 1, impostor)


@pytest.fixture(scope="module")
def scores():
    return normal(300, 400, 3)


@pytest.fixture(scope="module")
def five():
    return {f"model {distance}": curve_of(*normal(200, 300, distance)) for distance in (1, 2, 3, 4, 5)}


def solid(figure):
    """The lines of the results: those in steps."""
    return [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]


def marks(figure):
    return [line.get_xydata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def drawn_at(line, x):
    """Height of a line in steps at x."""
    return line.get_ydata()[np.searchsorted(line.get_xdata(), x, side="right") - 1]


def test_roc_is_that_of_the_scores_at_every_rate(scores):
    genuine, impostor = scores
    [line] = solid(roc({"a": curve_of(genuine, impostor)}))
    for accepted in [*range(1, 20), *range(20, len(impostor) + 1, 20)]:
        rate = accepted / len(impostor)
        expected = max(np.mean(genuine >= t) for t in [*impostor, *genuine] if np.mean(impostor >= t) <= rate)
        assert drawn_at(line, rate + 1e-9) == pytest.approx(expected)


def test_det_is_that_of_scikit_learn_where_both_rates_are_of_an_error(scores):
    genuine, impostor = scores
    [line] = solid(det({"a": curve_of(genuine, impostor)}))
    labels = np.repeat([1, 0], [len(genuine), len(impostor)])
    fmr, tar, _ = roc_curve(labels, np.concatenate(scores), drop_intermediate=False)
    inside = (fmr > 0) & (tar < 1)
    for x in np.unique(fmr[inside]):
        assert drawn_at(line, x + 1e-9) == pytest.approx(max(1 / len(genuine), (1 - tar[fmr <= x + 1e-12]).min()))
    assert line.get_xdata().min() == pytest.approx(1 / len(impostor))
    assert line.get_ydata().min() >= 1 / len(genuine) - 1e-12


def test_axes_of_det_are_normal_deviates(scores):
    axes = det({"a": curve_of(*scores)}).axes[0]
    rates = np.array([0.001, 0.01, 0.05, 0.1, 0.5])
    for axis in (axes.xaxis, axes.yaxis):
        transform = axis.get_transform()
        np.testing.assert_allclose(transform.transform(rates), norm.ppf(rates), rtol=1e-9)
        np.testing.assert_allclose(transform.inverted().transform(transform.transform(rates)), rates, rtol=1e-9)


def test_ticks_of_det_are_percent(scores):
    figure = det({"a": curve_of(*scores)})
    figure.draw_without_rendering()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        for place, text in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True):
            assert float(text.get_text()) == pytest.approx(100 * place)


def test_marks_are_the_equal_error_rate(five):
    for name, each in five.items():
        genuine, impostor = normal(200, 300, int(name[-1]))
        equal = verification.eer(genuine, impostor)
        measurable = equal >= 1 / each.impostor
        np.testing.assert_allclose(marks(roc({name: each})), [[equal, 1 - equal]] * measurable)
        measurable &= equal >= 1 / each.genuine
        np.testing.assert_allclose(marks(det({name: each})), [[equal, equal]] * measurable)
    assert measurable or name == "model 5"


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.sampled_from([PAPER, PAGE]),
)
def test_any_scores_give_figures_in_which_nothing_is_finer_than_the_data(genuine, impostor, size):
    curve = curve_of(genuine, impostor)
    [line] = solid(roc({"a": curve}, "few", size))
    assert line.get_xdata()[0] >= 1 / len(impostor)
    figure = det({"a": curve}, "few", size)
    [line] = solid(figure)
    assert all(line.get_xdata() >= 1 / len(impostor))
    assert all(line.get_ydata() >= (1 - 1e-9) / len(genuine))
    worst = 1 - max(t for f, t in zip(curve.fmr, curve.tar, strict=True) if f <= 1.5 / len(impostor))
    assert ("no error to draw" in texts(figure)[0]) == (worst < 1e-9)


def test_what_is_finer_than_the_data_is_shaded():
    few, many = curve_of(*normal(90, 50, 3)), curve_of(*normal(90, 5000, 3))
    axes = det({"few": few, "many": many}).axes[0]
    [left, below] = [patch.get_bbox() for patch in axes.patches]
    assert (left.x0, left.x1) == (1e-4, 1 / 5000)
    assert (below.y0, below.y1) == (1e-2, 1 / 90)
    first, second = solid(roc({"few": few, "many": many}))
    assert first.get_xdata()[0] == pytest.approx(1 / 50)
    assert second.get_xdata()[0] == pytest.approx(1 / 5000)


def test_thousands_of_millions_of_comparisons_reach_to_the_finest_rate():
    levels = np.geomspace(1 / 15_639_006, 1, 500)
    levels[-1] = 1
    curve = Curve((0.0, *levels), (0.1, *(1 - 0.5 * (1 - levels) ** 9)), 19_557, 15_639_006)
    axes = roc({"IJB-C": curve}, size=PAPER).axes[0]
    assert axes.get_xlim() == (1e-8, 1)
    assert axes.get_ylim()[0] == 0
    assert texts(roc({"IJB-C": curve}))[0] == "IJB-C"
    assert roc({"IJB-C": curve}).legends[0].get_title().get_text() == "19,557 genuine, 15,639,006 impostor pairs"


def test_legend_says_what_is_behind_each_curve_where_that_differs(five):
    assert texts(roc(five))[:5] == list(five)
    assert roc(five).legends[0].get_title().get_text() == "200 genuine, 300 impostor pairs"
    both = {"a": five["model 1"], "b": curve_of([1.0], [0.0])}
    assert texts(roc(both))[:2] == ["a: 200 genuine, 300 impostor", "b: 1 genuine, 1 impostor"]
    assert roc(both).legends[0].get_title().get_text() == ""


def test_lines_differ_in_colour_and_dashes(five):
    looks = [style.line(number, PAGE) for number in range(style.LINES)]
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == style.LINES
    lines = solid(roc(five))
    assert len({line.get_color() for line in lines}) == 5
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 5


@pytest.mark.parametrize("size", [PAPER, PAGE], ids=["paper", "page"])
@pytest.mark.parametrize("plot", [roc, det])
def test_nothing_overlaps_and_nothing_leaves_the_figure(plot, size, five):
    names = ["MagFace iResNet100", HOSTILE, "W" * 60, "magface-sface with 8-bit integers", "x"]
    figure = plot(dict(zip(names, five.values(), strict=True)), HOSTILE, size)
    with style.look():
        figure.draw_without_rendering()
        figure.draw_without_rendering()
        page, axes = figure.bbox, figure.axes[0]
        legend = figure.legends[0].get_window_extent()
        for box in (legend, axes.get_tightbbox(), axes.title.get_window_extent()):
            assert page.x0 - 1 <= box.x0
            assert box.x1 <= page.x1 + 1
            assert page.y0 - 1 <= box.y0
            assert box.y1 <= page.y1 + 1
        assert legend.y1 <= axes.get_tightbbox().y0
        for axis, low, high in ((axes.xaxis, "x0", "x1"), (axes.yaxis, "y0", "y1")):
            boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
            assert len(boxes) >= 3
            for one, other in pairwise(boxes):
                assert getattr(one, high) < getattr(other, low)
        assert axes.get_window_extent().height > 0.4 * size.width * size.dpi


def test_cmc_shows_the_rates_at_their_ranks():
    figure = cmc({"a": Cmc((0.5, 0.75, 1.0), 4, 3), "b": Cmc((0.5,), 2, 9)}, "ranks")
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [[1, 0.5], [2, 0.75], [3, 1.0]])
    assert texts(figure) == ["a: 4 probes, gallery of 3", "b: 2 probes, gallery of 9"]
    assert figure.axes[0].get_xscale() == "linear"
    assert cmc({"a": Cmc((0.5,) * 1000, 4, 1000)}).axes[0].get_xscale() == "log"


def test_files_are_whole_and_the_same_each_time(five, tmp_path):
    paths = [style.save(roc(five, "title"), tmp_path / name) for name in ("v1.0", "v1.1")]
    (png, svg), (again_png, again_svg) = paths
    assert (png.name, svg.name) == ("v1.0.png", "v1.0.svg")
    assert png.read_bytes() == again_png.read_bytes()
    assert svg.read_bytes() == again_svg.read_bytes()
    with Image.open(png) as image:
        assert image.width == 1200
    assert b"<dc:date>" not in svg.read_bytes()
    assert ET.fromstring(svg.read_bytes()).tag.endswith("svg")
    assert len(list(tmp_path.iterdir())) == 4


def test_a_figure_does_not_depend_on_the_settings_of_the_user(five, tmp_path):
    [plain, _] = style.save(det(five), tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red", "text.color": "red"}):
        before = dict(matplotlib.rcParams)
        [again, _] = style.save(det(five), tmp_path / "again")
        assert dict(matplotlib.rcParams) == before
    assert plain.read_bytes() == again.read_bytes()


def test_figures_need_no_screen_and_leave_no_state():
    code = """
import sys
from magface.viz.curves import Cmc, cmc
cmc({"a": Cmc((1.0,), 1, 1)})
print("matplotlib.pyplot" in sys.modules, "magface.embedder" in sys.modules, "cv2" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]


def test_a_figure_that_cannot_be_written_leaves_what_was_there(five, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="file"):
        style.save(roc(five), tmp_path / "file" / "roc")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_any_name_is_text(five, tmp_path):
    figure = roc({HOSTILE: five["model 3"], "": five["model 2"], "$": five["model 1"]}, HOSTILE, PAPER)
    style.save(figure, tmp_path / "roc")
    shown = texts(figure)[0].replace("\n", "")
    assert shown.startswith("_a $x^2$")
    assert "\\x1b[31m" in shown
    assert shown.endswith("w\u2026")


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (Curve((0.0, 1.0), (0.0,), 1, 1), "2 false match and 1 true accept"),
        (Curve((0.0, 1.0), (0.0, 1.0), 0, 1), "no comparisons"),
        (Curve((0.0, 1.0), (0.0, 1.0), 1, 0), "no comparisons"),
        (Curve((), (), 1, 1), "rise within 0 and 1"),
        (Curve((0.5, 0.2), (0.0, 1.0), 1, 1), "rise within 0 and 1"),
        (Curve((0.0, 1.5), (0.0, 1.0), 1, 1), "rise within 0 and 1"),
        (Curve((0.0, float("nan")), (0.0, 1.0), 1, 1), "rise within 0 and 1"),
    ],
)
def test_what_is_no_curve_is_refused_by_name(curve, reason):
    for plot in (roc, det):
        with pytest.raises(DataError, match=f"'bad' .*{reason}"):
            plot({"bad": curve})


def test_a_figure_holds_as_many_curves_as_can_be_told_apart():
    with pytest.raises(DataError, match="1 to 35 curves; it was given 0"):
        roc({})
    with pytest.raises(DataError, match="it was given 36"):
        cmc({str(number): Cmc((1.0,), 1, 1) for number in range(36)})


def test_curves_that_are_cut_short_still_draw():
    short = Curve((0.1, 0.2), (0.95, 0.96), 100, 100)
    assert solid(roc({"a": short}))[0].get_xdata()[0] == 0.1
    assert marks(roc({"a": short})) == []
    assert curves._equal_error(Curve((0.0, 0.1), (0.0, 0.2), 10, 10)) != 0
