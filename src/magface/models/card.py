"""The model card: everything a model file says about itself, kept inside the file.

An ONNX file is a protobuf message; its field 14 holds metadata, and the card is the JSON under the key `magface.card`.
The other fields (graph and weights) are what the fingerprint is the hash of, so a card can be rewritten
without making another model of it. Files are hostile input: any bytes give a card or a `ModelError`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from magface.errors import ModelError

T = TypeVar("T")


class _Rated(Protocol):
    @property
    def fmr(self) -> float: ...


R = TypeVar("R", bound=_Rated)

KEY = b"magface.card"
_GRAPH, _METADATA = 7, 14
_MAX_CARD = 1 << 20
_MAX_FILE = 1 << 31


@dataclass(frozen=True, slots=True)
class Quality:
    """Sigmoid from magnitude to score: `100 / (1 + exp((a0 - a) / w))`.

    Attributes:
        a0: magnitude of score 50, > 0.
        w: width, > 0: one `w` above `a0` the score is 73.
    """

    a0: float
    w: float

    def __post_init__(self) -> None:
        _number(self.a0, "quality.a0", low=0, open_low=True)
        _number(self.w, "quality.w", low=0, open_low=True)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Two faces are the same person when `cosine(x, y) >= cosine`.

    Attributes:
        fmr: false match rate measured at it, within (0, 1).
        cosine: within [-1, 1].
        impostors: comparisons of different people that it rests on.
    """

    fmr: float
    cosine: float
    impostors: int

    def __post_init__(self) -> None:
        _number(self.fmr, "thresholds.fmr", low=0, high=1, open_low=True)
        _number(self.cosine, "thresholds.cosine", low=-1, high=1)
        _count(self.impostors, "thresholds.impostors")


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a genuine pair is missed at a threshold, by the magnitude of its worse picture; K bands.

    Attributes:
        fmr: false match rate of the threshold, within (0, 1).
        cosine: the threshold, within [-1, 1].
        magnitude: K rising magnitudes, >= 0: where each band begins.
        fnmr: K false non-match rates within [0, 1], not rising.
        genuine: K counts, genuine pairs behind each.
    """

    fmr: float
    cosine: float
    magnitude: tuple[float, ...]
    fnmr: tuple[float, ...]
    genuine: tuple[int, ...]

    def __post_init__(self) -> None:
        _number(self.fmr, "reliability.fmr", low=0, high=1, open_low=True)
        _number(self.cosine, "reliability.cosine", low=-1, high=1)
        _bands(self.magnitude, "reliability", fnmr=self.fnmr, genuine=self.genuine)
        for value in self.fnmr:
            _number(value, "reliability.fnmr", low=0, high=1)
        for count in self.genuine:
            _count(count, "reliability.genuine")
        _require(list(self.fnmr) == sorted(self.fnmr, reverse=True), "reliability.fnmr must not rise")


@dataclass(frozen=True, slots=True)
class Bands:
    """Thresholds that hold the false match rate in each band of quality; K bands.

    Attributes:
        fmr: false match rate in every band, within (0, 1).
        magnitude: K rising magnitudes of the worse picture, >= 0: where each band begins.
        cosine: K thresholds within [-1, 1].
        impostors: K counts, comparisons of different people behind each.
    """

    fmr: float
    magnitude: tuple[float, ...]
    cosine: tuple[float, ...]
    impostors: tuple[int, ...]

    def __post_init__(self) -> None:
        _number(self.fmr, "bands.fmr", low=0, high=1, open_low=True)
        _bands(self.magnitude, "bands", cosine=self.cosine, impostors=self.impostors)
        for value in self.cosine:
            _number(value, "bands.cosine", low=-1, high=1)
        for count in self.impostors:
            _count(count, "bands.impostors")


@dataclass(frozen=True, slots=True)
class ScoreThreshold:
    """Two faces are the same person when their quality-aware score reaches `score`.

    Attributes:
        fmr: false match rate measured at it, within (0, 1).
        score: of `quality.qmagface.score`.
        impostors: comparisons of different people that it rests on.
    """

    fmr: float
    score: float
    impostors: int

    def __post_init__(self) -> None:
        _number(self.fmr, "comparison.thresholds.fmr", low=0, high=1, open_low=True)
        _number(self.score, "comparison.thresholds.score")
        _count(self.impostors, "comparison.thresholds.impostors")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Constants of the quality-aware score of QMagFace: `s + min(0, beta * s - alpha) * q`.

    Attributes:
        alpha: > 0.
        beta: > 0; with 0 the score would not depend on quality as it should.
        thresholds: of the score, one for each false match rate; may be empty where only the constants are known.
    """

    alpha: float
    beta: float
    thresholds: tuple[ScoreThreshold, ...] = ()

    def __post_init__(self) -> None:
        _number(self.alpha, "comparison.alpha", low=0, open_low=True)
        _number(self.beta, "comparison.beta", low=0, open_low=True)
        _require(_all(self.thresholds, ScoreThreshold), "comparison.thresholds must be a list")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One measured number and the command that measures it again."""

    name: str
    value: float
    unit: str
    command: str

    def __post_init__(self) -> None:
        for field in ("name", "unit", "command"):
            _text(getattr(self, field), f"benchmarks.{field}")
        _number(self.value, "benchmarks.value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a model is, how it was made, and how its numbers are to be read.

    Attributes:
        name: of the model.
        version: of the model.
        licence: SPDX expression.
        notices: what the licences of its parts ask to be said.
        training_data: what it was trained on, and from where that came.
        recipe: file or command that makes it again.
        backbone: name in `magface.backbones`.
        template: `(5, 2)`, pixels of the 112x112 crop where the landmarks go.
        detector: that found the faces of training and benchmarks.
        embedding_size: `D`, >= 1.
        magnitude_percentiles: 101 magnitudes, not falling: percentiles 0 to 100 of a reference population.
        quality: sigmoid from magnitude to score.
        thresholds: one for each false match rate.
        cluster_threshold: cosine at which average linkage stops merging.
        benchmarks: measured numbers.
        preprocessing: what the network itself does to the pixels, for people to read; "" where nobody wrote it down.
        population: whose faces the percentiles are of, for people to read; "" where nobody wrote it down.
        reliability: expected FNMR by quality, one for each false match rate; empty where it was not measured.
        bands: thresholds by quality, one for each false match rate; empty where they were not measured.
        comparison: constants of the quality-aware score; None where they were not fitted, or do not help.
        sha256: hex hash of the model; `attach` sets it.

    Raises:
        ModelError: a field has the wrong type or range.
    """

    name: str
    version: str
    licence: str
    notices: str
    training_data: str
    recipe: str
    backbone: str
    template: tuple[tuple[float, float], ...]
    detector: str
    embedding_size: int
    magnitude_percentiles: tuple[float, ...]
    quality: Quality
    thresholds: tuple[Threshold, ...]
    cluster_threshold: float
    benchmarks: tuple[Benchmark, ...] = ()
    preprocessing: str = ""
    population: str = ""
    reliability: tuple[Reliability, ...] = ()
    bands: tuple[Bands, ...] = ()
    comparison: Comparison | None = None
    sha256: str = ""

    def __post_init__(self) -> None:
        described = ("name", "version", "licence", "notices", "training_data", "recipe", "backbone", "detector")
        for field in (*described, "preprocessing", "population"):
            _text(getattr(self, field), field)
        _require(self.name and self.backbone, "name and backbone must not be empty")
        _require(isinstance(self.sha256, str), "sha256 must be text")
        _count(self.embedding_size, "embedding_size")
        _number(self.cluster_threshold, "cluster_threshold", low=-1, high=1)
        self._check_template()
        self._check_percentiles()
        _require(isinstance(self.quality, Quality), "quality must hold a0 and w")
        _require(_all(self.thresholds, Threshold) and self.thresholds, "thresholds must hold at least one")
        _require(_all(self.benchmarks, Benchmark), "benchmarks must be a list")
        _require(_all(self.reliability, Reliability), "reliability must be a list")
        _require(_all(self.bands, Bands), "bands must be a list")
        _require(self.comparison is None or isinstance(self.comparison, Comparison), "comparison must hold constants")

    def _check_template(self) -> None:
        _require(_all(self.template, tuple) and len(self.template) == 5, "template must be five points")
        for point in self.template:
            _require(len(point) == 2, "template must be five (x, y) points")
            for value in point:
                _number(value, "template", low=0, high=112)

    def _check_percentiles(self) -> None:
        values = self.magnitude_percentiles
        _require(isinstance(values, tuple) and len(values) == 101, "magnitude_percentiles must be 101 numbers")
        for value in values:
            _number(value, "magnitude_percentiles", low=0)
        _require(list(values) == sorted(values), "magnitude_percentiles must not fall")

    def threshold(self, fmr: float) -> Threshold:
        """Threshold measured at a false match rate.

        Raises:
            ModelError: the card has none at `fmr`.
        """
        found = at(self.thresholds, fmr)
        if found is not None:
            return found
        known = ", ".join(f"{threshold.fmr:g}" for threshold in self.thresholds)
        raise ModelError(f"the model has no threshold at FMR {fmr:g}; it has {known}.")

    def to_json(self) -> str:
        """JSON of one line, with the same bytes for the same card."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True, allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes) -> Card:
        """Card of a JSON text.

        Raises:
            ModelError: the text is not JSON, or not that of a card.

        Example:
            >>> Card.from_json("{}")
            Traceback (most recent call last):
            ...
            magface.errors.ModelError: the model card is not valid: it lacks backbone, cluster_threshold, ...
        """
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _invalid("it is not JSON") from error
        _fits(fields, Card, "it")
        _fits(fields["quality"], Quality, "quality")
        fields["quality"] = Quality(**fields["quality"])
        fields["thresholds"] = _each(fields["thresholds"], Threshold, "thresholds")
        fields["benchmarks"] = _each(fields.get("benchmarks", []), Benchmark, "benchmarks")
        fields["reliability"] = _banded(fields.get("reliability", []), Reliability, "reliability")
        fields["bands"] = _banded(fields.get("bands", []), Bands, "bands")
        fields["comparison"] = _comparison(fields.get("comparison"))
        fields["magnitude_percentiles"] = _tuple(fields["magnitude_percentiles"], "magnitude_percentiles")
        fields["template"] = tuple(_tuple(point, "template") for point in _tuple(fields["template"], "template"))
        return Card(**fields)


def at(entries: Iterable[R], fmr: float) -> R | None:
    """What a list of a card holds at a false match rate; None where it holds nothing there.

    Example:
        >>> at([Threshold(1e-2, 0.3, 1000), Threshold(1e-3, 0.4, 1000)], 0.001).cosine
        0.4
    """
    return next((entry for entry in entries if math.isclose(entry.fmr, fmr, rel_tol=1e-6)), None)


def content(model: str | Path | bytes) -> bytes:
    """Bytes of a model file; bytes are given back as they are.

    Raises:
        ModelError: the file is missing, not readable, or of 2 GB and more.
    """
    if isinstance(model, bytes):
        return model
    path = Path(model)
    try:
        if not path.is_file():
            raise ModelError(f"there is no model file {path}; check the path.")
        if path.stat().st_size >= _MAX_FILE:
            raise ModelError(f"{path} is too large to be an ONNX model; check the path.")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the model {path} ({error.strerror}); check the path.") from error


def read(model: str | Path | bytes) -> tuple[Card, str]:
    """Card and fingerprint of a model file, whole and unchanged since the card was attached.

    Args:
        model: an `.onnx` file, or its bytes.

    Returns:
        The card, and the fingerprint: hex sha256 of everything in the file but its metadata.

    Raises:
        ModelError: the file is missing, not a model, without a card, damaged, or its card is not valid.
    """
    fingerprint, texts = _walk(content(model))
    if not texts:
        raise ModelError(
            "the model has no card, so its magnitudes and thresholds would be unknown; "
            "use a model made by `magface export` or `magface import`."
        )
    if len(texts) > 1:
        raise ModelError("the model has more than one card; export it again with `magface export`.")
    if len(texts[0]) > _MAX_CARD:
        raise _invalid("it is larger than 1 MB")
    card = Card.from_json(texts[0])
    if card.sha256 != fingerprint:
        raise ModelError("the model does not have the hash in its card: it is damaged or was changed; get it again.")
    return card, fingerprint


def attach(model: bytes, card: Card) -> bytes:
    """Bytes of the model with `card` as its only metadata, whose `sha256` is set to the hash of the rest.

    Raises:
        ModelError: `model` is not an ONNX model, or the card is larger than 1 MB.
    """
    fingerprint, _ = _walk(model)
    kept = b"".join(model[field.start : field.end] for field in _fields(model) if field.number != _METADATA)
    text = dataclasses.replace(card, sha256=fingerprint).to_json().encode()
    if len(text) > _MAX_CARD:
        raise _invalid("it is larger than 1 MB")
    return kept + _encoded(_METADATA, _encoded(1, KEY) + _encoded(2, text))


def _walk(model: bytes) -> tuple[str, list[bytes]]:
    """Fingerprint of a model, and every text stored under the card's key."""
    digest = hashlib.sha256()
    texts = []
    numbers = set()
    view = memoryview(model)
    for field in _fields(model):
        numbers.add(field.number)
        if field.number != _METADATA:
            digest.update(view[field.start : field.end])
        elif field.wire == 2:
            entry = model[field.value : field.end]
            parts = {part.number: entry[part.value : part.end] for part in _fields(entry) if part.wire == 2}
            if parts.get(1) == KEY:
                texts.append(parts.get(2, b""))
    if _GRAPH not in numbers:
        raise _not_a_model()
    return digest.hexdigest(), texts


