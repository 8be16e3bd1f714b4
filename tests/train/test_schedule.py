import math

import numpy as np
import pytest

from magface.train.config import Optimization
from magface.train.schedule import learning_rate


def rates(steps_of_epoch=10, **settings):
    made = Optimization(epochs=10, learning_rate=2.0, **settings)
    return [learning_rate(step, steps_of_epoch, made) for step in range(10 * steps_of_epoch)]


@pytest.mark.parametrize("schedule", ["cosine", "polynomial"])
def test_rises_then_falls_to_nothing(schedule):
    found = rates(schedule=schedule)
    assert found[9] == found[10] == max(found) == 2.0
    assert found[:10] == sorted(found[:10])
    assert found[10:] == sorted(found[10:], reverse=True)
    assert 0 < found[-1] < 0.01


def test_polynomial_and_cosine_by_their_formulas():
    progress = np.arange(100) / 100
    np.testing.assert_allclose(rates(warmup=0.0, schedule="polynomial", power=3.0), 2 * (1 - progress) ** 3, rtol=1e-12)
    np.testing.assert_allclose(rates(warmup=0.0), [1 + math.cos(math.pi * p) for p in progress], rtol=1e-12)


def test_steps_of_the_paper():
    found = rates(schedule="steps", drops=(4, 7), warmup=0.0)
    assert found[:40] == [2.0] * 40
    assert found[40:70] == pytest.approx([0.2] * 30)
    assert found[70:] == pytest.approx([0.02] * 30)
