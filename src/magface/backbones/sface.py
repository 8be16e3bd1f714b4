"""SFace: a depthwise-separable network for 112x112 faces, and the loader of its published weights.

Source: Zhong et al., "SFace: Sigmoid-constrained hypersphere loss for robust face recognition", 2021; the architecture
follows MobileNet (2017) with PReLU and a fully connected embedding.

Shape letters: N faces, C channels, H = W = 7, D = 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magface.backbones.magnitude import MagnitudeBranch

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class Unit(nn.Sequential):
    """Convolution, batch normalisation, PReLU; depthwise when `groups` equals the channels."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = nn.PReLU(outputs)


class SFace(nn.Module):
    """The network of SFace: RGB 0..255 in, a raw embedding out.

    Example:
        >>> SFace().eval()(torch.zeros(2, 3, 112, 112)).shape
        torch.Size([2, 128])
    """

    size = 128

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [Unit(3, WIDTHS[0], kernel=3)]
        for (inputs, outputs), stride in zip(pairwise(WIDTHS), STRIDES, strict=True):
            blocks.append(
                nn.Sequential(
                    Unit(inputs, inputs, kernel=3, stride=stride, groups=inputs),
                    Unit(inputs, outputs, kernel=1),
                )
            )
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm2d(WIDTHS[-1], eps=2e-5)
        self.fc = nn.Linear(WIDTHS[-1] * 7 * 7, self.size)
        self.fc_norm = nn.BatchNorm1d(self.size, eps=2e-5)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, 112, 112)` float32 RGB 0..255 -> `(N, 128)` raw embeddings."""
        x = normalised(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def head(self, x: Tensor) -> Tensor:
        """`(N, 1024, 7, 7)` of the last block -> `(N, 128)` raw embeddings."""
        return self.fc_norm(self.fc(self.norm(x).flatten(1)))


class MagSFace(SFace):
    """SFace with a branch that sets the magnitude: the direction is that of `SFace`.

    The branch sees the mean and deviation of every channel after some of the blocks, from which blur, noise, darkness
    and occlusion can be read that the last layers were trained to overlook.

    Example:
        >>> net = MagSFace().eval()
        >>> x = torch.rand(2, 3, 112, 112) * 255
        >>> torch.nn.functional.cosine_similarity(net(x), SFace.forward(net, x)).round(decimals=4)
        tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    levels = (2, 4, 6, 10, 11, 13)

    def __init__(self) -> None:
        super().__init__()
        self.branch = MagnitudeBranch(self.size, 2 * sum(WIDTHS[level] for level in self.levels), hidden=128)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 3, 112, 112)` float32 RGB 0..255 -> `(N, 128)` raw embeddings."""
        features = self.trunk(x)
        return self.embed(features) * self.branch(features).exp()[:, None]

    def trunk(self, x: Tensor) -> Tensor:
        """What the branch sees: `(N, F)`, the statistics, then the embedding of `SFace`.

        In this order an engine takes the statistics of a block while its output is still in the processor's cache.
        """
        x = normalised(x)
        statistics: list[Tensor] = []
        for level, block in enumerate(self.blocks):
            x = block(x)
            if level in self.levels:
                statistics += _mean_and_deviation(x.float())
        return torch.cat([*statistics, self.head(x)], dim=1)

    def embed(self, features: Tensor) -> Tensor:
        """The embedding of `SFace` among the features: `(N, F)` -> `(N, 128)`."""
        return features[:, -self.size :]


def _mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of every channel: `(N, C, H, W)` float32 -> two of `(N, C)`.

    The deviation comes from the mean and the norm, which engines read off `x` as it is; a copy of `x` less its mean
    would cost a twelfth of the whole network.
    """
    mean = x.mean((2, 3))
    square = torch.linalg.vector_norm(x, dim=(2, 3)).square() / (x.shape[2] * x.shape[3])
    return mean, ((square - mean.square()).clamp_min(0) + 1e-6).sqrt()


def normalised(x: Tensor) -> Tensor:
    """RGB 0..255 -> about -1..1, as SFace was trained."""
    return (x - 127.5) * 0.0078125


def from_published(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Rename the tensors of the published SFace file to the state of `SFace`.

    Args:
        tensors: float32 tensors under their names in `face_recognition_sface_2021dec`, already dequantised.
    """
    state: dict[str, Tensor] = {}

    def take(ours: str, theirs: str) -> None:
        state[ours] = torch.from_numpy(np.array(tensors[theirs], np.float32))

    def take_norm(ours: str, theirs: str) -> None:
        parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
        for part, name in parts.items():
            take(f"{ours}.{part}", f"{theirs}_{name}")

    def take_unit(ours: str, theirs: str) -> None:
        take(f"{ours}.conv.weight", f"{theirs}_conv2d_weight")
        take_norm(f"{ours}.norm", f"{theirs}_batchnorm")
        state[f"{ours}.relu.weight"] = torch.from_numpy(np.array(tensors[f"{theirs}_relu_gamma"], np.float32)).flatten()

    take_unit("blocks.0", "conv_1")
    for block in range(1, len(WIDTHS)):
        take_unit(f"blocks.{block}.0", f"conv_{block + 1}_dw")
        take_unit(f"blocks.{block}.1", f"conv_{block + 1}")
    take_norm("norm", "bn1")
    take("fc.weight", "pre_fc1_weight")
    take("fc.bias", "pre_fc1_bias")
    take_norm("fc_norm", "fc1")
    return state
