"""What a benchmark found, in a form that a table, a JSON file and a model card can take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from magface.metrics.identification import Rate, SearchPoint
from magface.metrics.quality import Efficiency
from magface.metrics.verification import OperatingPoint


@dataclass(frozen=True, slots=True)
class Measure:
    """One number.

    Attributes:
        name: what it is, in the field's words.
        value: None where the data cannot tell.
        interval: 95 %, of sampling error over comparisons; None where there is none.
        note: counts behind the number, or why there is none.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A receiver operating characteristic, at as many points as a plot needs.

    Attributes:
        fmr: K false match rates, exact, rising from 0 to 1.
        tar: K true accept rates, exact, rising from 0 to 1.
        genuine: comparisons behind `tar`.
        impostor: comparisons behind `fmr`; rates below one of them are not measurable.
    """

    fmr: tuple[float, ...]
    tar: tuple[float, ...]
    genuine: int
    impostor: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Error versus discard of one quality method, a step function at K shares that rise from 0.

    Attributes:
        discarded: K shares of the comparisons discarded, below 1: where each step begins.
        error: K error rates of what is kept, 0 to 1.
        band: K 95 % intervals of `error` over people; empty where they were not drawn.
        kind: `FNMR` of genuine pairs, or `FMR` of impostor pairs.
        start: what fixed the threshold, as in `FMR 0.001`.
        comparisons: behind `error` where nothing is discarded.
    """

    discarded: tuple[float, ...]
    error: tuple[float, ...]
    band: tuple[tuple[float, float], ...] = ()
    kind: str = "FNMR"
    start: str = ""
    comparisons: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """An image to look at.

    Attributes:
        image: its name in the data.
        caption: what was found of it.
    """

    image: str
    caption: str


@dataclass(frozen=True, slots=True)
class Result:
    """All numbers of one benchmark and one model.

    Attributes:
        benchmark: name.
        model: fingerprint of the model.
        measures: the numbers in reading order.
        counts: images, comparisons and what is missing of them.
        failures: image name to the reason why it has no embedding.
        protocol: how the embeddings were compared, and what became of pairs that lack an image.
        curves: by name.
        discards: error versus discard by name; `ideal` is the best that any order could do.
        samples: images to look at, by group.
    """

    benchmark: str
    model: str
    measures: tuple[Measure, ...]
    counts: Mapping[str, int]
    failures: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    discards: Mapping[str, Discard] = field(default_factory=dict)
    samples: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | None:
        """Value of the measure called `name`.

        Raises:
            KeyError: there is none of this name.
        """
        return {measure.name: measure.value for measure in self.measures}[name]

    def as_dict(self) -> dict[str, Any]:
        """The result as plain dictionaries, lists and numbers.

        Example:
            >>> Result("lfw", "f00d", (Measure("accuracy", 0.99),), {"pairs": 2}).as_dict()["measures"]
            [{'name': 'accuracy', 'value': 0.99, 'interval': None, 'note': ''}]
        """
        plain = asdict(self)
        return {**plain, "measures": list(plain["measures"])}


def number(name: str, value: float, note: str = "") -> Measure:
    """A measure whose NaN means that the data cannot tell."""
    return Measure(name, None if math.isnan(value) else value, note=note)


def rate_measure(name: str, found: Rate, of: str) -> Measure:
    """A share of trials, which are called `of`."""
    return Measure(name, found.share, found.interval, found.reason or f"{found.hits:,} of {found.trials:,} {of}")


def tar_measure(point: OperatingPoint) -> Measure:
    """The true accept rate at one false match rate."""
    name = f"TAR@FMR={point.fmr:g}"
    if point.threshold is None:
        return Measure(name, None, note=point.reason)
    note = f"cosine >= {point.threshold:.4f}: {point.accepted:,} of {point.impostor:,} impostors"
    return Measure(name, point.tar, point.interval, note)


def tpir_measure(point: SearchPoint) -> Measure:
    """The true positive identification rate at one false positive identification rate."""
    name = f"TPIR@FPIR={point.fpir:g}"
    if point.tpir is None:
        return Measure(name, None, note=point.reason)
    note = f"cosine >= {point.threshold:.4f}: {point.accepted:,} of {point.non_mated:,} non-mated searches"
    return Measure(name, point.tpir, point.interval, note)


def edc_measures(found: Efficiency) -> tuple[Measure, Measure]:
    """Error versus discard: r and efficiency."""
    note = f"{found.errors:,} of {found.pairs:,} genuine pairs wrong"
    return Measure("EDC r", found.r, note=note), Measure("EDC efficiency", found.efficiency, found.interval, note)
