"""A small batch whose loss is computed twice: by a margin in a dense head, and by a formula in numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F


class Faces:
    """Nine faces of five people: raw embeddings, class centres that are no unit vectors, and what they measure.

    Attributes:
        theta: (9, 5) angles to the centres, radians.
        a: (9,) magnitudes, 0.5 to 150.
        own: index of the own centres in `theta`.
    """

    def __init__(self):
        rng = np.random.default_rng(5)
        directions = rng.normal(size=(9, 4))
        self.a = np.geomspace(0.5, 150, 9)
        self.x = self.a[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        self.centres = rng.normal(size=(5, 4))
        self.labels = np.arange(9) % 5
        self.own = (np.arange(9), self.labels)
        lengths = np.linalg.norm(self.centres, axis=1)
        self.theta = np.arccos(self.x @ self.centres.T / (self.a[:, None] * lengths))

    def tensors(self):
        return torch.from_numpy(self.x), torch.from_numpy(self.centres), torch.from_numpy(self.labels)

    def loss(self, margin):
        return dense(margin, *self.tensors()).item()

    def cross_entropy(self, psi, others, scale):
        """Softmax loss of target and other cosines, (9,) and (9, 5), at a scale, (9, 1) or a number."""
        logits = others.copy()
        logits[self.own] = psi
        logits = scale * logits
        return (np.log(np.exp(logits).sum(1)) - logits[self.own]).mean()


def dense(margin, x, centres, labels):
    """The contract of `Margin`, over a dense one-hot."""
    a = x.norm(dim=1)
    if margin.unit_centres:
        centres = centres / centres.norm(dim=1, keepdim=True)
    cosine = x / a[:, None] @ centres.T
    own = F.one_hot(labels, len(centres)).bool()
    psi = margin.target(cosine[own], a)
    logits = torch.where(own, psi[:, None], margin.negatives(cosine, psi.detach()))
    logits = margin.scale(a)[:, None] * logits
    if margin.reduction == "softmax":
        identity = F.cross_entropy(logits, labels)
    else:
        logits = logits + margin.offset()
        yes, no = -F.logsigmoid(logits[own]).sum(), -F.logsigmoid(-logits[~own]).sum()  # softplus is exact to 2e-9
        identity = (margin.weights[0] * yes + margin.weights[1] * no) / len(x)
    return identity + margin.penalty(a).mean()


@pytest.fixture(scope="session", name="dense")
def dense_head():
    return dense


@pytest.fixture(scope="session")
def faces():
    return Faces()
