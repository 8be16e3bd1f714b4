import copy
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.elasticface import ElasticArc, ElasticCos


def drawn(size, m, sigma, seed=0):
    return m + sigma * torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()


def handed_out(margins, theta):
    """The paper's +: the farther a face is from its centre, the greater its margin."""
    rank = {face: place for place, face in enumerate(sorted(range(len(theta)), key=lambda face: theta[face]))}
    return np.array([np.sort(margins)[rank[face]] for face in range(len(theta))])


def psi(theta, margins, form):
    if form is ElasticCos:
        return np.cos(theta) - margins
    return np.where(theta + margins < math.pi, np.cos(theta + margins), np.cos(theta) - margins * np.sin(margins))


FORMS = [
    (ElasticArc, False, 0.5, 0.05),
    (ElasticArc, True, 0.5, 0.0175),
    (ElasticCos, False, 0.35, 0.05),
    (ElasticCos, True, 0.35, 0.02),
]


@pytest.mark.parametrize(("form", "plus", "m", "sigma"), FORMS)
def test_full_loss_and_defaults(faces, form, plus, m, sigma):
    theta = faces.theta[faces.own]
    margins = drawn(len(theta), m, sigma)
    target = psi(theta, handed_out(margins, theta) if plus else margins, form)
    expected = faces.cross_entropy(target, np.cos(faces.theta), 64)
    assert faces.loss(form(plus=plus)) == pytest.approx(expected, abs=1e-12)


@given(
    theta=st.lists(st.floats(1e-3, 2), min_size=1, max_size=20, unique=True),
    form=st.sampled_from([ElasticArc, ElasticCos]),
    plus=st.booleans(),
    sigma=st.floats(0, 0.1),
    seed=st.integers(0, 1000),
)
def test_formula(theta, form, plus, sigma, seed):
    theta = np.array(theta)
    loss = form(0.5, sigma, plus=plus, seed=seed)
    margins = np.clip(drawn(len(theta), 0.5, sigma, seed), 0, None)
    cosine = torch.from_numpy(np.cos(theta))
    target = loss.target(cosine, torch.ones(len(theta))).numpy()
    if plus:
        margins = handed_out(margins, -np.cos(theta))
    np.testing.assert_allclose(target, psi(theta, margins, form), atol=1e-12, rtol=0)


def test_margins_are_drawn_anew_with_the_mean_and_deviation():
    loss, cosine = ElasticArc(), torch.zeros(100_000, dtype=torch.float64)
    first, second = loss.draw(cosine), loss.draw(cosine)
    assert not torch.equal(first, second)
    assert first.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert first.std().item() == pytest.approx(0.05, rel=1e-2)


def test_margins_are_never_negative():
    assert ElasticCos(0.01, 0.5).draw(torch.zeros(1000)).min() == 0


def test_the_same_seed_draws_the_same_whatever_torch_draws():
    one, other, cosine = ElasticArc(seed=7), ElasticArc(seed=7), torch.zeros(40)
    first = one.draw(cosine)
    torch.rand(3)
    assert torch.equal(first, other.draw(cosine))
    assert not torch.equal(first, ElasticArc(seed=8).draw(cosine))
    assert torch.equal(one.draw(cosine), copy.deepcopy(other).draw(cosine))


def test_plus_hands_out_the_same_margins():
    cosine = torch.tensor([0.1, 0.9, -0.5, 0.3], dtype=torch.float64)
    plain, plus = ElasticCos(0.35, 0.05).draw(cosine), ElasticCos(0.35, 0.05, plus=True).draw(cosine)
    assert sorted(plain.tolist()) == sorted(plus.tolist())
    assert plus.argsort().tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(("form", "plus", "m", "sigma"), FORMS)
def test_evaluation_takes_the_mean_and_draws_nothing(form, plus, m, sigma):
    loss = form(plus=plus).eval()
    before = loss.get_extra_state()
    assert loss.draw(torch.zeros(3, dtype=torch.float64)).tolist() == [m] * 3
    assert torch.equal(before, loss.get_extra_state())


def test_a_resumed_run_draws_what_the_uninterrupted_would():
    loss, cosine, file = ElasticArc(), torch.zeros(20), io.BytesIO()
    loss.draw(cosine)
    torch.save(loss.state_dict(), file)
    file.seek(0)
    resumed = ElasticArc(seed=3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(resumed.draw(cosine), loss.draw(cosine))


@pytest.mark.parametrize("form", [ElasticArc, ElasticCos])
@pytest.mark.parametrize(
    ("options", "message"),
    [({"m": -0.1}, "mean margin m must be 0 to"), ({"m": 1.6}, "mean margin m"), ({"sigma": -1}, "deviation sigma")],
)
def test_options_out_of_range(form, options, message):
    with pytest.raises(ValueError, match=message):
        form(**options)
