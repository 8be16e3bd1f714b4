"""Figures of error versus discard show the steps, the bands and the areas that they are given."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magface.benchmarks.result import Discard
from magface.errors import DataError
from magface.metrics import quality as q
from magface.viz import style
from magface.viz.discard import edc, grouped
from magface.viz.style import PAGE, PAPER

HOSTILE = "_a $x^2$ \\ \n\x1b[31m \ud800 " + "w" * 300


def curve(errors, start="FMR 0.001, cosine >= 0.3000", band=(), kind="FNMR"):
    shares = np.arange(len(errors)) / len(errors)
    return Discard(tuple(shares.tolist()), tuple(errors), band, kind, start, 1234)


FALLING = curve([0.4, 0.3, 0.3, 0.1, 0.0])
BEST = curve([0.4, 0.2, 0.0, 0.0, 0.0])


def steps(figure):
    return [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def heading(figure):
    return figure.legends[0].get_title().get_text()


def test_curves_are_steps_and_the_best_order_is_dashed_and_grey():
    figure = edc({"ideal": BEST, "magnitude": FALLING}, "title")
    own, best = steps(figure)
    np.testing.assert_allclose(own.get_xdata(), [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(own.get_ydata(), [0.4, 0.3, 0.3, 0.1, 0, 0])
    np.testing.assert_allclose(best.get_ydata()[:5], BEST.error)
    assert (best.get_color(), best.get_linestyle()) == (style.SOFT, "--")
    assert own.get_color() == style.COLORS[0]
    assert figure.axes[0].get_title(loc="left") == "title"


def test_the_random_order_stays_where_each_curve_starts():
    other = curve([0.2, 0.1], start="FMR 0.01")
    flat = [line for line in edc({"a": FALLING, "b": other}).axes[0].lines if line.get_drawstyle() == "default"]
    assert sorted(line.get_ydata()[0] for line in flat) == [0.2, 0.4]
    assert all(len(set(line.get_ydata())) == 1 and line.get_linestyle() == ":" for line in flat)
    assert texts(edc({"a": FALLING}))[-1] == "random order"


@given(st.lists(st.integers(0, 1000).map(lambda thousandths: thousandths / 1000), min_size=1, max_size=30))
@settings(max_examples=20)
def test_the_legend_gives_the_area(errors):
    found = curve(errors)
    area = q.pauc(q.Curve(np.array(found.discarded), np.array(found.error)), 0.2)
    [text, _] = texts(edc({"a": found}))
    assert text.replace("\n", " ").startswith(f"a, pAUC to 20 %: {area:.3g}")
    if errors[0]:
        assert f"({100 * area / errors[0]:.3g} % of random)" in text.replace("\n", " ")


def test_threshold_and_counts_are_over_the_legend_or_at_each_curve():
    assert heading(edc({"a": FALLING})) == "1,234 genuine pairs, threshold at FMR 0.001, cosine >= 0.3000"
    both = edc({"a": FALLING, "b": curve([0.4, 0.3], start="FMR 0.01")}, size=PAGE)
    assert heading(both) == ""
    assert texts(both)[1].replace("\n", " ").endswith("; 1,234 genuine pairs, threshold at FMR 0.01")


def test_bands_are_areas_in_steps():
    ends = ((0.3, 0.5), (0.2, 0.4), (0.2, 0.4), (0.0, 0.2), (0.0, 0.1))
    figure = edc({"a": curve(FALLING.error, band=ends)})
    [area] = figure.axes[0].collections
    points = area.get_paths()[0].vertices
    for (low, high), share in zip(ends[:-1], np.arange(4) / 5, strict=True):
        inside = (points[:, 0] >= share - 1e-9) & (points[:, 0] <= share + 0.2 + 1e-9)
        assert {low, high} <= set(points[inside, 1].tolist())
    assert figure.axes[0].get_ylim()[1] > 0.5
    banded = curve(FALLING.error, band=ends)
    for count in (3, 4):  # more could not be told apart
        figure = edc({str(number): banded for number in range(count)})
        assert len(figure.axes[0].collections) == (count if count == 3 else 0)


def test_false_matches_have_their_own_axis():
    figure = edc({"a": curve([0.1, 0.2], kind="FMR")})
    assert figure.axes[0].get_ylabel() == "False match rate (%)"
    assert heading(figure).startswith("1,234 impostor pairs")
    with pytest.raises(DataError, match="curves of one kind"):
        edc({"a": FALLING, "b": curve([0.1], kind="FMR")})


def test_axes_are_percent_of_what_is_shown():
    figure = edc({"a": curve([0.002, 0.001])})
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_xlim() == (0, 0.5)
    assert axes.get_ylim()[0] == 0
    assert 0.002 < axes.get_ylim()[1] < 0.003
    for axis in (axes.xaxis, axes.yaxis):
        for place, text in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True):
            assert float(text.get_text()) == pytest.approx(100 * place, abs=1e-9)


def test_curves_without_errors_draw_too():
    figure = edc({"a": curve([0.0, 0.0])})
    assert texts(figure)[0] == "a, pAUC to 20 %: 0"


def test_groups_are_of_one_kind_and_threshold():
    names = [
        f"{name}{kind} at FMR {rate}"
        for rate in ("0.001", "0.01")
        for kind in ("", ", false matches")
        for name in ("ideal", "magnitude")
    ]
    some = {
        name: curve([0.1], f"FMR {name.rpartition(' ')[2]}, cosine >= 0.3", kind="FMR" if "false" in name else "FNMR")
        for name in names
    }
    found = grouped(some)
    assert list(found) == ["edc", "edc-false-matches", "edc-fmr-0.01", "edc-false-matches-fmr-0.01"]
    assert all(list(each) == ["ideal", "magnitude"] for each in found.values())
    assert grouped({}) == {}
    assert list(grouped({"a": curve([0.1], "../../x")})) == ["edc"]


@pytest.mark.parametrize("size", [PAPER, PAGE], ids=["paper", "page"])
def test_nothing_leaves_the_figure(size, tmp_path):
    names = ["magnitude", HOSTILE, "W" * 60, "ideal"]
    figure = edc(dict(zip(names, itertools.repeat(FALLING))), HOSTILE, size)
    with style.look():
        figure.draw_without_rendering()
        figure.draw_without_rendering()
        page, axes, legend = figure.bbox, figure.axes[0], figure.legends[0].get_window_extent()
        for box in (legend, axes.get_tightbbox(), axes.title.get_window_extent()):
            assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1
            assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1
        assert legend.y1 <= axes.get_tightbbox().y0
    style.save(figure, tmp_path / "edc")
    style.write(figure, tmp_path / "edc.pdf")
    first = (tmp_path / "edc.pdf").read_bytes()
    style.write(figure, tmp_path / "edc.pdf")
    assert (tmp_path / "edc.pdf").read_bytes() == first
    assert first.startswith(b"%PDF")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Discard((), ()), "rise from 0"),
        (Discard((0.1,), (0.1,)), "rise from 0"),
        (Discard((0.0, 0.0), (0.1, 0.1)), "rise from 0"),
        (Discard((0.0, 1.0), (0.1, 0.1)), "rise from 0"),
        (Discard((0.0,), (0.1, 0.1)), "an error rate of each"),
        (Discard((0.0,), (1.1,)), "an error rate of each"),
        (Discard((0.0,), (float("nan"),)), "an error rate of each"),
        (Discard((0.0,), (0.1,), ((0.1, 1.2),)), "of the band"),
        (Discard((0.0, 0.5), (0.1, 0.1), ((0.1, 0.2),)), "of the band"),
        (Discard((0.0,), (0.1,), kind="EER"), "must be of FNMR or FMR"),
    ],
)
def test_what_is_no_curve_is_refused_by_name(bad, reason):
    with pytest.raises(DataError, match=f"'bad' .*{reason}"):
        edc({"bad": bad})


def test_a_figure_holds_as_many_curves_as_can_be_told_apart():
    with pytest.raises(DataError, match="1 to 35 curves"):
        edc({})
    with pytest.raises(DataError, match="it was given 36"):
        edc({str(number): FALLING for number in range(36)})
