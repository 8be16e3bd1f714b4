"""The branch that sets the magnitude of an embedding and leaves its direction alone.

Shape letters: N faces, D embedding size, K statistics of the trunk, F = K + D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLAMP = 5.0
DROP_INPUT, DROP_HIDDEN = 0.3, 0.5


class MagnitudeBranch(nn.Module):
    """Log of the factor by which the magnitude of an embedding changes.

    Two layers look at standardised statistics of the trunk. Beside them runs a power of the magnitude that the network
    gave by itself, so that only as much of it stays as helps.

    Args:
        dim: D.
        statistics: K.
        hidden: units of the hidden layer.

    Example:
        >>> branch = MagnitudeBranch(2, 3, hidden=4).eval()
        >>> branch(torch.ones(5, 5)).shape
        torch.Size([5])
    """

    mean: Tensor
    deviation: Tensor
    level: Tensor

    def __init__(self, dim: int, statistics: int, hidden: int) -> None:
        super().__init__()
        self.dim = dim
        self.hidden = nn.Linear(statistics, hidden)
        self.out = nn.Linear(hidden, 1)
        self.power = nn.Parameter(torch.tensor([-0.5]))
        nn.init.normal_(self.hidden.weight, std=0.3 / statistics**0.5)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("deviation", torch.ones(statistics))
        self.register_buffer("level", torch.zeros(1))

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation of the statistics, and the usual log magnitude, from `(N, F)` features."""
        features = features.float()
        statistics = features[:, : -self.dim]
        self.mean.copy_(statistics.mean(0))
        self.deviation.copy_(statistics.std(0) + 1e-4)
        self.level.copy_(self._log_magnitude(features).mean())

    def forward(self, features: Tensor) -> Tensor:
        """`(N, F)` float32 features, the raw embedding last -> `(N,)`."""
        x = ((features[:, : -self.dim] - self.mean) / self.deviation).clamp(-CLAMP, CLAMP)
        x = self.hidden(F.dropout(x, DROP_INPUT, self.training))
        x = F.dropout(F.leaky_relu(x, 0.1), DROP_HIDDEN, self.training)
        return self.out(x)[:, 0] + self.power * (self._log_magnitude(features) - self.level)

    def _log_magnitude(self, features: Tensor) -> Tensor:
        return features[:, -self.dim :].square().sum(1).add(1e-12).log() / 2
