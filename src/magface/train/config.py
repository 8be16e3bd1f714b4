"""A training run as one file: every setting of a recipe, what it means, and what it may be."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from magface.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which images of the data set train."""

    min_images: int = 10
    """Only people with at least so many images that are not suspect."""
    suspect: bool = False
    """Train on suspect images too; class centres never use them."""
    validation: float = 0.1
    """Share of people kept out of training, chosen by a hash of their names."""
    validation_seed: int = 0
    """Another number keeps other people out."""

    def __post_init__(self) -> None:
        _require(self.min_images >= 1, "min_images", "at least 1")
        _require(0 <= self.validation < 1, "validation", "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """How faces are made harder; see `magface.data.degradations`."""

    share: float = 0.5
    """Share of each batch that is degraded; the rest is clean."""
    none: float = 0.0
    """Probability that a crop of the degraded share stays as it is."""
    counts: tuple[float, ...] = (0.5, 0.3, 0.2)
    """Relative frequency of composing 1, 2, 3, ... degradations."""
    weights: dict[str, float] = field(default_factory=dict)
    """Relative frequency of single degradations; those not named have 1."""
    seed: int = 0
    """Draws the views; runs that share it share their features."""
    views: int = 0
    """With a frozen direction: degraded views of each image, drawn once, whose features are kept on disk; 0 draws anew
    in each epoch and keeps nothing."""
    steps: int = 0
    """Beside `views`: further views of each image, of one degradation alone in equal steps of rising strength."""

    def __post_init__(self) -> None:
        _require(0 <= self.share <= 1, "share", "0 to 1")
        _require(self.views >= 0, "views", "at least 0")
        _require(self.steps == 0 or (self.steps > 0 and self.views > 0), "steps", "at least 0, and 0 without views")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """MagFace and the class centres; see `magface.losses.magface.MagFace`."""

    l_a: float = 5.0
    """Least magnitude; choose it below those the network gives before training."""
    u_a: float = 20.0
    """Greatest magnitude; choose it above those the network gives before training."""
    l_m: float = 0.2
    """Margin at `l_a`, radians."""
    u_m: float = 0.9
    """Margin at `u_a`, radians."""
    lambda_g: float | None = None
    """Weight of the regularizer; left out: its lower bound."""
    s: float = 64.0
    """Scale of the logits."""
    regularizer: Literal["hyperbolic", "quadratic"] = "hyperbolic"
    """Form of g."""
    easy_margin: bool = True
    """No margin for faces beyond 90 degrees from their centre."""
    clamp: Literal["margin", "both"] = "margin"
    """Clamp the magnitude in m alone, or in g too."""
    centres: Literal["fixed", "learned"] = "fixed"
    """Keep the class centres at the teacher's mean directions, or train them from there."""
    negatives: Literal["centres", "orthogonal"] = "centres"
    """With a frozen direction: compare a face with all class centres, or with the mean of its person's other images
    and strangers at right angles; see `magface.heads.orthogonal`."""
    detach_direction: bool = False
    """Let this loss teach the magnitude alone."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What makes the magnitude fall with every step of a degradation: relu(step + log a_next - log a), averaged."""

    weight: float = 0.0
    """Weight of the term; 0 leaves it out."""
    step: float = 0.02
    """By how much the log of the magnitude shall fall at least."""

    def __post_init__(self) -> None:
        _require(self.weight >= 0, "weight", "at least 0")
        _require(self.step >= 0, "step", "at least 0")


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What holds a free direction to the network it started from; weights of terms, 0 leaves one out."""

    teacher: float = 0.0
    """Weight of 1 - cos to the teacher's embedding of the clean image, all faces."""
    clean: float = 0.0
    """Weight of the same on the clean share of a batch alone."""
    repulsion: float = 0.0
    """Weight of the mean of relu(cos - `above`)^2 over pairs of different people."""
    above: float = 0.2
    """Cosine above which different people repel."""

    def __post_init__(self) -> None:
        for name in ("teacher", "clean", "repulsion"):
            _require(getattr(self, name) >= 0, name, "at least 0")
        _require(-1 <= self.above <= 1, "above", "-1 to 1")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """AdamW, a warm-up and a cosine."""

    epochs: int = 12
    """Passes over the data."""
    batch: int = 256
    """Images of a step; the last, incomplete batch of an epoch is left out."""
    learning_rate: float = 1e-4
    """Greatest learning rate."""
    weight_decay: float = 0.01
    """AdamW's."""
    warmup: float = 0.1
    """Share of all steps during which the learning rate rises; it then falls to 0 along a cosine."""
    clip: float = 5.0
    """Greatest norm of the gradient."""
    workers: int = 1
    """Threads that prepare batches; they change the speed, not the result."""
    save_every: int = 100
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "workers", "save_every"):
            _require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("learning_rate", "clip"):
            _require(getattr(self, name) > 0, name, "above 0")
        _require(self.weight_decay >= 0, "weight_decay", "at least 0")
        _require(0 <= self.warmup < 1, "warmup", "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A fine-tuning run.

    Example:
        >>> Recipe(direction="free", distillation=Distillation(teacher=60)).loss.l_a
        5.0
    """

    backbone: str = "sface"
    """Name of the network, known to `magface.backbones.build`."""
    direction: Literal["frozen", "free"] = "frozen"
    """Train the magnitude branch alone, so that who is recognised stays as it was; or the network."""
    fixed: tuple[str, ...] = ()
    """With a free direction: parameters that do not train, as patterns such as `blocks.0.*`."""
    seed: int = 0
    """Decides the order of images, degradations drawn anew and the first weights of the branch."""
    data: Data = field(default_factory=Data)
    degradation: Degradation = field(default_factory=Degradation)
    loss: Loss = field(default_factory=Loss)
    order: Order = field(default_factory=Order)
    distillation: Distillation = field(default_factory=Distillation)
    optimization: Optimization = field(default_factory=Optimization)

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", "at least 0")
        _require(self.direction == "frozen" or not self.degradation.views, "degradation.views", "0 when it is free")
        _require(self.direction == "free" or not self.fixed, "fixed", "empty when the direction is frozen")
        _require(not self.order.weight or self.degradation.steps > 0, "order.weight", "0 without degradation.steps")
        held = any((self.distillation.teacher, self.distillation.clean, self.distillation.repulsion))
        known = self.direction == "frozen" or self.loss.negatives == "centres"
        _require(known, "loss.negatives", "'centres' when the direction is free")
        others = self.loss.negatives == "centres" or self.data.min_images >= 2
        _require(others, "data.min_images", "at least 2 when loss.negatives is 'orthogonal'")
        _require(self.direction == "free" or not held, "distillation", "0 throughout when the direction is frozen")


def load(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from a TOML file; what it leaves out has its default.

    Raises:
        DataError: the file is missing or not TOML, a setting is unknown (the nearest known one is named), or has a
            value it cannot have.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"the recipe {path} cannot be read: {error}.") from error
    try:
        return _build(Recipe, table, "")
    except ValueError as error:
        raise DataError(f"the recipe {path} does not work: {error}.") from error


def _require(holds: bool, name: str, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}")


def _build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            raise ValueError(f"there is no setting {where}{key}" + (f", perhaps {near[0]}" if near else ""))
    return cls(**{key: _value(value, hints[key], where + key) for key, value in table.items()})


def _value(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type that `hint` names."""
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _build(typing.cast("type[Any]", hint), value, f"{where}.")
    kind, arguments = typing.get_origin(hint), typing.get_args(hint)
    if kind is Literal and value in arguments:
        return value
    if kind is types.UnionType:
        return _value(value, arguments[0], where)
    if kind is tuple and isinstance(value, list):
        return tuple(_value(item, arguments[0], where) for item in value)
    if kind is dict and isinstance(value, dict):
        return {key: _value(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if kind is None and type(value) is hint:
        return value
    wanted = " or ".join(map(repr, arguments)) if kind is Literal else getattr(hint, "__name__", str(hint))
    raise ValueError(f"{where} must be {wanted}, not {value!r}")
