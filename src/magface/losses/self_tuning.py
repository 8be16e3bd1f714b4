"""MagFace whose range follows the magnitudes that training gives, without running after itself.

Our own; it starts from MagFace (arXiv:2103.06627).

Shape letters: B faces of the batch.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from magface.losses.magface import MagFace, Regularizer, lambda_g_lower_bound
from magface.losses.margin import Margin

PERCENTILES = (0.01, 0.99)
ROOM = 1.5
"""By which factor the wished range goes beyond the two percentiles."""
FOLLOW = 0.5
MEMORY = 0.01
"""Share of the newest batch in the running percentiles."""
RATE = 1e-3
"""By how much the log of an end moves in a step at most."""
REACH = 3.0
"""By which factor an end leaves its first place at most."""


class SelfTuning(Margin):
    """MagFace with a range that moves; lambda_g stays the same multiple of its lower bound.

    A range that follows magnitudes which follow the range drifts. The loss prefers no scale: with l_a, u_a and all
    magnitudes k times as large (and lambda_g from its bound) nothing changes, so the best magnitudes are k times as
    large too. Where they lie a little too high for the range, it would rise with them for ever. So each end goes only
    `FOLLOW` = 1/2 of the way, in logarithms, from its first place to the one wished for, a factor of `ROOM` beyond the
    1st and the 99th percentile of the unclamped magnitudes.

    Why this comes to rest: the best magnitude of a face obeys

        (g'(a) / g'(l_a)) lambda_g / bound = (1 - p) sin(theta + m(a)),

    p being the softmax of its own class. The left side falls with a, and rises at fixed a when l_a or u_a rises, while
    the margin at that a falls; so while theta + m stays below 90 degrees, the best magnitude rises with either end. A
    map that keeps order and commutes with scaling brings no two ranges further apart (Crandall and Tartar 1980; largest
    difference of logarithms), nor does taking percentiles. Half of it is a contraction: there is one resting range, and
    it is reached from everywhere. Averages over steps and limits of speed and reach are such maps as well.

    Why every range is sound: at each step lambda_g is the bound of that very range, times a constant of at least 1, and
    l_a < u_a, because the wished range is never narrower than `ROOM` squared and an end that is held back is held back
    towards where it came from. Hence the loss does not rise with the magnitude at l_a nor fall with it at u_a.

    Only `target` moves the range, and only in training mode; all ranks see the same batch there, so they agree. A batch
    with a magnitude that is not finite moves nothing.

    Args:
        l_a: first lower bound of the magnitude, > 0.
        u_a: first upper bound, > `l_a`.
        l_m: least margin, radians.
        u_m: greatest margin, radians, above `l_m`, at most pi/2.
        lambda_g: weight of the regularizer at first, at least its lower bound; `None` takes the bound.
        s: scale of the logits.
        regularizer: see `MagFace`.
        easy_margin: see `MagFace`.
        clamp: see `MagFace`.

    Attributes:
        log_range: `(2,)` float32, logarithms of l_a and u_a now.
        log_percentiles: `(2,)` float32, running mean of the logarithms of the batches' 1st and 99th percentile.

    Raises:
        ValueError: the bounds are out of order, the margins equal, or lambda_g is below its bound.

    Example:
        >>> loss = SelfTuning(10, 110, 0.45, 0.8)
        >>> for _ in range(1000):
        ...     _ = loss.target(torch.full((8,), 0.5), torch.linspace(4, 20, 8))
        >>> 5 < loss.l_a < 10 and 55 < loss.u_a < 110
        True
    """

    log_range: Tensor
    log_percentiles: Tensor

    def __init__(
        self,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_m: float = 0.45,
        u_m: float = 0.8,
        lambda_g: float | None = None,
        s: float = 64.0,
        regularizer: Regularizer = "hyperbolic",
        easy_margin: bool = True,
        clamp: Literal["margin", "both"] = "margin",
    ) -> None:
        super().__init__(s)
        first = MagFace(l_a, u_a, l_m, u_m, None, s, regularizer, easy_margin, clamp)
        if l_m == u_m:
            raise ValueError(f"a range can only be tuned where the margin grows, but l_m = u_m = {l_m}; use MagFace.")
        if lambda_g is not None and lambda_g < first.lambda_g:
            raise ValueError(
                f"lambda_g = {lambda_g:g} is below its lower bound {first.lambda_g:.3f} at s = {s:g}; leave it out, or "
                f"use at least {first.lambda_g:.3f}."
            )
        self.headroom = 1.0 if lambda_g is None else lambda_g / first.lambda_g
        self.l_m, self.u_m = l_m, u_m
        self.form, self.easy_margin, self.clamp = regularizer, easy_margin, clamp
        ends = torch.tensor([math.log(l_a), math.log(u_a)])
        self.register_buffer("log_range", ends)
        self.register_buffer("log_percentiles", ends + math.log(ROOM) * torch.tensor([1.0, -1.0]))
        self.register_buffer("_first", ends.clone())

    @property
    def now(self) -> MagFace:
        """MagFace at the range of this step."""
        l_a, u_a = self.log_range.exp().tolist()
        bound = lambda_g_lower_bound(l_a, u_a, self.l_m, self.u_m, self.s, self.form)
        lambda_g = self.headroom * bound
        return MagFace(l_a, u_a, self.l_m, self.u_m, lambda_g, self.s, self.form, self.easy_margin, self.clamp)

    @property
    def l_a(self) -> float:
        """Lower bound of the magnitude now."""
        return self.now.l_a

    @property
    def u_a(self) -> float:
        """Upper bound of the magnitude now."""
        return self.now.u_a

    @property
    def lambda_g(self) -> float:
        """Weight of the regularizer now."""
        return self.now.lambda_g

    def margin(self, a: Tensor) -> Tensor:
        """Margin of each magnitude now: `(B,)` -> `(B,)` radians, within [l_m, u_m]."""
        return self.now.margin(a)

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """See `MagFace.target`; in training mode the range moves first."""
        if self.training and len(magnitude):
            self._follow(magnitude.detach())
        return self.now.target(cosine, magnitude)

    def penalty(self, magnitude: Tensor) -> Tensor:
        """See `MagFace.penalty`."""
        return self.now.penalty(magnitude)

    @torch.no_grad()
    def _follow(self, magnitude: Tensor) -> None:
        first: Tensor = self.get_buffer("_first")
        a = magnitude.to(first.dtype)
        log_a = a.log().clamp(first[0] - math.log(10), first[1] + math.log(10))  # a single face of 0 is not -inf
        percentiles = torch.quantile(log_a, torch.tensor(PERCENTILES, dtype=first.dtype, device=first.device))
        room = math.log(ROOM) * torch.tensor([-1.0, 1.0], dtype=first.dtype, device=first.device)
        running = self.log_percentiles.lerp(percentiles, MEMORY)
        wished = (FOLLOW * (running + room - first)).clamp(-math.log(REACH), math.log(REACH))
        moved = self.log_range + (first + wished - self.log_range).clamp(-RATE, RATE)
        finite = a.isfinite().all()
        self.log_percentiles.copy_(torch.where(finite, running, self.log_percentiles))
        self.log_range.copy_(torch.where(finite, moved, self.log_range))
