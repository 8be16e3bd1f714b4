"""Thresholds by quality: the false match rate that one threshold holds on average, held in every band of quality.

How much different people resemble each other depends on the quality of their pictures, in either direction: blur takes
away what tells faces apart, and clear pictures show likeness. So at one threshold false matches gather in some
qualities. Bands are of pairs, whose quality is that of the worse picture.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.verification import threshold_at_fmr
from magface.models.card import Bands

BANDS = 10
"""Bands, at most."""
FALSE_MATCHES = 30
"""Expected in each band at the least; there are fewer bands where there would be fewer."""

F64 = NDArray[np.float64]


def fit(impostor: ArrayLike, quality: ArrayLike, fmr: float, *, limit: int = BANDS) -> Bands:
    """Thresholds that hold a false match rate in bands of equally many comparisons of different people.

    Equation: threshold of band b = t + w (t_b - t), t and t_b at the rate in all pairs and in the band, w = m v / (1 +
    m v), m = fmr n_b the false matches expected in it, v = max(0, sum_b (x_b - m)^2 - m) / sum_b m^2, x_b those at t

    The shrinkage, as far as the false matches of the bands at the one threshold differ by no more than chance, keeps
    bands with few comparisons near it (empirical Bayes).

    Args:
        impostor: `(I,)` float, cosines of different people.
        quality: `(I,)` float, >= 0: the lower magnitude of each pair.
        fmr: false match rate, between 0 and 1, both excluded.
        limit: bands, at most; fewer where the comparisons do not suffice for 30 false matches in each, or where many
            pairs have the same quality. A single band says that one threshold has to do.

    Returns:
        The bands; the first begins at 0, so every magnitude lies in one.

    Raises:
        DataError: lengths differ, a number is NaN or infinite or a quality negative, there are fewer than `1 / fmr`
            comparisons, or `fmr` or `limit` is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> quality = rng.uniform(10, 20, 100_000)
        >>> alike = rng.normal(np.where(quality < 15, 0.2, 0.0), 0.1)  # bad pictures resemble each other
        >>> found = fit(alike, quality, 1e-2, limit=2)
        >>> np.round(found.magnitude), np.round(found.cosine, 2)
        (array([ 0., 15.]), array([0.43, 0.24]))
    """
    scores, q = _checked(impostor, quality, fmr, limit)
    everywhere = threshold_at_fmr(scores, fmr) if len(scores) else None
    if everywhere is None:
        needed = math.ceil(1 / fmr)
        raise DataError(f"FMR {fmr:g} needs {needed:,} comparisons of different people at least, not {len(scores):,}.")
    count = max(1, min(limit, math.floor(fmr * len(scores) / FALSE_MATCHES)))
    order = np.argsort(q, kind="stable")
    scores, q = scores[order], q[order]
    starts = np.unique(np.searchsorted(q, q[np.arange(count) * len(q) // count]))
    parts = np.split(scores, starts[1:])
    own = [threshold_at_fmr(part, fmr) for part in parts]
    shares = _shares(np.array([np.sum(part >= everywhere) for part in parts]), fmr * np.array([*map(len, parts)]))
    shrunk = [everywhere if t is None else everywhere + w * (t - everywhere) for t, w in zip(own, shares, strict=True)]
    return Bands(
        fmr=float(fmr),
        magnitude=(0.0, *q[starts[1:]].tolist()),
        cosine=tuple(min(float(t), 1.0) for t in shrunk),
        impostors=tuple(len(part) for part in parts),
    )


def threshold(magnitude: ArrayLike, bands: Bands) -> F64:
    """The threshold for pairs whose worse picture has this magnitude.

    Args:
        magnitude: `(...)` float, >= 0: the lower magnitude of each pair.
        bands: of a card, or of `fit`.

    Returns:
        `(...)` float64 cosines: accepted when `cosine >= threshold`. A magnitude below the first band has the threshold
        of that band; NaN for NaN.

    Example:
        >>> threshold([5.0, 10.0, 30.0], Bands(1e-3, (0.0, 10.0), (0.5, 0.4), (9000, 9000)))
        array([0.5, 0.4, 0.4])
    """
    a = np.asarray(magnitude, np.float64)
    band = np.clip(np.searchsorted(bands.magnitude, a, side="right") - 1, 0, None)
    return np.where(np.isnan(a), np.nan, np.asarray(bands.cosine)[band])


def _checked(impostor: ArrayLike, quality: ArrayLike, fmr: float, limit: int) -> tuple[F64, F64]:
    scores, q = np.asarray(impostor, np.float64), np.asarray(quality, np.float64)
    if scores.ndim != 1 or scores.shape != q.shape:
        raise DataError(f"each comparison needs one cosine and one quality; got shapes {scores.shape} and {q.shape}.")
    if not (np.isfinite(scores).all() and np.isfinite(q).all() and (q >= 0).all()):
        raise DataError("cosines or magnitudes are NaN, infinite or negative; leave out the comparisons that failed.")
    if not 0 < fmr < 1 or limit < 1:
        raise DataError(f"thresholds need a false match rate between 0 and 1, and a band; got {fmr} and {limit}.")
    return scores, q


def _shares(found: NDArray[np.integer], expected: F64) -> F64:
    """Weight of each band's own threshold, 0 to 1, from its false matches at the one threshold."""
    beyond_chance = max(0.0, float(np.sum((found - expected) ** 2 - expected) / np.sum(expected**2)))
    return expected * beyond_chance / (1 + expected * beyond_chance)
