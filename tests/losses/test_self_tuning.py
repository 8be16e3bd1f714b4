import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magface.losses.magface import MagFace, lambda_g_lower_bound
from magface.losses.self_tuning import RATE, REACH, SelfTuning

PAPER = (10.0, 110.0, 0.45, 0.8)
FORMS = ["hyperbolic", "quadratic"]


def shown(loss, magnitudes):
    a = torch.as_tensor(magnitudes, dtype=torch.float32)
    loss.target(torch.full_like(a, 0.5), a)
    return loss


@pytest.mark.parametrize("form", FORMS)
def test_before_training_it_is_magface(form):
    rng = np.random.default_rng(0)
    cosine, a = torch.from_numpy(rng.uniform(-1, 1, 100)), torch.from_numpy(rng.uniform(1, 200, 100))
    fixed = MagFace(*PAPER, lambda_g=35, s=30.0, regularizer=form, easy_margin=False, clamp="both")
    tuned = SelfTuning(*PAPER, lambda_g=35, s=30.0, regularizer=form, easy_margin=False, clamp="both").eval()
    torch.testing.assert_close(tuned.target(cosine, a), fixed.target(cosine, a), rtol=0, atol=1e-6)
    torch.testing.assert_close(tuned.penalty(a), fixed.penalty(a), rtol=1e-6, atol=0)
    torch.testing.assert_close(tuned.margin(a), fixed.margin(a), rtol=0, atol=1e-6)
    assert torch.equal(tuned.scale(a), fixed.scale(a))


@settings(max_examples=50, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.floats(0, 2**20, width=32) | st.sampled_from([0.0, math.inf, math.nan]), max_size=6), max_size=30
    ),
    bounds=st.sampled_from([PAPER, (1.0, 51.0, 0.45, 1.0), (5.0, 6.0, 0.0, 1.5)]),
    form=st.sampled_from(FORMS),
    headroom=st.floats(1, 10),
)
def test_whatever_comes_the_range_is_sound(batches, bounds, form, headroom):
    first = lambda_g_lower_bound(*bounds, 64.0, form)
    loss = SelfTuning(*bounds, lambda_g=first * headroom, regularizer=form)
    before = loss.log_range.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in batches:
            shown(loss, batch)
            l_a, u_a = loss.l_a, loss.u_a
            assert (loss.log_range - before).abs().max() <= RATE + 1e-6
            before = loss.log_range.clone()
            assert 0 < l_a < u_a
            assert 1 / REACH - 1e-5 <= l_a / bounds[0] <= REACH + 1e-5
            assert 1 / REACH - 1e-5 <= u_a / bounds[1] <= REACH + 1e-5
            ends = torch.tensor([l_a, u_a], dtype=torch.float64, requires_grad=True)
            (slope,) = torch.autograd.grad(loss.penalty(ends).sum(), ends)
            steepest = 64.0 * (bounds[3] - bounds[2]) / (u_a - l_a)  # of the identity loss, at any angle
            assert slope[0] <= -steepest * (1 - 1e-6)
            assert slope[1] == pytest.approx(0, abs=1e-6 * steepest)
            assert loss.log_percentiles.isfinite().all()


@pytest.mark.parametrize("extreme", [0.0, 1e6])
def test_extremes_move_an_end_no_further_than_its_reach(extreme):
    loss = SelfTuning(*PAPER)
    for _ in range(2000):
        shown(loss, [extreme] * 4)
    factor = REACH if extreme else 1 / REACH
    assert (loss.l_a, loss.u_a) == pytest.approx((10 * factor, 110 * factor), rel=1e-4)


def test_only_finite_batches_of_training_move_the_range():
    loss = SelfTuning(*PAPER)
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    shown(loss, [math.nan, 20.0])
    shown(loss, [math.inf, 20.0])
    shown(loss, [])
    loss.penalty(torch.tensor([20.0]))
    loss.negatives(torch.zeros(1, 2), torch.zeros(1))
    shown(loss.eval(), [20.0, 30.0])
    assert all(torch.equal(value, state[name]) for name, value in loss.state_dict().items())
    shown(loss.train(), [20.0, 30.0])
    assert not torch.equal(loss.log_range, state["log_range"])


