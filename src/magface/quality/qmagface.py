"""The quality-aware score of QMagFace: a cosine that counts for less evidence of another person where quality is low.

Below the cosine `alpha / beta` a pair loses in proportion to its quality, so the threshold on the cosine rises with
quality: `score >= t` says `cosine >= c - (c - t) / (1 + beta q)` with `c = alpha / beta`. It helps where genuine pairs
lose more of their cosine with quality than impostor pairs do. Where they do not, no constants help, and `fit` says so.
Where it helps, false matches move to pairs of low quality: the rate is held over all pairs, not in each quality, which
is what `bands` is for.

Source: Terhörst et al., "QMagFace: Simple and Accurate Quality-Aware Face Recognition", WACV 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.metrics.verification import threshold_at_fmr
from magface.models.card import Comparison, ScoreThreshold

PUBLISHED = {
    "iresnet18-magface": Comparison(alpha=0.092861, beta=0.135311),
    "iresnet50-magface": Comparison(alpha=0.065984, beta=0.103799),
    "iresnet100-magface": Comparison(alpha=0.077428, beta=0.125926),
}
"""Constants of the authors for the official networks, by name of the backbone; nothing is taken off cosines above
0.686, 0.636 and 0.615."""

FMRS = (1e-2, 1e-3, 1e-4)
FOLDS = 5
FALSE_MATCHES = 10
"""Impostors above the threshold that a false match rate needs to take part in a fit."""
CLEAR = 2.0
"""Standard errors by which a gain must exceed nothing."""

Method = Literal["search", "line"]

_IMPOSTORS = 300_000
"""Impostor pairs that a search looks at, at most."""
_STRENGTHS = np.geomspace(0.02, 8, 14)
"""Of `beta` times the median quality."""
_ENDS = 16
_OMEGAS, _RATES = np.linspace(-0.5, 0.5, 20), np.geomspace(1e-5, 1e-2, 50)

F64 = NDArray[np.float64]
Index = NDArray[np.integer]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fit:
    """Constants of a model, or why there are none.

    Attributes:
        comparison: the constants and thresholds of the score; None where the cosine alone does as well.
        reason: why there are none, else what they gain.
        gain: share of the false non-matches that the score removes on people who were left out, mean over false match
            rates and folds; NaN where that could not be measured.
        error: standard error of `gain` over the folds; NaN likewise.
        folds: `alpha` and `beta` of each fold, None where it found none.
    """

    comparison: Comparison | None
    reason: str
    gain: float = math.nan
    error: float = math.nan
    folds: tuple[tuple[float, float] | None, ...] = ()


def score(cosine: ArrayLike, quality: ArrayLike, comparison: Comparison) -> F64:
    """Quality-aware score of pairs.

    Equation: QMagFace (score = s + min(0, beta s - alpha) q, q = min(a_1, a_2))

    Args:
        cosine: `(...)` float, within [-1, 1].
        quality: `(...)` float, >= 0: the lower magnitude of each pair, in the unit of the constants.
        comparison: the constants.

    Returns:
        `(...)` float64: rising with the cosine, not rising with the quality, and the cosine itself from
        `alpha / beta` on. It may lie below -1.

    Example:
        >>> score([0.7, 0.3, 0.3], [20.0, 20.0, 10.0], PUBLISHED["iresnet100-magface"]).round(3)
        array([ 0.7  , -0.493, -0.097])
    """
    s, q = np.asarray(cosine, np.float64), np.asarray(quality, np.float64)
    return s + np.minimum(0.0, comparison.beta * s - comparison.alpha) * q


def fit(
    cosine: ArrayLike,
    quality: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    fmrs: Sequence[float] = FMRS,
    method: Method = "search",
    folds: int = FOLDS,
    seed: int = 0,
) -> Fit:
    """Constants of a model from pairs of labelled faces, kept only where they help on people who were left out.

    People fall into folds. For each fold the constants come from pairs of all other people, and the FNMR of the score
    on pairs inside the fold is compared with that of the cosine, each at its own threshold.

    Args:
        cosine: `(N,)` float, within [-1, 1].
        quality: `(N,)` float, >= 0: the lower magnitude of each pair; of any scale.
        first: `(N,)` int, the person of the first images.
        second: `(N,)` int, the person of the second images; pairs of one person are genuine.
        fmrs: false match rates at which FNMR is to be low, each between 0 and 1; those that would rest on fewer than
            10 impostors are left out.
        method: `search`, see `search`, or `line`, see `line`.
        folds: of people, at least 2. A fold holds `1 / folds ** 2` of randomly drawn impostor pairs, so give many.
        seed: of the folds.

    Returns:
        The constants, or None with the reason: there is nothing to gain or too little to measure it; the constants
        would not make a score of quality (see `problem`); or the gain is not above twice its standard error over folds.

    Raises:
        DataError: lengths differ, or a number is NaN, infinite or out of range.
    """
    pairs = _Pairs.of(cosine, quality, np.asarray(first), np.asarray(second))
    rates = _measurable(pairs, fmrs)
    if not rates:
        return Fit(None, f"{pairs.impostors:,} impostor and {pairs.genuines:,} genuine pairs are too few to fit with.")
    inside = [(train, test, held) for train, test in pairs.folds(folds, seed) if (held := _measurable(test, rates))]
    if len(inside) < 2:
        return Fit(None, f"folds of {folds} hold too few people or impostor pairs to measure a gain; give more.")
    found = [_METHODS[method](train, rates) for train, _, _ in inside]
    gains = np.array([_gain(test, each, held) for each, (_, test, held) in zip(found, inside, strict=True)])
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains)))
    constants = tuple(None if isinstance(each, str) else (each.alpha, each.beta) for each in found)
    whole = _METHODS[method](pairs, rates)
    if isinstance(whole, str):
        return Fit(None, whole, gain, error, constants)
    told = f"{gain:.1%} fewer false non-matches on people left out, standard error {error:.1%}"
    if not gain > CLEAR * error:
        return Fit(None, f"no clear gain over the cosine: {told}.", gain, error, constants)
    values = score(pairs.cosine, pairs.quality, whole)[~pairs.same]
    thresholds = ((fmr, threshold_at_fmr(values, fmr)) for fmr in fmrs)
    kept = tuple(ScoreThreshold(fmr, value, len(values)) for fmr, value in thresholds if value is not None)
    return Fit(Comparison(whole.alpha, whole.beta, kept), f"{told}.", gain, error, constants)


def search(cosine: ArrayLike, quality: ArrayLike, same: ArrayLike, fmrs: Sequence[float] = FMRS) -> Comparison | str:
    """The constants with the lowest FNMR, relative to that of the cosine and on average over false match rates.

    All of a grid are tried: `alpha / beta`, the cosine at which nothing is taken off any more, from the threshold of
    the highest rate to 1, and `beta` times the median quality, so the unit of the quality does not matter.

    Args:
        cosine: `(N,)` float, within [-1, 1].
        quality: `(N,)` float, >= 0.
        same: `(N,)` bool, True for genuine pairs.
        fmrs: false match rates, see `fit`.

    Returns:
        The constants, or the reason why there are none.

    Raises:
        DataError: see `fit`.
    """
    pairs = _Pairs.labelled(cosine, quality, same)
    rates = _measurable(pairs, fmrs)
    return _searched(pairs, rates) if rates else "too few pairs to fit with."


def line(cosine: ArrayLike, quality: ArrayLike, same: ArrayLike) -> tuple[float, float]:
    """The constants by the procedure of the paper: the best weight of quality at each threshold, and a line through it.

    20 weights `w` from `-0.5 / max(q)` to `0.5 / max(q)` are tried at 50 false match rates from 1e-5 to 1e-2, as far as
    there are impostors for them. At each rate the weight with the lowest FNMR of `s + w q` is taken, the smallest of
    equally good ones, and its threshold `t`; `w = beta t - alpha` is their least-squares line.

    Differs from the official code: thresholds are those of `s + w q` and not of its sigmoid, as the line is applied to
    cosines; each belongs to the weight that was taken, rates that cannot be measured are left out, and of equally good
    weights the first does not win.

    Args:
        cosine: `(N,)` float, within [-1, 1].
        quality: `(N,)` float, >= 0.
        same: `(N,)` bool, True for genuine pairs.

    Returns:
        `alpha` and `beta` as they come, which may make no score; see `problem`. NaN where no rate can be measured.

    Raises:
        DataError: see `fit`.
    """
    return _line(_Pairs.labelled(cosine, quality, same))


def problem(alpha: float, beta: float, threshold: float) -> str:
    """What keeps constants from making a score that weighs quality.

    Args:
        alpha: any number.
        beta: any number.
        threshold: the cosine at which decisions are made, of the highest false match rate.

    Returns:
        Why the cosine should be used instead; "" where nothing is wrong.

    Example:
        >>> problem(0.077, 0.126, threshold=0.4)
        ''
        >>> problem(0.05, 0.0, threshold=0.4)
        'beta is 0: the weight of quality does not depend on the cosine.'
        >>> problem(0.03, 0.1, threshold=0.4)
        'nothing is taken off above cosine 0.300, and decisions are made at 0.400 and above: quality has no weight.'
    """
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        return "no constants follow from so few comparisons."
    if abs(beta) < 1e-9:
        return "beta is 0: the weight of quality does not depend on the cosine."
    if beta < 0 or alpha <= 0:
        return f"alpha {alpha:.4g} and beta {beta:.4g} must be positive: the score would reward what it should not."
    end = alpha / beta
    if end >= 1:
        return f"something is taken off up to cosine {end:.3f}: quality would weigh even where pictures are the same."
    if end <= threshold:
        return (
            f"nothing is taken off above cosine {end:.3f}, and decisions are made at {threshold:.3f} and above: "
            "quality has no weight."
        )
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """N pairs, checked."""

    cosine: F64
    quality: F64
    first: Index
    second: Index

    @staticmethod
    def of(cosine: ArrayLike, quality: ArrayLike, first: Index, second: Index) -> _Pairs:
        s, q = np.asarray(cosine, np.float64), np.asarray(quality, np.float64)
        if s.ndim != 1 or not s.shape == q.shape == first.shape == second.shape:
            shapes = ", ".join(str(column.shape) for column in (s, q, first, second))
            raise DataError(f"each pair needs a cosine, a quality and two people; got shapes {shapes}.")
        if not (np.isfinite(s).all() and np.isfinite(q).all() and (q >= 0).all()):
            raise DataError("cosines or qualities are NaN, infinite or negative; leave out the pairs that failed.")
        return _Pairs(s, q, first, second)

    @staticmethod
    def labelled(cosine: ArrayLike, quality: ArrayLike, same: ArrayLike) -> _Pairs:
        """Pairs of which only the kind is known."""
        genuine = np.asarray(same, bool)
        return _Pairs.of(cosine, quality, np.zeros(genuine.shape, np.int64), (~genuine).astype(np.int64))

    def __getitem__(self, rows: Mask) -> _Pairs:
        return _Pairs(self.cosine[rows], self.quality[rows], self.first[rows], self.second[rows])

    @property
    def same(self) -> Mask:
        """`(N,)` True for genuine pairs."""
        return np.asarray(self.first == self.second)

    @property
    def genuines(self) -> int:
        return int(self.same.sum())

    @property
    def impostors(self) -> int:
        return len(self.cosine) - self.genuines

    def folds(self, count: int, seed: int) -> Iterator[tuple[_Pairs, _Pairs]]:
        """Pairs of all other people, and pairs inside each fold of people."""
        people, number = np.unique([self.first, self.second], return_inverse=True)
        fold = (np.random.default_rng(seed).permutation(len(people)) % count)[number.reshape(2, -1)]
        for k in range(count):
            yield self[(fold != k).all(axis=0)], self[(fold == k).all(axis=0)]

    def sides(self) -> tuple[_Side, _Side]:
        """Genuine and impostor pairs, the latter thinned evenly to what a search looks at."""
        impostor = np.flatnonzero(~self.same)
        step = math.ceil(len(impostor) / _IMPOSTORS) if len(impostor) else 1
        rows = np.flatnonzero(self.same), impostor[::step]
        return _Side(self.cosine[rows[0]], self.quality[rows[0]]), _Side(self.cosine[rows[1]], self.quality[rows[1]])


class _Side(NamedTuple):
    """Genuine or impostor pairs."""

    cosine: F64
    quality: F64


def _measurable(pairs: _Pairs, fmrs: Sequence[float]) -> tuple[float, ...]:
    """Rates with impostors and genuine pairs enough."""
    for fmr in fmrs:
        if not 0 < fmr < 1:
            raise DataError(f"the false match rate must lie between 0 and 1; {fmr} does not.")
    return tuple(fmr for fmr in fmrs if fmr * pairs.impostors >= FALSE_MATCHES) if pairs.genuines else ()


def _operating(genuine: F64, impostor: F64, rates: Sequence[float]) -> tuple[F64, F64]:
    """FNMR and threshold at each rate."""
    allowed = np.floor(np.asarray(rates) * len(impostor) + 1e-9).astype(int)
    places = len(impostor) - 1 - allowed
    levels = np.partition(impostor, np.unique(places))[places]
    return np.array([np.mean(genuine <= level) for level in levels]), levels


def _searched(pairs: _Pairs, rates: Sequence[float]) -> Comparison | str:
    genuine, impostor = pairs.sides()
    plain, thresholds = _operating(genuine.cosine, impostor.cosine, rates)
    if not plain.any():
        return "the cosine misses no genuine pair at these false match rates: there is nothing to gain."
    unit = float(np.median(np.concatenate([genuine.quality, impostor.quality])))
    if unit == 0:
        return "most qualities are 0, so they tell nothing."
    lowest = min(float(thresholds.min()), 1.0)
    best, chosen = 1.0, None
    for end in np.linspace(max(lowest, 0.0), 1, _ENDS + 2)[1:-1]:
        for strength in _STRENGTHS:
            beta = float(strength) / unit
            tried = Comparison(float(end) * beta, beta)
            found, _ = _operating(score(*genuine, tried), score(*impostor, tried), rates)
            missed = float(np.mean(found[plain > 0] / plain[plain > 0]))
            if missed < best:
                best, chosen = missed, tried
    if chosen is None:
        return "no constants lower the FNMR: quality tells nothing that the cosine does not."
    return chosen


def _by_line(pairs: _Pairs, rates: Sequence[float]) -> Comparison | str:
    genuine, impostor = pairs.sides()
    _, thresholds = _operating(genuine.cosine, impostor.cosine, rates)
    alpha, beta = _line(pairs)
    return problem(alpha, beta, float(thresholds.min())) or Comparison(alpha, beta)


def _line(pairs: _Pairs) -> tuple[float, float]:
    genuine, impostor = pairs.sides()
    rates = [fmr for fmr in _RATES if fmr * len(impostor.cosine) >= 1]
    peak = max((float(side.quality.max()) for side in (genuine, impostor) if len(side.quality)), default=0.0)
    if len(rates) < 2 or not len(genuine.cosine) or peak == 0:
        return math.nan, math.nan
    weights = (
        _OMEGAS[np.argsort(np.abs(_OMEGAS), kind="stable")] / peak
    )  # the smallest of equally good ones comes first
    found = [
        _operating(genuine.cosine + w * genuine.quality, impostor.cosine + w * impostor.quality, rates) for w in weights
    ]
    fnmr, level = (np.array(part) for part in zip(*found, strict=True))
    taken = np.argmin(fnmr, axis=0)
    t, w = level[taken, np.arange(len(rates))], weights[taken]
    spread = t - t.mean()
    beta = float(spread @ w / (spread @ spread)) if spread.any() else math.nan
    return beta * float(t.mean()) - float(w.mean()), beta


def _gain(pairs: _Pairs, found: Comparison | str, rates: Sequence[float]) -> float:
    """Share of the false non-matches of the cosine that the score removes, mean over rates where there are any."""
    if isinstance(found, str):
        return 0.0
    genuine, impostor = (_Side(pairs.cosine[rows], pairs.quality[rows]) for rows in (pairs.same, ~pairs.same))
    plain, _ = _operating(genuine.cosine, impostor.cosine, rates)
    ours, _ = _operating(score(*genuine, found), score(*impostor, found), rates)
    return float(np.mean(1 - ours[plain > 0] / plain[plain > 0])) if plain.any() else 0.0


_METHODS: dict[Method, Callable[[_Pairs, Sequence[float]], Comparison | str]] = {"search": _searched, "line": _by_line}
