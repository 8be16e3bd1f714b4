import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.crfiqa import CrFiqa, certainty_ratio

COSINE = st.floats(-1, 1)


def reference(ccs, nnccs):
    """The paper's ratio, in plain numbers."""
    return ccs / (nnccs + 1 + 1e-9)


def smooth_l1(difference, beta):
    return difference**2 / (2 * beta) if abs(difference) < beta else abs(difference) - beta / 2


def ratio(own, nearest):
    return certainty_ratio(*torch.tensor([[own], [nearest]], dtype=torch.float64)).item()


@given(COSINE, st.floats(0, 1))
def test_ratio_is_the_papers_where_a_stranger_is_within_a_right_angle(own, nearest):
    assert ratio(own, nearest) == pytest.approx(reference(own, nearest), abs=1e-8)


@given(COSINE, COSINE)
def test_ratio_cannot_blow_up(own, nearest):
    found = ratio(own, nearest)
    assert abs(found) <= abs(own)
    assert abs(found) <= abs(reference(own, nearest)) + 1e-8


@given(COSINE, COSINE, COSINE)
def test_ratio_rises_with_the_own_cosine_and_falls_with_the_nearest(own, nearest, other):
    low, high = sorted([own, other])
    assert ratio(low, nearest) <= ratio(high, nearest)
    low, high = sorted([nearest, other])
    if own >= 0:
        assert ratio(own, low) >= ratio(own, high)


def test_ratio_of_half_precision_is_computed_in_single():
    own, nearest = torch.tensor([[0.9], [0.3]], dtype=torch.bfloat16)
    assert certainty_ratio(own, nearest).dtype == torch.float32


@given(magnitude=st.floats(0, 60), target=st.floats(-1, 1), unit=st.floats(0.5, 40), beta=st.floats(0.1, 2))
def test_formula(magnitude, target, unit, beta):
    a, r = torch.tensor([[magnitude], [target]], dtype=torch.float64)
    expected = smooth_l1(magnitude / unit - target, beta)
    assert CrFiqa(unit, beta)(a, r).item() == pytest.approx(expected, abs=1e-12)


def test_gradient_is_that_of_the_formula_and_pulls_to_the_ratio():
    a = torch.tensor([2.0, 9.0, 11.0, 40.0], dtype=torch.float64, requires_grad=True)
    target = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    loss = CrFiqa(unit=20.0)
    loss(a, target).sum().backward()
    expected = [math.copysign(min(abs(d) / 0.5, 1), d) / 20 for d in (2 / 20 - 0.5, 9 / 20 - 0.5, 11 / 20 - 0.5, 1.5)]
    torch.testing.assert_close(a.grad, torch.tensor(expected, dtype=torch.float64))
    assert target.grad is None
    assert torch.autograd.gradcheck(lambda x: loss(x, target.detach()), a)


def test_defaults_are_the_papers():
    assert (CrFiqa().unit, CrFiqa().beta) == (1.0, 0.5)


@pytest.mark.parametrize(("options", "message"), [({"unit": 0}, "the unit must be above 0"), ({"beta": -1}, "beta")])
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        CrFiqa(**options)
