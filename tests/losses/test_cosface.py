import numpy as np
import pytest

from magface.losses.cosface import CosFace


@pytest.mark.parametrize(("m", "s"), [(0.35, 64.0), (0.2, 30.0), (0.0, 16.0)])
def test_formula(faces, m, s):
    expected = faces.cross_entropy(np.cos(faces.theta[faces.own]) - m, np.cos(faces.theta), s)
    assert faces.loss(CosFace(m, s)) == pytest.approx(expected, abs=1e-12)


def test_defaults_are_the_papers():
    assert (CosFace().m, CosFace().s) == (0.35, 64.0)


@pytest.mark.parametrize("m", [-0.1, 1.1, float("nan")])
def test_margin_out_of_range(m):
    with pytest.raises(ValueError, match=r"margin m must be 0 to 1, a difference of cosines, not"):
        CosFace(m)
