"""What holds for every margin, whatever its paper."""

import io
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from magface import losses

CASES = {
    "softmax": ("softmax", {}),
    "normface": ("normface", {}),
    "sphereface": ("sphereface", {}),
    "sphereface 1.35": ("sphereface", {"m": 1.35}),
    "sphereface-r": ("sphereface-r", {}),
    "sphereface-r exact": ("sphereface-r", {"gradient": "exact"}),
    "sphereface-r v1": ("sphereface-r", {"form": "v1", "gradient": "exact"}),
    "sphereface-r v2": ("sphereface-r", {"form": "v2", "gradient": "exact"}),
    "cosface": ("cosface", {}),
    "arcface": ("arcface", {}),
    "arcface easy": ("arcface", {"easy_margin": True}),
    "arcface cosine": ("arcface", {"beyond": "cosine"}),
    "arcface straight": ("arcface", {"gradient": "straight_through"}),
    "combined": ("combined", {}),
    "combined 1.5": ("combined", {"m1": 1.5}),
    "magface": ("magface", {}),
    "magface other": ("magface", {"regularizer": "quadratic", "easy_margin": False, "clamp": "both"}),
    "magface small": ("magface", {"l_a": 1, "u_a": 10, "easy_margin": False, "regularizer": "quadratic"}),
    "magface-self-tuning": ("magface-self-tuning", {"l_a": 10, "u_a": 110, "l_m": 0.45, "u_m": 0.8}),
    "mag-cosface": ("mag-cosface", {}),
    "mag-cosface other": ("mag-cosface", {"regularizer": "quadratic", "clamp": "both"}),
    "adaface": ("adaface", {}),
    "elasticface-arc": ("elasticface-arc", {}),
    "elasticface-arc plus": ("elasticface-arc", {"plus": True}),
    "elasticface-cos": ("elasticface-cos", {}),
    "elasticface-cos plus": ("elasticface-cos", {"plus": True}),
    "curricularface": ("curricularface", {}),
    "sphereface2": ("sphereface2", {}),
    "sphereface2 straight": ("sphereface2", {"gradient": "straight_through"}),
}
EVERY = pytest.mark.parametrize("case", CASES)
# Psi jumps up at 90 degrees, or rises again beyond pi.
NOT_FALLING = {"arcface easy", "arcface cosine", "magface", "magface-self-tuning"}
PASSED = {"sphereface-r", "arcface straight", "sphereface2 straight"}


def make(case):
    name, options = CASES[case]
    return losses.build(name, num_classes=50, **options)


def test_every_name_builds():
    assert {name for name, _ in CASES.values()} == set(losses.NAMES)
    assert len({type(make(case)) for case in CASES}) == len(losses.NAMES)


def test_importing_does_not_load_torch():
    code = "import sys, magface, magface.losses; assert magface.losses.NAMES; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("magfase", {}, r"there is no loss 'magfase'; did you mean magface\?"),
        ("triplet", {}, r"there is no loss 'triplet'; known: adaface, arcface, "),
        ("magface", {"lamda_g": 35}, r"magface has no option 'lamda_g'; did you mean lambda_g\?"),
        ("cosface", {"easy": True}, r"cosface has no option 'easy'; known: m, s\."),
        ("softmax", {"s": 64}, r"softmax has no option 's'; known: none\."),
        ("sphereface2", {}, r"the loss sphereface2 needs num_classes\."),
        ("arcface", {"m": "wide"}, "an option of the loss arcface has the wrong type"),
        ("cosface", {"m": 3}, "margin m must be 0 to 1"),
    ],
)
def test_what_cannot_be_built(name, options, message):
    with pytest.raises(ValueError, match=message):
        losses.build(name, **options)


@EVERY
def test_gradcheck(case, faces, dense):
    if case in PASSED:
        pytest.skip("its gradient is another one on purpose")
    margin, (x, centres, labels) = make(case).double().eval(), faces.tensors()
    a = x.norm(dim=1, keepdim=True)

    def loss(e, w):
        if case == "adaface":  # to which the magnitude is a constant
            e = a * e / e.norm(dim=1, keepdim=True)
        return dense(margin, e, w, labels)

    assert torch.autograd.gradcheck(loss, (x.clone().requires_grad_(), centres.clone().requires_grad_()))


