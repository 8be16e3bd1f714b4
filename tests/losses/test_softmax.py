import numpy as np
import pytest
import torch

from magface.losses.softmax import Softmax


def test_is_cross_entropy_of_the_inner_products(faces):
    logits = faces.x @ faces.centres.T
    expected = (np.log(np.exp(logits).sum(1)) - logits[faces.own]).mean()
    assert faces.loss(Softmax()) == pytest.approx(expected, abs=1e-12)


def test_scale_is_the_magnitude():
    a = torch.tensor([0.0, 3.0])
    assert Softmax().scale(a).tolist() == [0.0, 3.0]
    assert not Softmax.unit_centres
    assert Softmax().offset() is None
