import pytest
import torch

from magface.losses.margin import Margin, clamp_cosine


def test_identity_margin_changes_nothing():
    margin, cosine, a = Margin(s=30.0), torch.tensor([-0.3, 0.7]), torch.tensor([1.0, 50.0])
    assert margin.scale(a).tolist() == [30.0, 30.0]
    assert margin.target(cosine, a) is cosine
    assert margin.negatives(cosine[:, None], cosine).flatten().tolist() == cosine.tolist()
    assert margin.penalty(a).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("s", [0.0, -1.0, float("nan")])
def test_scale_must_be_positive(s):
    with pytest.raises(ValueError, match="positive"):
        Margin(s)


def test_clamped_cosine_keeps_an_angle():
    assert torch.acos(clamp_cosine(torch.tensor([1.0, -1.0]))).diff().abs() < torch.pi