@EVERY
@settings(max_examples=50)
@given(
    cosine=st.lists(st.floats(-1, 1, width=16) | st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4),
    a=st.lists(st.floats(0, 10_000, width=16) | st.sampled_from([0.0, 1e-8, 1e4]), min_size=4, max_size=4),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    autocast=st.sampled_from([None, torch.bfloat16, torch.float16]),
    training=st.booleans(),
)
def test_values_and_gradients_are_finite(case, cosine, a, dtype, autocast, training):
    margin = make(case).train(training)
    c = torch.tensor(cosine, dtype=dtype, requires_grad=True)
    magnitude = torch.tensor(a, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        target = margin.target(c, magnitude)
        negatives = margin.negatives(c[:, None].expand(4, 4), target.detach())
        values = target, negatives, margin.penalty(magnitude), margin.scale(magnitude)
    assert all(value.isfinite().all() for value in values)
    torch.stack([value.float().sum() for value in values]).sum().backward()
    assert c.grad.isfinite().all()
    assert magnitude.grad is None or magnitude.grad.isfinite().all()


@EVERY
@settings(max_examples=50)
@given(
    cosine=st.lists(st.floats(-1, 1), min_size=1, max_size=8),
    a=st.floats(0, 300),
    training=st.booleans(),
)
def test_the_margin_never_helps(case, cosine, a, training):
    margin, c = make(case).train(training), torch.tensor(cosine, dtype=torch.float64)
    if case == "arcface cosine":
        c = c.clamp(min=math.cos(math.pi - 0.5))  # rises again beyond theta + m = pi
    psi = margin.target(c, torch.full_like(c, a))
    assert (psi <= c + 1e-6).all()  # a cosine of -1 is taken for one of -1 + 1e-7
    if CASES[case][0] not in {"curricularface", "sphereface2"}:
        assert (margin.negatives(c[:, None], psi) >= c[:, None] - 1e-6).all()


@EVERY
@pytest.mark.parametrize("a", [1.0, 20.0, 90.0])
def test_psi_falls_as_the_angle_grows(case, a):
    if case in NOT_FALLING:
        pytest.skip("on purpose it does not")
    theta = torch.linspace(0.001, math.pi - 0.001, 2000, dtype=torch.float64)
    step = make(case).eval().target(theta.cos(), torch.full_like(theta, a)).diff()
    if CASES[case][0] in {"sphereface2", "adaface"} or case == "sphereface-r v1":  # flat at the end of the angle
        assert (step <= 1e-15).all()
        assert step.sum() < -1
    else:
        assert (step < 0).all()


@EVERY
def test_only_target_changes_the_state_and_only_in_training(case):
    margin, generator = make(case), torch.Generator().manual_seed(0)
    c, a = 2 * torch.rand(6, generator=generator) - 1, 50 * torch.rand(6, generator=generator)
    before = {key: value.clone() for key, value in margin.state_dict().items()}

    def unchanged():
        return all(torch.equal(before[key], value) for key, value in margin.state_dict().items())

    margin.negatives(c[:, None].expand(6, 3), c)
    margin.scale(a), margin.penalty(a), margin.offset()
    assert unchanged()
    margin.eval()
    margin.target(c, a)
    assert unchanged()
    margin.train()
    margin.target(c, a)
    stateful = {"adaface", "elasticface-arc", "elasticface-cos", "curricularface", "magface-self-tuning"}
    assert unchanged() == (CASES[case][0] not in stateful)


@EVERY
def test_a_margin_goes_on_from_its_saved_state(case):
    margin, other, generator = make(case), make(case), torch.Generator().manual_seed(0)
    batches = [(2 * torch.rand(6, generator=generator) - 1, 50 * torch.rand(6, generator=generator)) for _ in range(4)]
    for batch in batches[:3]:
        margin.target(*batch)
    file = io.BytesIO()
    torch.save(margin.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    psi = margin.target(*batches[3])
    assert torch.equal(other.target(*batches[3]), psi)
    cosine = batches[0][0][:, None].expand(6, 3)
    assert torch.equal(other.negatives(cosine, psi), margin.negatives(cosine, psi))


@EVERY
def test_negatives_work_on_each_number_and_give_the_target_no_gradient(case):
    margin, generator = make(case), torch.Generator().manual_seed(0)
    cosine = (2 * torch.rand(6, 8, generator=generator) - 1).requires_grad_()
    own = cosine.detach()[:, 0].clone().requires_grad_()
    psi = margin.target(own, torch.full((6,), 30.0))
    whole = margin.negatives(cosine, psi)
    piece = margin.negatives(cosine[2:5, 3:7], psi[2:5])
    torch.testing.assert_close(piece, whole[2:5, 3:7], atol=1e-7, rtol=0)
    assert torch.autograd.grad(whole.sum(), own, allow_unused=True) == (None,)
