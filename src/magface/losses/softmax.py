"""Softmax: the classifier without a margin that all others started from.

Source: Liu, Wen, Yu, Yang, "Large-Margin Softmax Loss for Convolutional Neural Networks", ICML 2016, arXiv:1612.02295,
which writes the inner product as magnitudes and an angle.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from magface.losses.margin import Margin


class Softmax(Margin):
    """Cross-entropy over inner products of the raw embedding and raw class centres.

    Equation: Softmax (L = -log(exp(W_y f) / sum_j exp(W_j f)), W_j f = ||f|| ||W_j|| cos_j, no bias).

    The bias is fixed to 0: an embedding is compared by its direction later, where a bias has no meaning.

    Example:
        >>> import torch
        >>> margin = Softmax()
        >>> margin.scale(torch.tensor([10.0, 20.0]))
        tensor([10., 20.])
    """

    unit_centres: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(s=1.0)

    def scale(self, magnitude: Tensor) -> Tensor:
        """The magnitude itself: `(B,)` -> `(B,)`."""
        return magnitude