class _Field(NamedTuple):
    number: int
    wire: int
    start: int
    value: int
    end: int


def _fields(message: bytes) -> Iterator[_Field]:
    """Fields of a protobuf message: where each starts, where its value starts, and where it ends."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        value, end = _span(message, position, tag & 7)
        if end > len(message) or not tag >> 3:
            raise _not_a_model()
        yield _Field(tag >> 3, tag & 7, start, value, end)
        position = end


def _span(message: bytes, position: int, wire: int) -> tuple[int, int]:
    match wire:
        case 0:
            return position, _varint(message, position)[1]
        case 1:
            return position, position + 8
        case 2:
            length, value = _varint(message, position)
            return value, value + length
        case 5:
            return position, position + 4
        case _:
            raise _not_a_model()


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, position + shift + 1
    raise _not_a_model()


def _encoded(number: int, value: bytes) -> bytes:
    head = b""
    for part in (number << 3 | 2, len(value)):
        while part >= 128:
            head += bytes([part & 127 | 128])
            part >>= 7
        head += bytes([part])
    return head + value


def _not_a_model() -> ModelError:
    return ModelError("the file is damaged or not an ONNX model; get it again, or export it with `magface export`.")


def _invalid(reason: str) -> ModelError:
    return ModelError(f"the model card is not valid: {reason}; get the model again, or export it again.")


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise _invalid(reason)


def _text(value: Any, name: str) -> None:
    _require(isinstance(value, str), f"{name} must be text")


def _count(value: Any, name: str) -> None:
    _require(type(value) is int and 1 <= value < 1 << 53, f"{name} must be a whole number of at least 1")


def _number(value: Any, name: str, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> None:
    # JSON has integers of any size, which no float can hold
    known = type(value) is float or (type(value) is int and abs(value) < 1 << 53)
    _require(known and math.isfinite(value), f"{name} must be a number")
    _require(low <= value <= high and not (open_low and value == low), f"{name} is out of range")


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, kind) for value in values)


def _tuple(values: Any, name: str) -> tuple[Any, ...]:
    _require(isinstance(values, list), f"{name} must be a list")
    return tuple(values)


def _each(values: Any, kind: type[T], name: str) -> tuple[T, ...]:
    entries = _tuple(values, name)
    for value in entries:
        _fits(value, kind, f"an entry of {name}")
    return tuple(kind(**value) for value in entries)


def _banded(values: Any, kind: type[T], name: str) -> tuple[T, ...]:
    """As `_each`, of a class that holds lists."""
    lists = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in _tuple(values, name)
    ]
    return _each(lists, kind, name)


def _comparison(value: Any) -> Comparison | None:
    if value is None:
        return None
    _fits(value, Comparison, "comparison")
    thresholds = _each(value.get("thresholds", []), ScoreThreshold, "comparison.thresholds")
    return Comparison(**{**value, "thresholds": thresholds})


def _bands(magnitude: Any, name: str, **columns: Any) -> None:
    """Hold the lists of a banded measure to one length, and their beginnings to rise."""
    _require(isinstance(magnitude, tuple) and magnitude, f"{name} needs at least one band")
    for value in magnitude:
        _number(value, f"{name}.magnitude", low=0)
    _require(all(a < b for a, b in pairwise(magnitude)), f"{name}.magnitude must rise")
    for key, values in columns.items():
        alike = isinstance(values, tuple) and len(values) == len(magnitude)
        _require(alike, f"{name}.{key} must hold one number for each band")


def _fits(fields: Any, kind: Any, name: str) -> None:
    """Hold a JSON object to the fields of a dataclass."""
    _require(isinstance(fields, dict), f"{name} must be a JSON object")
    known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(kind)}
    missing = sorted(key for key, needed in known.items() if needed and key not in fields)
    _require(not missing, f"{name} lacks {', '.join(missing)}")
    unknown = sorted(set(fields) - set(known))
    _require(not unknown, f"{name} has unknown fields: {', '.join(unknown)[:200]}")
