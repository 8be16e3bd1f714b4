"""MobileFaceNet: a small network of inverted residual units whose last pooling is learned.

Source: Chen, Liu, Gao and Han, "MobileFaceNets", 2018, table 1: 0.22 billion multiplications a face.

Shape letters: N faces, C channels, D embedding size.
"""

from __future__ import annotations

from torch import Tensor, nn

from magface.backbones.preprocessing import ARCFACE

STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""Expansion, channels, number of units and stride of the first, as in the table."""


class Unit(nn.Sequential):
    """Convolution and batch normalisation, then PReLU unless it is linear."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        if not linear:
            self.relu = nn.PReLU(outputs)


class Bottleneck(nn.Module):
    """Inverted residual unit: widen, filter each channel, narrow; the sum where shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.units = nn.Sequential(
            Unit(inputs, width),
            Unit(width, width, kernel=3, stride=stride, padding=1, groups=width),
            Unit(width, outputs, linear=True),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, H, W)` -> `(N, outputs, H / stride, W / stride)`."""
        return x + self.units(x) if self.residual else self.units(x)


class MobileFaceNet(nn.Module):
    """RGB 0..255 in, a raw embedding out.

    Args:
        size: D; 128 in the paper.

    Example:
        >>> import torch
        >>> MobileFaceNet(128).eval()(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 128])
    """

    preprocessing = ARCFACE

    def __init__(self, size: int = 512) -> None:
        super().__init__()
        self.size = size
        self.stem = nn.Sequential(
            Unit(3, 64, kernel=3, stride=2, padding=1), Unit(64, 64, kernel=3, padding=1, groups=64)
        )
        blocks: list[nn.Module] = []
        inputs = 64
        for expansion, outputs, count, stride in STAGES:
            for index in range(count):
                blocks.append(Bottleneck(inputs, outputs, 1 if index else stride, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.widen = Unit(inputs, 512)
        self.pool = Unit(512, 512, kernel=7, groups=512, linear=True)
        self.fc = nn.Linear(512, size, bias=False)
        self.features = nn.BatchNorm1d(size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, 112, 112)` float32 RGB 0..255 -> `(N, D)` raw embeddings."""
        x = self.blocks(self.stem(self.preprocessing(x)))
        return self.features(self.fc(self.pool(self.widen(x)).flatten(1)))
