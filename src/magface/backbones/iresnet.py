"""iResNet: the residual network of ArcFace and MagFace for 112x112 faces, under the parameter names of both.

Source: Deng et al., "ArcFace", CVPR 2019 (the unit: normalise, convolve, normalise, PReLU, convolve, normalise);
Duta et al., "Improved residual networks", 2020 (the name).

Shape letters: N faces, D = 512.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from magface.backbones.preprocessing import ARCFACE, MAGFACE, Preprocessing

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
"""Residual units of the four stages, by depth."""

Norm = Callable[[int], nn.Module]


@dataclass(frozen=True, slots=True)
class Origin:
    """In what networks with the same parameter names differ from one code base to another.

    Attributes:
        preprocessing: of the input.
        eps: of every batch normalisation.
        momentum: share of the newest batch in the running statistics.
        scaled: whether the last normalisation learns a scale. Without one the mean square of a magnitude is near D,
            which leaves MagFace little room.
        dropout: share of the channels dropped before the fully connected layer in training.
        deviation: of the normal distribution that the kernels start from; `None` is Kaiming's, by outputs.
    """

    preprocessing: Preprocessing
    eps: float
    momentum: float
    scaled: bool
    dropout: float
    deviation: float | None


ORIGINS = {
    "own": Origin(ARCFACE, eps=1e-5, momentum=0.1, scaled=True, dropout=0.0, deviation=0.1),
    "arcface": Origin(ARCFACE, eps=1e-5, momentum=0.1, scaled=False, dropout=0.0, deviation=0.1),
    "magface": Origin(MAGFACE, eps=2e-5, momentum=0.9, scaled=True, dropout=0.4, deviation=None),
}
"""Whose network: `own` is arcface_torch's with the scale that magnitudes need, for training from scratch."""


class Block(nn.Module):
    """Residual unit without an activation after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.bn1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = norm(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = norm(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, H, W)` -> `(N, outputs, H / stride, W / stride)`."""
        y = self.conv1(self.bn1(x))
        y = self.conv2(self.prelu(self.bn2(y)))
        return self.bn3(y) + self.downsample(x)


class IResNet(nn.Module):
    """RGB 0..255 in, a raw embedding out.

    Differs from the official codes: preprocessing is inside; the rest, names included, is that of the origin.

    Args:
        depth: one of `BLOCKS`.
        origin: whose settings.
        size: D.

    Example:
        >>> import torch
        >>> IResNet(18, ORIGINS["magface"]).eval()(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 512])
    """

    def __init__(self, depth: int, origin: Origin = ORIGINS["own"], size: int = 512) -> None:
        super().__init__()
        self.size = size
        self.preprocessing = origin.preprocessing
        norm = partial(nn.BatchNorm2d, eps=origin.eps, momentum=origin.momentum)
        first, second, third, fourth = BLOCKS[depth]
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = norm(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _stage(64, 64, first, norm)
        self.layer2 = _stage(64, 128, second, norm)
        self.layer3 = _stage(128, 256, third, norm)
        self.layer4 = _stage(256, 512, fourth, norm)
        self.bn2 = norm(512)
        self.dropout = nn.Dropout2d(origin.dropout)
        self.fc = nn.Linear(512 * 7 * 7, size)
        self.features = nn.BatchNorm1d(size, eps=origin.eps, momentum=origin.momentum)
        self.features.weight.requires_grad_(origin.scaled)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _start(module.weight, origin.deviation)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, 112, 112)` float32 RGB 0..255 -> `(N, D)` raw embeddings."""
        x = self.prelu(self.bn1(self.conv1(self.preprocessing(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.dropout(self.bn2(x))
        return self.features(self.fc(x.flatten(1)))


def _stage(inputs: int, outputs: int, blocks: int, norm: Norm) -> nn.Sequential:
    """Residual units, of which the first halves height and width."""
    first = Block(inputs, outputs, 2, norm)
    return nn.Sequential(first, *(Block(outputs, outputs, 1, norm) for _ in range(1, blocks)))


def _start(kernel: Tensor, deviation: float | None) -> None:
    if deviation is None:
        nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.normal_(kernel, std=deviation)
