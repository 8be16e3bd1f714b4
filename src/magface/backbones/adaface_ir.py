"""IR: the residual network of the official AdaFace, under its parameter names.

Source: Kim, Jain and Liu, "AdaFace", CVPR 2022. It differs from `iresnet` in the shortcut of the first stage, which
takes every second pixel as it is, and in the last normalisation, which learns nothing.

Shape letters: N faces, D = 512.
"""

from __future__ import annotations

from torch import Tensor, nn

from magface.backbones.iresnet import BLOCKS
from magface.backbones.preprocessing import ADAFACE

DEPTHS = {18: BLOCKS[18], 34: BLOCKS[34], 50: BLOCKS[50], 101: BLOCKS[100]}
"""Residual units of the four stages, by the depth in the name."""
WIDTHS = (64, 128, 256, 512)


class Unit(nn.Module):
    """Residual unit whose shortcut has weights only where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, H, W)` -> `(N, outputs, H / stride, W / stride)`."""
        return self.res_layer(x) + self.shortcut_layer(x)


class IR(nn.Module):
    """RGB 0..255 in, a raw embedding out.

    Differs from the official code: preprocessing is inside, and the embedding is not split into direction and
    magnitude.

    Args:
        depth: one of `DEPTHS`.

    Example:
        >>> import torch
        >>> IR(18).eval()(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 512])
    """

    size = 512
    preprocessing = ADAFACE

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units: list[nn.Module] = []
        inputs = 64
        for outputs, count in zip(WIDTHS, DEPTHS[depth], strict=True):
            for index in range(count):
                units.append(Unit(inputs, outputs, 1 if index else 2))
                inputs = outputs
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, self.size),
            nn.BatchNorm1d(self.size, affine=False),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, 112, 112)` float32 RGB 0..255 -> `(N, 512)` raw embeddings."""
        return self.output_layer(self.body(self.input_layer(self.preprocessing(x))))
