import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.errors import DataError
from magface.losses.magface import MagFace, lambda_g_lower_bound
from magface.losses.self_tuning import SelfTuning
from magface.train.tuning import propose

FORMS = ["hyperbolic", "quadratic"]


def magnitudes(low, high, count=4000):
    """Most between `low` and `high`, evenly on the log scale."""
    return np.geomspace(low, high, count).astype(np.float32)


def test_magnitudes_of_the_papers_range_give_nearly_the_papers_setting():
    found = propose(magnitudes(10, 110))
    assert (found.l_a, found.u_a) == pytest.approx((10, 110), rel=0.2)
    assert (found.l_m, found.u_m) == (0.45, 0.8)
    bound = lambda_g_lower_bound(found.l_a, found.u_a, found.l_m, found.u_m)
    assert found.lambda_g / bound == pytest.approx(35 / 22.5867, rel=1e-3)


def test_magnitudes_near_1_give_nearly_the_authors_tip():
    found = propose(1 + np.random.default_rng(0).normal(0, 0.05, 5000).astype(np.float32))
    assert found.options == pytest.approx({"l_a": 1, "u_a": 51, "l_m": 0.45, "u_m": 1, "lambda_g": 5}, rel=0.25)


def test_the_range_holds_sface_with_room_on_both_sides():
    found = propose(magnitudes(5, 15))
    assert 1.5 < found.l_a < 4
    assert 20 < found.u_a < 40
    assert found.lambda_g > lambda_g_lower_bound(found.l_a, found.u_a, found.l_m, found.u_m)


@pytest.mark.parametrize("s", [16.0, 64.0])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("high", [1.3, 4.0, 30.0])
@pytest.mark.parametrize("k", [1e-3, 7.0, 400.0])
def test_all_magnitudes_k_times_as_large_give_the_same_loss(s, form, high, k):
    a = torch.from_numpy(np.linspace(0.3, 1.5 * high, 200))
    one, other = propose(magnitudes(1, high), s, form), propose(k * magnitudes(1, high), s, form)
    assert (other.l_a, other.u_a) == pytest.approx((k * one.l_a, k * one.u_a), rel=1e-5)
    assert other.lambda_g == pytest.approx(one.lambda_g * (k if form == "hyperbolic" else 1), rel=1e-5)
    loss, scaled = (MagFace(**p.options, s=s, regularizer=form) for p in (one, other))
    cosine = torch.full_like(a, 0.6)
    torch.testing.assert_close(loss.target(cosine, a), scaled.target(cosine, k * a), rtol=0, atol=1e-5)
    torch.testing.assert_close(loss.penalty(a), scaled.penalty(k * a), rtol=1e-4, atol=1e-6)


@given(
    values=st.lists(st.floats(2**-10, 2**10, width=32), min_size=2, max_size=50).filter(
        lambda v: max(v) > 1.1 * min(v)
    ),
    form=st.sampled_from(FORMS),
    s=st.sampled_from([10.0, 64.0]),
)
def test_a_proposal_always_makes_a_sound_loss(values, form, s):
    found = propose(np.array(values, np.float32), s, form)
    low, high = np.percentile(values, [1, 99])
    assert found.l_a < low < high < found.u_a
    assert found.u_a / found.l_a >= 11 * (1 - 1e-6)
    MagFace(**found.options, s=s, regularizer=form)  # a weight below the bound would warn
    SelfTuning(**found.options, s=s, regularizer=form)


def test_a_few_wrong_images_change_little():
    clean = magnitudes(5, 15)
    spoilt = np.concatenate([clean, [1e-3] * 10, [1e5] * 10])
    assert propose(spoilt).options == pytest.approx(propose(clean).options, rel=0.02)


def test_each_choice_has_its_reason():
    for a in (magnitudes(5, 15), magnitudes(1, 1.2)):
        found = propose(a)
        for name, reason in zip(("l_a", "u_a", "l_m", "lambda_g"), found.reasons, strict=True):
            assert reason.startswith(f"{name} = {getattr(found, name):.4g}")
            assert reason.endswith(".")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "some hundred images"),
        ([[1.0, 2.0]], "some hundred images"),
        ([1.0, np.nan], "NaN"),
        ([1.0, np.inf], "infinity"),
        ([0.0, 0.0, 1.0], "above 0"),
        ([-1.0, 2.0], "above 0"),
        ([1.0, 1.0, 1.00001], "normalised"),
    ],
)
def test_magnitudes_that_tell_nothing(values, message):
    with pytest.raises(DataError, match=message):
        propose(np.array(values, np.float32))
