"""MagFace and Mag-CosFace: a margin that grows with the magnitude, and a reward for large magnitudes.

Source: Meng, Zhao, Huang, Zhou, "MagFace: A Universal Representation for Face Recognition and Quality Assessment",
CVPR 2021, arXiv:2103.06627; Mag-CosFace is the authors' extension, with a proof of its own.

Shape letters: B faces of the batch.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from magface.losses.arcface import widen
from magface.losses.margin import Margin, precise, require

Regularizer = Literal["hyperbolic", "quadratic"]
Clamp = Literal["margin", "both"]


def lambda_g_lower_bound(
    l_a: float, u_a: float, l_m: float, u_m: float, s: float = 64.0, regularizer: Regularizer = "hyperbolic"
) -> float:
    """Least weight of the regularizer for which every face has one optimal magnitude within [l_a, u_a].

    It is the weight at which the loss stops rising with the magnitude at `l_a`; g'(u_a) = 0 does the same at `u_a`.

    Equation: MagFace (lambda_g >= s K / -g'(l_a), K = (u_m - l_m) / (u_a - l_a)).

    Args:
        l_a: lower bound of the magnitude, > 0.
        u_a: upper bound of the magnitude, > `l_a`.
        l_m: margin at `l_a`, radians; for Mag-CosFace a difference of cosines.
        u_m: margin at `u_a`, in the same unit, >= `l_m`.
        s: scale of the logits.
        regularizer: form of g.

    Example:
        >>> round(lambda_g_lower_bound(10, 110, 0.45, 0.8), 3)
        22.587
        >>> round(lambda_g_lower_bound(10, 110, 0.35, 0.8), 3)
        29.04
    """
    slope = (u_m - l_m) / (u_a - l_a)
    if regularizer == "quadratic":
        return s * slope * u_a**2 / (2 * (u_a - l_a))
    return s * slope * u_a**2 * l_a**2 / (u_a**2 - l_a**2)


class MagnitudeAware(Margin):
    """What the angular and the cosine form share: m(a), g(a) and the check of lambda_g.

    Args:
        l_a: magnitude at which the margin is least, > 0.
        u_a: magnitude at which the margin is greatest, > `l_a`.
        l_m: least margin, 0 to `greatest`.
        u_m: greatest margin, `l_m` to `greatest`.
        lambda_g: weight of the regularizer; `None` takes its lower bound. A smaller one is used with a warning.
        s: scale of the logits, > 0.
        regularizer: form of g.
        clamp: where the magnitude is clamped.
        greatest: bound of the margins, in their unit.
        unit: of the margins, for messages.

    Raises:
        ValueError: the bounds are out of order, or an option is unknown.
    """

    def __init__(
        self,
        l_a: float,
        u_a: float,
        l_m: float,
        u_m: float,
        lambda_g: float | None,
        s: float,
        regularizer: Regularizer,
        clamp: Clamp,
        *,
        greatest: float,
        unit: str,
    ) -> None:
        super().__init__(s)
        if not 0 < l_a < u_a:
            raise ValueError(f"magnitudes need 0 < l_a < u_a, not l_a = {l_a}, u_a = {u_a}.")
        if not 0 <= l_m <= u_m <= greatest:
            raise ValueError(f"margins need 0 <= l_m <= u_m <= {unit}, not l_m = {l_m}, u_m = {u_m}.")
        require(regularizer in get_args(Regularizer), "regularizer", "'hyperbolic' or 'quadratic'", regularizer)
        require(clamp in get_args(Clamp), "clamp", "'margin' or 'both'", clamp)
        require(lambda_g is None or lambda_g >= 0, "lambda_g", "at least 0", lambda_g)
        bound = lambda_g_lower_bound(l_a, u_a, l_m, u_m, s, regularizer)
        if lambda_g is not None and lambda_g < bound:
            warnings.warn(
                f"lambda_g = {lambda_g:g} is below its lower bound {bound:.3f} at s = {s:g}: magnitudes of hard faces "
                f"will collapse to l_a; use at least {bound:.3f}.",
                stacklevel=3,
            )
        self.l_a, self.u_a, self.l_m, self.u_m = l_a, u_a, l_m, u_m
        self.lambda_g = bound if lambda_g is None else lambda_g
        self.form, self.clamp = regularizer, clamp

    def margin(self, a: Tensor) -> Tensor:
        """Margin of each magnitude.

        Equation: MagFace (m(a) = (u_m - l_m) / (u_a - l_a) (a - l_a) + l_m).

        Args:
            a: `(B,)` float, magnitudes, >= 0.

        Returns:
            `(B,)` radians, for Mag-CosFace a difference of cosines, within [l_m, u_m].
        """
        slope = (self.u_m - self.l_m) / (self.u_a - self.l_a)
        return slope * (precise(a).clamp(self.l_a, self.u_a) - self.l_a) + self.l_m

    def regularizer(self, a: Tensor) -> Tensor:
        """Convex g, falling from l_a to its least value at u_a.

        Equation: MagFace (g(a) = a / u_a^2 + 1 / a, or g(a) = a^2 / u_a^2 - 2 a / u_a).

        Args:
            a: `(B,)` float, magnitudes, >= 0.

        Returns:
            `(B,)`, finite for every finite magnitude.
        """
        a = precise(a)
        if self.clamp == "both":
            a = a.clamp(self.l_a, self.u_a)
        if self.form == "quadratic":
            return (a / self.u_a) ** 2 - 2 * a / self.u_a
        floor = self.l_a / 10
        held = a.clamp(min=floor)
        below = (floor - a).clamp(min=0) / floor**2
        return a / self.u_a**2 + 1 / held + below

    def penalty(self, magnitude: Tensor) -> Tensor:
        """Weighted regularizer of each face: `(B,)` magnitudes -> `(B,)`."""
        return self.lambda_g * self.regularizer(magnitude)


class MagFace(MagnitudeAware):
    """The magnitude-aware angular margin and its regularizer.

    Equation: MagFace (L = -log(exp(s cos(theta_y + m(a))) / (exp(s cos(theta_y + m(a))) + sum_j exp(s cos_j)))
    + lambda_g g(a)).

    Args:
        l_a: magnitude at which the margin is least, > 0.
        u_a: magnitude at which the margin is greatest, > `l_a`.
        l_m: least margin, radians.
        u_m: greatest margin, radians, `l_m` to pi/2.
        lambda_g: weight of the regularizer; `None` takes its lower bound, 22.587 for the other defaults, with which the
            authors train at 35. A smaller one is used with a warning.
        s: scale of the logits, > 0.
        regularizer: "hyperbolic", the form of the released checkpoints, or "quadratic", the form of the paper's text.
        easy_margin: leave faces beyond 90 degrees from their centre without a margin; else those with theta + m > pi
            get the straight line cos - m sin(m).
        clamp: "margin" clamps the magnitude to [l_a, u_a] in m alone, so that g still pulls back what lies outside;
            "both" clamps it in g too.

    Differs from the official code: that clamps both, has the easy margin fixed, and gives NaN gradients for a face on
    its class centre; here the cosine stays 1e-7 away from -1 and 1. Below l_a / 10 the hyperbolic g continues as its
    tangent, which keeps a magnitude of zero finite.

    Raises:
        ValueError: the bounds are out of order, or an option is unknown.

    Example:
        >>> loss = MagFace(10, 110, 0.45, 0.8)
        >>> loss.margin(torch.tensor([5.0, 60.0, 110.0]))
        tensor([0.4500, 0.6250, 0.8000])
        >>> loss.target(torch.tensor([0.9]), torch.tensor([60.0]))
        tensor([0.4748])
    """

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
        clamp: Clamp = "margin",
    ) -> None:
        limit, unit = torch.pi / 2, "pi/2 (radians)"
        super().__init__(l_a, u_a, l_m, u_m, lambda_g, s, regularizer, clamp, greatest=limit, unit=unit)
        self.easy_margin = easy_margin

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine of the angle to the own centre, widened by the margin: `(B,)`, `(B,)` -> `(B,)`."""
        return widen(cosine, self.margin(magnitude), easy_margin=self.easy_margin)


class MagCosFace(MagnitudeAware):
    """The magnitude-aware cosine margin and its regularizer.

    Equation: Mag-CosFace (L = -log(exp(s (cos_y - m(a))) / (exp(s (cos_y - m(a))) + sum_j exp(s cos_j)))
    + lambda_g g(a)).

    Args:
        l_a: magnitude at which the margin is least, > 0.
        u_a: magnitude at which the margin is greatest, > `l_a`.
        l_m: least margin, a difference of cosines.
        u_m: greatest margin, a difference of cosines, `l_m` to 1.
        lambda_g: weight of the regularizer; `None` takes its lower bound, 29.04 for the other defaults, with which the
            authors train at 150. A smaller one is used with a warning.
        s: scale of the logits, > 0.
        regularizer: see `MagFace`.
        clamp: see `MagFace`.

    Differs from the official code: that clamps the magnitude in g too. Below l_a / 10 the hyperbolic g continues as its
    tangent.

    Raises:
        ValueError: the bounds are out of order, or an option is unknown.

    Example:
        >>> MagCosFace(10, 110, 0.35, 0.8).target(torch.tensor([0.9]), torch.tensor([60.0]))
        tensor([0.3250])
    """

    def __init__(
        self,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_m: float = 0.35,
        u_m: float = 0.8,
        lambda_g: float | None = None,
        s: float = 64.0,
        regularizer: Regularizer = "hyperbolic",
        clamp: Clamp = "margin",
    ) -> None:
        unit = "1 (cosines)"
        super().__init__(l_a, u_a, l_m, u_m, lambda_g, s, regularizer, clamp, greatest=1.0, unit=unit)

    def target(self, cosine: Tensor, magnitude: Tensor) -> Tensor:
        """Cosine to the own centre less the margin: `(B,)`, `(B,)` -> `(B,)`."""
        return cosine - self.margin(magnitude)
