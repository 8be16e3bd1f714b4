"""A training run as one file: every setting of a recipe, what it means, and what it may be."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from magface.errors import DataError

T = TypeVar("T")


def _require(holds: bool, name: str, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {allowed}")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which images of the data set train."""

    min_images: int = 1
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

    share: float = 0.0
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
class Augmentation:
    """What happens to every clean crop; see `magface.data.augmentations`. Degraded ones are mirrored alone."""

    flip: float = 0.5
    """Probability of mirroring left to right."""
    crop: float = 0.0
    """Probability of keeping only a part of the crop, the rest black; AdaFace's is 0.2, likewise below."""
    low_resolution: float = 0.0
    """Probability of making the crop small and large again."""
    photometric: float = 0.0
    """Probability of another brightness, contrast and saturation."""

    def __post_init__(self) -> None:
        for name in ("flip", "crop", "low_resolution", "photometric"):
            _require(0 <= getattr(self, name) <= 1, f"augmentation.{name}", "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The margin, and what it is measured against; see `magface.losses`."""

    name: str = "magface"
    """Of the loss, known to `magface.losses.build`; or, with a frozen direction, `crfiqa`, which makes the magnitude a
    prediction of how classifiable a face is among the people that train, see `magface.losses.crfiqa`."""
    margin: dict[str, Any] = field(default_factory=dict)
    """Settings of that loss, such as `s` or `l_a`. What is left out has the paper's value; for MagFace over a network
    that is trained already, the one that its magnitudes ask for, see `magface.train.tuning`."""
    self_tuning: bool = False
    """MagFace: let the range of magnitudes follow those that the network gives; see `magface.losses.self_tuning`."""
    centres: Literal["fixed", "learned"] = "learned"
    """Train the class centres, or keep them where they start: at random directions, or in fine-tuning at the mean
    directions of the network that one starts from."""
    negatives: Literal["centres", "orthogonal"] = "centres"
    """With a frozen direction: compare a face with all class centres, or with the mean of its person's other images
    and strangers at right angles; see `magface.heads.orthogonal`."""
    detach_direction: bool = False
    """Let this loss teach the magnitude alone."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Where the class centres are; see `magface.heads`."""

    kind: Literal["full", "sharded", "sampled"] = "full"
    """`full`: all on every rank; `sharded`: split over the ranks; `sampled`: split, and only a random part of those
    without a face in the batch takes part in a step."""
    rate: float = 0.1
    """`sampled`: share of the centres that take part."""

    def __post_init__(self) -> None:
        _require(0 < self.rate <= 1, "head.rate", "above 0, at most 1")


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
    """The steps: how many, how far, and in which arithmetic."""

    epochs: int = 12
    """Passes over the data."""
    batch: int = 256
    """Images of a step, on all ranks together, at most: the images of an epoch are dealt evenly to its steps."""
    drop_last: bool = False
    """Make every batch full instead, and leave out of an epoch the images that are over."""
    accumulate: int = 1
    """Parts in which each rank works through its share of a batch, to save memory."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`sgd` has momentum."""
    learning_rate: float = 1e-4
    """Greatest learning rate."""
    momentum: float = 0.9
    """Of `sgd`."""
    weight_decay: float = 0.01
    """Of all that trains."""
    spare_norms: bool = False
    """Take normalisations and biases out of the weight decay."""
    schedule: Literal["cosine", "polynomial", "steps"] = "cosine"
    """How the learning rate falls after the warm-up: along a half cosine to 0, as (1 - progress)^`power`, or to a tenth
    at each epoch of `drops`."""
    power: float = 2.0
    """Of the polynomial."""
    drops: tuple[float, ...] = ()
    """Epochs, counted from 0, at whose beginning the learning rate falls."""
    warmup: float = 0.1
    """Share of all steps during which the learning rate rises."""
    clip: float = 5.0
    """Greatest norm of the gradient; `inf` clips nothing."""
    precision: Literal["f32", "bf16", "fp16"] = "f32"
    """Arithmetic of the network; class centres and loss are float32 always."""
    compile: bool = False
    """Let torch compile the network: a minute or more at the start, faster steps then."""
    norms: Literal["auto", "fixed", "batch", "sync"] = "auto"
    """Batch normalisation by its running statistics, by those of each rank's batch, or by those of all ranks (GPUs
    alone); `auto`: fixed in fine-tuning, else batch."""
    on_bad_loss: Literal["stop", "skip"] = "stop"
    """When a loss or gradient is not finite: stop before the step, or leave the step out."""
    skip_limit: int = 10
    """`skip`: stop at more such steps than this one after another."""
    workers: int = 1
    """Threads that prepare batches; they change the speed, not the result."""
    save_every: int = 100
    """Steps between checkpoints."""
    log_every: int = 1
    """Steps between lines of the log."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "workers", "save_every", "log_every"):
            _require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("learning_rate", "clip", "power"):
            _require(getattr(self, name) > 0, name, "above 0")
        for name in ("weight_decay", "skip_limit"):
            _require(getattr(self, name) >= 0, name, "at least 0")
        for name in ("warmup", "momentum"):
            _require(0 <= getattr(self, name) < 1, name, "at least 0 and below 1")
        _require(all(drop > 0 for drop in self.drops), "drops", "above 0")
        stepwise = self.schedule == "steps"
        _require(bool(self.drops) == stepwise, "drops", "given with schedule = 'steps', and only then")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A benchmark that is measured while training goes on; see `magface evaluate`."""

    benchmark: Literal["none", "lfw", "edc", "toy", "degradation"] = "none"
    """Which."""
    data: str = ""
    """Its folder or archive."""
    pairs: str = ""
    """`lfw`: the list of pairs; looked for in and beside `data` if not given."""
    every: int = 1
    """Epochs between measurements."""

    def __post_init__(self) -> None:
        _require(self.every >= 1, "validation.every", "at least 1")
        _require(bool(self.data) == (self.benchmark != "none"), "validation.data", "given with a benchmark, only then")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run, from the first weights or from those of a trained network.

    Example:
        >>> Recipe(distillation=Distillation(teacher=60)).loss.name
        'magface'
    """

    backbone: str = ""
    """Name of the network, known to `magface.backbones.build`; empty: that of the model to start from."""
    direction: Literal["frozen", "free"] = "free"
    """Train the network; or the magnitude branch alone, so that who is recognised stays as it was."""
    fixed: tuple[str, ...] = ()
    """With a free direction: parameters that do not train, as patterns such as `blocks.0.*`."""
    seed: int = 0
    """Decides the order of images, augmentations and degradations drawn anew, and all first weights."""
    data: Data = field(default_factory=Data)
    augmentation: Augmentation = field(default_factory=Augmentation)
    degradation: Degradation = field(default_factory=Degradation)
    loss: Loss = field(default_factory=Loss)
    head: Head = field(default_factory=Head)
    order: Order = field(default_factory=Order)
    distillation: Distillation = field(default_factory=Distillation)
    optimization: Optimization = field(default_factory=Optimization)
    validation: Validation = field(default_factory=Validation)

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", "at least 0")
        frozen = self.direction == "frozen"
        _require(frozen or not self.degradation.views, "degradation.views", "0 when the direction is free")
        _require(not frozen or not self.fixed, "fixed", "empty when the direction is frozen")
        _require(not self.order.weight or self.degradation.steps > 0, "order.weight", "0 without degradation.steps")
        orthogonal = self.loss.negatives == "orthogonal"
        _require(frozen or not orthogonal, "loss.negatives", "'centres' when the direction is free")
        several = not orthogonal or self.data.min_images >= 2
        _require(several, "data.min_images", "at least 2 when loss.negatives is 'orthogonal'")
        if self.loss.name == "crfiqa":
            _require(frozen, "direction", "'frozen' when loss.name is 'crfiqa'")
            _require(self.loss.centres == "fixed", "loss.centres", "'fixed' when loss.name is 'crfiqa'")
            _require(not orthogonal, "loss.negatives", "'centres' when loss.name is 'crfiqa'")
            _require(self.data.min_images >= 2, "data.min_images", "at least 2 when loss.name is 'crfiqa'")
        held = any((self.distillation.teacher, self.distillation.clean, self.distillation.repulsion))
        _require(not frozen or not held, "distillation", "0 throughout when the direction is frozen")
        _require(not frozen or self.head.kind == "full", "head.kind", "'full' when the direction is frozen")
        tunable = self.loss.name == "magface" or not self.loss.self_tuning
        _require(tunable, "loss.self_tuning", "false unless loss.name is 'magface'")
        rows = self.head.kind != "sampled" or self.optimization.optimizer == "sgd"
        _require(rows, "optimization.optimizer", "'sgd' when head.kind is 'sampled'")


FINETUNE = Recipe(
    data=Data(min_images=2),
    degradation=Degradation(share=0.5),
    distillation=Distillation(teacher=60.0, clean=100.0, repulsion=100.0),
    optimization=Optimization(epochs=4, batch=128),
)
"""For fine-tuning without a recipe: half of the images are degraded, and distillation keeps who is recognised."""


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
    if hint is Any or (kind is Literal and value in arguments):
        return value
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
