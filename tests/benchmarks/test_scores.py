import numpy as np
import pytest

from magface.benchmarks.scores import curve, rates


def test_rates_tell_what_is_not_measurable():
    found = {each.name: each for each in rates(np.float32([0.2, 0.9]), np.arange(100, dtype=np.float32) / 200)}
    assert found["TAR@FMR=0.01"].value == found["TAR@FMR=0.1"].value == 0.5
    assert found["TAR@FMR=0.001"].value is None
    assert found["TAR@FMR=0.001"].note == "FMR 0.001 needs at least 1,000 impostor comparisons; there are 100."
    assert found["AUC"].value == pytest.approx((0.405 + 1) / 2)


def test_a_curve_says_what_is_behind_it():
    found = curve(np.array([0.9, 0.4]), np.array([0.4, 0.1, 0.2]))
    assert (found.genuine, found.impostor) == (2, 3)
    assert (found.fmr[0], found.tar[0], found.fmr[-1], found.tar[-1]) == (0, 0, 1, 1)