def test_state_comes_back():
    loss, other = SelfTuning(*PAPER), SelfTuning(*PAPER)
    for _ in range(50):
        shown(loss, [15.0, 25.0])
    other.load_state_dict(loss.state_dict())
    assert (other.l_a, other.u_a, other.lambda_g) == (loss.l_a, loss.u_a, loss.lambda_g)
    assert shown(other, [15.0]).l_a == shown(loss, [15.0]).l_a


def test_order_of_the_gathered_batch_does_not_matter():
    one, other = SelfTuning(*PAPER), SelfTuning(*PAPER)
    a = np.random.default_rng(0).uniform(5, 50, 64)
    assert shown(one, a).u_a == shown(other, a[::-1].copy()).u_a


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_of_a_face_changes_little_in_a_step(form):
    loss, headroom = SelfTuning(*PAPER, regularizer=form), 1.55
    loss.headroom = headroom
    a, cosine = torch.linspace(5, 150, 50), torch.linspace(-0.5, 0.9, 50)

    def value():
        return -64 * loss.now.target(cosine, a) + loss.penalty(a)

    for _ in range(20):
        before = value()
        shown(loss, [500.0] * 8)
        assert (value() - before).abs().max() < 0.1  # of about 64


def optimum(theta, loss, a):
    """One step of the search for the magnitude at which the loss is flat, by formula: (1 - p) sin(theta + m)."""
    now = loss.now
    l_a, u_a, l_m, u_m = now.l_a, now.u_a, now.l_m, now.u_m
    m = l_m + (u_m - l_m) * np.clip((a - l_a) / (u_a - l_a), 0, 1)
    other = 1 / (1 + np.exp(64 * np.cos(theta + m) - math.log(85_741)))
    pull = np.clip(other * np.sin(theta + m) / loss.headroom, 0, 1)
    if loss.form == "quadratic":
        return (1 - pull) * u_a + pull * l_a
    return ((1 - pull) / u_a**2 + pull / l_a**2) ** -0.5


def followed(start, form, magnitude, *, headroom=1.55, steps=5000, lag=0.05, bounds=PAPER):
    """Range at every step when magnitudes follow their optimum with a lag."""
    loss = SelfTuning(*bounds, lambda_g=headroom * lambda_g_lower_bound(*bounds, 64.0, form), regularizer=form)
    theta = np.radians(np.random.default_rng(0).normal(38, 8, 64).clip(5, 42))  # theta + m below 90 degrees
    loss.log_range.copy_(torch.tensor(start).log())
    a = np.full(len(theta), float(magnitude))
    ranges = []
    for _ in range(steps):
        a = a ** (1 - lag) * optimum(theta, loss, a) ** lag
        shown(loss, a)
        ranges.append(loss.log_range.tolist())
    return np.exp(ranges)


@pytest.mark.parametrize("form", FORMS)
def test_a_population_that_follows_the_range_brings_it_to_rest_at_one_place(form):
    one = followed((10.0, 110.0), form, 20.0)
    other = followed((29.0, 300.0), form, 1000.0)
    assert one[-1] == pytest.approx(one[-1000], rel=1e-4)
    assert one[-1] == pytest.approx(other[-1], rel=1e-3)
    assert (np.abs(np.log(one[-1] / PAPER[:2])) < 0.95 * np.log(REACH)).all()  # at rest by itself, not held back
    scaled = followed((1.0, 11.0), form, 2.0, bounds=(1.0, 11.0, 0.45, 0.8), steps=3000)
    assert scaled[-1] * 10 == pytest.approx(one[2999], rel=1e-3)


def test_a_range_that_follows_all_the_way_does_not_come_to_rest(monkeypatch):
    monkeypatch.setattr("magface.losses.self_tuning.FOLLOW", 1.0)
    monkeypatch.setattr("magface.losses.self_tuning.REACH", 1e6)
    ranges = followed((10.0, 110.0), "hyperbolic", 20.0, steps=3000)
    assert ranges[-1][1] > 2 * ranges[-1000][1]


def test_settings_that_cannot_be_tuned():
    with pytest.raises(ValueError, match="use MagFace"):
        SelfTuning(10, 110, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"below its lower bound 22\.587"):
        SelfTuning(*PAPER, lambda_g=20)
    with pytest.raises(ValueError, match="l_a < u_a"):
        SelfTuning(110, 10, 0.45, 0.8)
