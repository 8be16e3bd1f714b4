import math
import warnings
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from magface.losses.magface import MagCosFace, MagFace, lambda_g_lower_bound

PAPER = (10.0, 110.0, 0.45, 0.8)


def reference(cosine, a, *, l_a, u_a, l_m, u_m, lambda_g, form, easy, clamp):
    """One face, by the formulas of the paper with angles and `math` alone: (target cosine, penalty)."""
    inside = min(max(a, l_a), u_a)
    m = (u_m - l_m) / (u_a - l_a) * (inside - l_a) + l_m
    theta = math.acos(cosine)
    if easy:
        target = math.cos(theta + m) if theta < math.pi / 2 else cosine
    else:
        target = math.cos(theta + m) if theta + m < math.pi else cosine - m * math.sin(math.pi - m)
    b = inside if clamp == "both" else a
    g = b / u_a**2 + 1 / b if form == "hyperbolic" else b**2 / u_a**2 - 2 * b / u_a
    return target, lambda_g * g


@pytest.mark.parametrize("form", ["hyperbolic", "quadratic"])
@pytest.mark.parametrize("easy", [True, False])
@pytest.mark.parametrize("clamp", ["margin", "both"])
def test_formula(form, easy, clamp):
    rng = np.random.default_rng(0)
    cosine, a = rng.uniform(-0.999, 0.999, 500), rng.uniform(2, 200, 500)
    loss = MagFace(*PAPER, lambda_g=35, regularizer=form, easy_margin=easy, clamp=clamp)
    target = loss.target(torch.from_numpy(cosine), torch.from_numpy(a)).numpy()
    penalty = loss.penalty(torch.from_numpy(a)).numpy()
    l_a, u_a, l_m, u_m = PAPER
    settings = {"l_a": l_a, "u_a": u_a, "l_m": l_m, "u_m": u_m, "lambda_g": 35, "form": form, "easy": easy}
    expected = np.array([reference(c, b, **settings, clamp=clamp) for c, b in zip(cosine, a, strict=True)])
    np.testing.assert_allclose(target, expected[:, 0], atol=1e-12, rtol=0)
    np.testing.assert_allclose(penalty, expected[:, 1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", ["hyperbolic", "quadratic"])
@pytest.mark.parametrize("clamp", ["margin", "both"])
def test_formula_with_cosine_margins(faces, form, clamp):
    inside = np.clip(faces.a, 10, 110)
    a = inside if clamp == "both" else faces.a
    below = np.minimum(a, 1)  # under l_a / 10 the hyperbola goes on as its tangent
    g = a / 110**2 + 1 / np.maximum(a, 1) + (1 - below) if form == "hyperbolic" else a**2 / 110**2 - 2 * a / 110
    psi = np.cos(faces.theta[faces.own]) - (0.35 + (0.8 - 0.35) / 100 * (inside - 10))
    expected = faces.cross_entropy(psi, np.cos(faces.theta), 64) + 150 * g.mean()
    loss = MagCosFace(lambda_g=150, regularizer=form, clamp=clamp)
    assert faces.loss(loss) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", ["hyperbolic", "quadratic"])
@pytest.mark.parametrize("easy", [True, False])
def test_full_loss(faces, form, easy):
    a, theta = np.maximum(faces.a, 1), faces.theta[faces.own]
    settings = dict(zip(("l_a", "u_a", "l_m", "u_m"), PAPER, strict=True), lambda_g=35, form=form, easy=easy)
    psi, penalty = np.array(
        [reference(math.cos(t), b, **settings, clamp="margin") for t, b in zip(theta, a, strict=True)]
    ).T
    if form == "hyperbolic":
        penalty += 35 * np.where(faces.a < 1, (1 - faces.a) - (1 - faces.a) / 110**2, 0)
    else:
        penalty = 35 * (faces.a**2 / 110**2 - 2 * faces.a / 110)
    expected = faces.cross_entropy(psi, np.cos(faces.theta), 64) + penalty.mean()
    loss = MagFace(*PAPER, lambda_g=35, regularizer=form, easy_margin=easy)
    assert faces.loss(loss) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", ["hyperbolic", "quadratic"])
@pytest.mark.parametrize("easy", [True, False])
def test_gradcheck(form, easy):
    loss = MagFace(*PAPER, lambda_g=35, regularizer=form, easy_margin=easy)
    cosine = torch.tensor([-0.97, -0.4, 0.1, 0.6, 0.95], dtype=torch.float64, requires_grad=True)
    a = torch.tensor([5.0, 150.0, 20.0, 60.0, 0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, m: (loss.target(c, m), loss.penalty(m)), (cosine, a))


@pytest.mark.parametrize(
    ("bounds", "form", "expected"),
    [
        (PAPER, "hyperbolic", 22.5867),
        (PAPER, "quadratic", 13.552),
        ((10.0, 110.0, 0.35, 0.8), "hyperbolic", 29.04),
        ((1.0, 51.0, 0.45, 1.0), "hyperbolic", 0.7043),
    ],
)
def test_lower_bound(bounds, form, expected):
    assert lambda_g_lower_bound(*bounds, 64, form) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("form", ["hyperbolic", "quadratic"])
def test_bound_is_where_the_loss_is_flat_at_l_a(form):
    loss = MagFace(*PAPER, regularizer=form)
    a = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss.penalty(a), a)
    assert slope.item() == pytest.approx(-64 * (0.8 - 0.45) / 100, rel=1e-12)


def test_warns_below_the_bound_at_the_real_scale():
    with pytest.warns(UserWarning, match=r"lambda_g = 20 .* 22\.587 at s = 64"):
        MagFace(*PAPER, lambda_g=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MagFace(*PAPER, lambda_g=20, s=32)


def test_defaults_are_the_papers():
    arc, cos = MagFace(), MagCosFace()
    assert (arc.l_a, arc.u_a, arc.l_m, arc.u_m, arc.s) == (10, 110, 0.45, 0.8, 64)
    assert (cos.l_a, cos.u_a, cos.l_m, cos.u_m, cos.s) == (10, 110, 0.35, 0.8, 64)
    assert (arc.form, arc.easy_margin, arc.clamp) == ("hyperbolic", True, "margin")
    assert (arc.lambda_g, cos.lambda_g) == pytest.approx((22.5867, 29.04), rel=1e-4)


@pytest.mark.parametrize("form", [MagFace, MagCosFace])
@pytest.mark.parametrize("bounds", [(0, 110, 0.4, 0.8), (20, 10, 0.4, 0.8), (10, 110, 0.9, 0.8), (10, 110, 0.4, 2.0)])
def test_bounds_out_of_order(form, bounds):
    with pytest.raises(ValueError, match="need"):
        form(*bounds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularizer": "cubic"}, "regularizer must be 'hyperbolic' or 'quadratic', not 'cubic'"),
        ({"clamp": "none"}, "clamp must be 'margin' or 'both'"),
        ({"lambda_g": -1}, "lambda_g must be at least 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        MagFace(**options)


def optimum(loss, theta, *, num_classes=85742):
    """Magnitude of least loss at `theta` radians, all other centres orthogonal."""
    a = torch.linspace(*PAPER[:2], 200_001, dtype=torch.float64)
    target = loss.target(torch.full_like(a, math.cos(theta)), a)
    identity = torch.nn.functional.softplus(math.log(num_classes - 1) - loss.s * target)
    return a[(identity + loss.penalty(a)).argmin()].item()


@pytest.mark.parametrize(("degrees", "expected"), [(30, 101.7), (40, 63.4), (45, 43.2), (50, 24.8), (60, 12.4)])
def test_optimal_magnitude(degrees, expected):
    assert optimum(MagFace(*PAPER, lambda_g=35), math.radians(degrees)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("form", ["hyperbolic", "quadratic"])
def test_easier_faces_have_larger_optima(form):
    loss = MagFace(*PAPER, regularizer=form)
    # Beyond theta + m = 90 degrees the pull of the margin weakens again.
    optima = [optimum(loss, math.radians(degrees)) for degrees in range(20, 64, 2)]
    assert all(near >= far for near, far in pairwise(optima))


GRID = list(
    product(
        [MagFace, MagCosFace],
        ["hyperbolic", "quadratic"],
        [(1.0, 2.0), (1.0, 51.0), (10.0, 110.0), (20.0, 30.0)],  # l_a, u_a
        [(0.0, 0.3), (0.45, 0.8), (0.2, 1.0)],  # l_m, u_m
        [16.0, 64.0],  # s
    )
)


def slopes(x, f):
    """First and second derivative of an elementwise f."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, allow_unused=True) if first.requires_grad else (None,)
    return first.detach(), torch.zeros_like(x) if second is None else second


@pytest.mark.parametrize(("cls", "form", "a", "m", "s"), GRID)
def test_conditions_of_the_proof(cls, form, a, m, s):
    """G is strictly convex and falls to a flat place at u_a; m rises in a straight line."""
    loss = cls(*a, *m, s=s, regularizer=form)
    x = torch.linspace(*a, 501, dtype=torch.float64)
    first, second = slopes(x, loss.regularizer)
    assert (first[:-1] < 0).all()
    assert first[-1].item() == pytest.approx(0, abs=1e-15)
    assert (second > 0).all()
    first, second = slopes(x, loss.margin)
    torch.testing.assert_close(first, torch.full_like(x, (m[1] - m[0]) / (a[1] - a[0])))
    assert not second.any()


@pytest.mark.parametrize(("cls", "form", "a", "m", "s"), GRID)
@pytest.mark.parametrize("factor", [1.0, 1.55, 5.0])
def test_one_optimum_within_the_range_from_the_bound_on(cls, form, a, m, s, factor):
    """For every angle of which the proof speaks, and few or many classes."""
    bound = lambda_g_lower_bound(*a, *m, s, form)
    loss = cls(*a, *m, bound * factor, s, form)
    x = torch.linspace(*a, 501, dtype=torch.float64)
    last = math.pi / 2 - m[1] if cls is MagFace else math.pi - 0.05
    for theta, others in product(np.linspace(0.05, last, 9), [math.log(9), math.log(85741)]):
        slope, _ = slopes(x, lambda b, t=theta, o=others: total(loss, math.cos(t), b, o))
        assert slope[0] <= 1e-12 * bound
        assert slope[-1] >= -1e-12 * bound
        assert (slope.diff() > 0).all()  # strictly convex, so that there is one optimum


def total(loss, cosine, a, others):
    """Loss of a face with magnitudes `a`, the other classes giving exp(`others`) together."""
    identity = torch.nn.functional.softplus(others - loss.s * loss.target(torch.full_like(a, cosine), a))
    return identity + loss.penalty(a)


@pytest.mark.parametrize(("cls", "form", "a", "m", "s"), GRID)
def test_below_the_bound_hard_faces_collapse_to_l_a(cls, form, a, m, s):
    bound = lambda_g_lower_bound(*a, *m, s, form)
    # a face whose margin pulls with full force at l_a: theta + l_m = 90 degrees, or far from the centre
    cosine = math.cos(math.pi / 2 - m[0]) if cls is MagFace else 0.0
    x = torch.linspace(*a, 501, dtype=torch.float64)
    with pytest.warns(UserWarning, match="will collapse to l_a"):
        low = cls(*a, *m, bound / 2, s, form, **({"easy_margin": False} if cls is MagFace else {}))
    high = cls(*a, *m, 2 * bound, s, form, **({"easy_margin": False} if cls is MagFace else {}))
    assert slopes(x, lambda b: total(low, cosine, b, 11.0))[0][0] > 0
    assert total(low, cosine, x, 11.0).argmin() == 0
    assert total(high, cosine, x, 11.0).argmin() > 0


def test_easier_faces_have_larger_optima_with_cosine_margins_too():
    optima = [optimum(MagCosFace(lambda_g=150), math.radians(degrees)) for degrees in range(2, 180, 4)]
    assert all(near >= far for near, far in pairwise(optima))
    assert optima[0] > 95 > 40 > optima[-1] > 10


def test_gradient_of_the_regularizer_outside_the_range():
    a = torch.tensor([5.0, 150.0], requires_grad=True)
    (alive,) = torch.autograd.grad(MagFace(*PAPER).penalty(a).sum(), a)
    assert alive[0] < 0 < alive[1]
    (dead,) = torch.autograd.grad(MagFace(*PAPER, clamp="both").penalty(a).sum(), a)
    assert dead.tolist() == [0, 0]


@given(
    cosine=st.floats(-1, 1, width=32) | st.sampled_from([-1.0, 1.0]),
    a=st.floats(0, 2**14, width=32) | st.sampled_from([0.0, 1e-8, 1e4]),
    form=st.sampled_from(["hyperbolic", "quadratic"]),
    easy=st.booleans(),
    clamp=st.sampled_from(["margin", "both"]),
)
def test_value_and_gradient_are_finite_and_the_margin_never_helps(cosine, a, form, easy, clamp):
    loss = MagFace(*PAPER, regularizer=form, easy_margin=easy, clamp=clamp)
    c, m = torch.tensor([cosine], requires_grad=True), torch.tensor([a], requires_grad=True)
    target, penalty = loss.target(c, m), loss.penalty(m)
    gradients = torch.autograd.grad((target + penalty).sum(), (c, m))
    assert all(t.isfinite().all() for t in (target, penalty, *gradients))
    assert target.item() <= cosine + 1e-6


@given(
    a=st.lists(st.floats(0, 1000), min_size=2, max_size=2, unique=True),
    form=st.sampled_from(["hyperbolic", "quadratic"]),
)
def test_regularizer_is_convex_and_least_at_u_a(a, form):
    loss = MagFace(*PAPER, regularizer=form)
    x = torch.tensor(a, dtype=torch.float64)
    g = loss.regularizer(x)
    assert loss.regularizer(x.mean()) <= g.mean() + 1e-12
    assert (g >= loss.regularizer(torch.tensor(110.0, dtype=torch.float64)) - 1e-12).all()
