"""Figures of groups and of degradation show the numbers of the result."""

import numpy as np
import pytest

from magface.benchmarks.degradation import judged
from magface.benchmarks.result import Measure, Result
from magface.cli.figures import figures

FIELDS = {
    "mean score": 60,
    "score, percentile 10": 40,
    "score, percentile 50": 65,
    "score, percentile 90": 80,
}


def of(benchmark, measures):
    return dict(figures(Result(benchmark, "f00d", tuple(measures), {}), "title"))


def test_groups_have_their_scores_and_differences():
    measures = [Measure(f"all: {field}", value + 5) for field, value in FIELDS.items()]
    for shift, name in enumerate(["gender male", "gender female"]):
        measures += [Measure(f"{name}: {field}", value + shift) for field, value in FIELDS.items()]
        measures += [
            Measure(f"{name}: difference", 2.0 - shift, (1.0 - shift, 3.0 - shift)),
            Measure(f"{name}: difference, adjusted", 0.5, (0.0, 1.0)),
        ]
    found = of("groups", measures)
    assert list(found) == ["scores", "differences"]
    medians = found["scores"].axes[0].lines[0]
    assert medians.get_xdata().tolist() == [70, 65, 66]
    _, raw, adjusted = found["differences"].axes[0].lines
    assert raw.get_xdata().tolist() == [2, 1]
    assert adjusted.get_xdata().tolist() == [0.5, 0.5]


def test_degradation_has_the_orders_of_every_method():
    falling = np.tile(np.float32([3, 2, 1]), (4, 2, 1))
    kinds = ["blur", "noise"]
    found = of("degradation", [*judged(falling, kinds), *judged(-falling, kinds, "contrast: ")])
    [picture] = found["orders"].axes[0].images
    np.testing.assert_array_equal(np.asarray(picture.get_array()), [[-1, 1], [-1, 1], [-1, 1]])
    names = [text.get_text() for text in found["orders"].axes[0].get_yticklabels()]
    assert names == ["all", *kinds]


@pytest.mark.parametrize("benchmark", ["lfw", "edc"])
def test_others_have_none(benchmark):
    assert of(benchmark, [Measure("accuracy", 0.9)]) == {}
