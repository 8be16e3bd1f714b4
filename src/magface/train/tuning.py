"""MagFace's five hyper-parameters, proposed from the magnitudes that a model gives before training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from magface.errors import DataError
from magface.losses.magface import Regularizer, lambda_g_lower_bound

_LEVELS = (1, 99)
_FLAT, _NARROW = 1.001, 1.3
"""Ratios of the two percentiles: below the first there is nothing to go by, below the second no sign of quality."""
_ROOM = 1.1
_L_M = 0.45


@dataclass(frozen=True, slots=True)
class _Published:
    """A setting of the authors: ratio u_a / l_a, greatest margin, and lambda_g as a multiple of its bound."""

    origin: str
    ratio: float
    u_m: float
    headroom: float


_PAPER = _Published("the paper", 110 / 10, 0.8, 35 / 22.587)
_TIP = _Published("the authors' tip for fine-tuning", 51 / 1, 1.0, 5 / 0.704)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Hyper-parameters of `MagFace` or `SelfTuning`.

    Attributes:
        l_a: lower bound of the magnitude, > 0.
        u_a: upper bound of the magnitude, > `l_a`.
        l_m: margin at `l_a`, radians.
        u_m: margin at `u_a`, radians.
        lambda_g: weight of the regularizer, above its lower bound.
        reasons: a sentence for each choice.
    """

    l_a: float
    u_a: float
    l_m: float
    u_m: float
    lambda_g: float
    reasons: tuple[str, ...]

    @property
    def options(self) -> dict[str, float]:
        """The five numbers by name, for the constructor of a loss."""
        return {name: getattr(self, name) for name in ("l_a", "u_a", "l_m", "u_m", "lambda_g")}


def propose(magnitudes: ArrayLike, s: float = 64.0, regularizer: Regularizer = "hyperbolic") -> Proposal:
    """Choose [l_a, u_a], [l_m, u_m] and lambda_g for a model that is to become a MagFace.

    Where magnitudes differ, the range is widened around them to the ratio of the paper's, 11; where they hardly differ,
    as in a model that was trained with a constant margin, it begins below them and leaves the room to grow of the
    authors' tip, [1, 51] for magnitudes about 1. With all magnitudes k times as large, so is the range, and the loss is
    the same: lambda_g is k times as large for the hyperbolic g and equal for the quadratic.

    Args:
        magnitudes: `(N,)` float, of raw embeddings of the training images, > 0; some hundreds or more.
        s: scale of the logits, > 0.
        regularizer: form of g.

    Raises:
        DataError: there are none, one is not a finite number, or they do not differ.

    Example:
        >>> found = propose(np.geomspace(5, 15, 1000))
        >>> {name: round(value, 2) for name, value in found.options.items()}
        {'l_a': 2.61, 'u_a': 28.72, 'l_m': 0.45, 'u_m': 0.8, 'lambda_g': 9.14}
        >>> print(found.reasons[0])
        l_a = 2.611: 99 % of the magnitudes are above 5.055, and a factor of 1.94 below that is room to fall.
    """
    low, high = _percentiles(magnitudes)
    if high < _NARROW * low:
        setting, room = _TIP, _ROOM
        l_a = low / room
        u_a = setting.ratio * l_a
        wide = f"the magnitudes hardly differ ({low:.4g} to {high:.4g}), so there is room to grow as in {_TIP.origin}"
    else:
        setting, room = _PAPER, max(_ROOM, math.sqrt(_PAPER.ratio * low / high))
        l_a, u_a = low / room, high * room
        wide = f"99 % of the magnitudes are below {high:.4g}, and a factor of {room:.2f} above that is room to grow"
    bound = lambda_g_lower_bound(l_a, u_a, _L_M, setting.u_m, s, regularizer)
    lambda_g = setting.headroom * bound
    return Proposal(
        l_a,
        u_a,
        _L_M,
        setting.u_m,
        lambda_g,
        (
            f"l_a = {l_a:.4g}: 99 % of the magnitudes are above {low:.4g}, and a factor of {room:.2f} below that is "
            "room to fall.",
            f"u_a = {u_a:.4g}: {wide}.",
            f"l_m = {_L_M:g} and u_m = {setting.u_m:g}: the margins of {setting.origin}.",
            f"lambda_g = {lambda_g:.4g}: {setting.headroom:.2f} times its lower bound {bound:.4g} at s = {s:g}, as in "
            f"{setting.origin}.",
        ),
    )


def _percentiles(magnitudes: ArrayLike) -> tuple[float, float]:
    a = np.asarray(magnitudes, np.float64)
    if a.ndim != 1 or a.size == 0:
        raise DataError("a range is proposed from a list of magnitudes; give those of some hundred images.")
    if not np.isfinite(a).all():
        raise DataError("magnitudes hold NaN or infinity; leave out the images that failed, or take another model.")
    low, high = np.percentile(a, _LEVELS).tolist()
    if low <= 0:
        raise DataError("magnitudes must be above 0; the model gives empty embeddings for some images.")
    if high < _FLAT * low:
        raise DataError(
            f"magnitudes are all about {low:.4g}, as if the embeddings were normalised; give raw embeddings."
        )
    return low, high
