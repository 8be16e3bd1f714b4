"""Turning a face network into a MagFace: its magnitude alone, or all of it."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from magface import geometry
from magface.data.image_folder import ImageFolder
from magface.errors import DataError, EngineError, ModelError
from magface.heads.full import Full, direction
from magface.heads.orthogonal import Orthogonal
from magface.losses.magface import MagFace
from magface.train import loop, views
from magface.train.config import Distillation, Loss, Recipe
from magface.train.views import Views
from magface.types import F32

_SAMPLE, _CROPS = 2000, 200  # images from which the branch learns what features look like


class Batch(NamedTuple):
    """One step's faces.

    Attributes:
        names: B names of images.
        rows: `(B,)` int64, place in the training images.
        degraded: `(B,)` bool.
        inputs: `(B, 112, 112, 3)` uint8 crops, or `(B, ...)` float16 trunk features.
        embeddings: `(B, D)` float32 of those features, without the branch; None beside crops.
        steps: `(B, 1 + S, ...)` float16 features of the clean images and their steps; None without steps.
        step_embeddings: `(B, 1 + S, D)` float32, likewise.
    """

    names: list[str]
    rows: NDArray[np.int64]
    degraded: NDArray[np.bool_]
    inputs: NDArray[np.uint8] | NDArray[np.float16]
    embeddings: F32 | None
    steps: NDArray[np.float16] | None = None
    step_embeddings: F32 | None = None


def finetune(
    recipe: Recipe,
    backbone: nn.Module,
    faces: ImageFolder,
    out: Path,
    *,
    cache: Path | None = None,
    device: str = "cpu",
    restart: bool = False,
) -> Path:
    """Fine-tune a backbone into a MagFace, or go on with it.

    Args:
        recipe: every setting.
        backbone: the network to start from; `(N, 3, 112, 112)` float32 RGB 0..255 to `(N, D)` raw embeddings. With a
            frozen direction it has a module `branch`, and methods `trunk` and `embed`, such that it computes
            `embed(h) * exp(branch(h))` with `h = trunk(x)`. Trained in place, batch statistics
            fixed. A branch with a method `standardise` is first shown features.
        faces: the data set, before people are left out or kept for validation.
        out: folder of the run, for `checkpoint.pt` and `log.jsonl`.
        cache: folder for what is computed before training; `out` by default, may be shared by runs.
        device: torch device.
        restart: start again although `out` holds a checkpoint.

    Returns:
        Path of the checkpoint.

    Raises:
        DataError: too few images are left, the recipe does not fit the network, or a checkpoint is of another run.
        EngineError: torch cannot use the device.
        ModelError: the direction is to stay frozen but the network has no magnitude branch.
        TrainingError: the loss is not finite.
        StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    train = training_images(recipe, faces)
    try:
        # Crops lie in memory channel by channel of each pixel; a network that does too is twice as fast on a CPU.
        backbone.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    except (RuntimeError, AssertionError) as error:
        raise EngineError(f"torch has no device {device!r} here; take cpu, or install torch for it.") from error
    choose_parameters(recipe, backbone)
    known = views.compute(backbone, train, recipe, cache or out, device)
    clean = known.embeddings[:, 0]
    own = None
    if recipe.loss.negatives == "orthogonal":
        head: Full | Orthogonal = Orthogonal(len(train.people), margin(recipe.loss))
        own = own_centres(clean, train.labels, train.suspect)
    else:
        head = Full(
            len(train.people),
            clean.shape[1],
            margin(recipe.loss),
            centres=torch.from_numpy(class_centres(clean, train.labels, train.suspect)),
            frozen=recipe.loss.centres == "fixed",
            detach_direction=recipe.loss.detach_direction,
        )
    head.to(device)
    if recipe.direction == "frozen":
        prepare_branch(backbone, known, train, device)
    source = Source(recipe, train, known)
    criterion = Criterion(recipe, backbone, head, train.labels, clean, own, device)
    task = loop.Task(backbone, head, source.steps, source.batch, criterion, known.key)
    return loop.run(task, recipe, out, restart=restart)


def training_images(recipe: Recipe, faces: ImageFolder) -> ImageFolder:
    """What is left to train on after validation people, suspect images and people with few images are out.

    Raises:
        DataError: that is less than one batch.
    """
    train, _ = faces.split(recipe.data.validation, recipe.data.validation_seed)
    train = train.at_least(recipe.data.min_images)
    if not recipe.data.suspect:
        train = train[~train.suspect]
    if len(train) < recipe.optimization.batch:
        raise DataError(
            f"only {len(train)} images of people with at least {recipe.data.min_images} are left to train on, less "
            f"than one batch of {recipe.optimization.batch}; lower data.min_images or optimization.batch."
        )
    return train


def class_centres(embeddings: F32, labels: NDArray[np.int64], suspect: NDArray[np.bool_]) -> F32:
    """Mean direction of each person, weighted by the squared magnitude, suspect images left out.

    Args:
        embeddings: `(N, D)` float32, raw.
        labels: `(N,)` int64, 0..P-1.
        suspect: `(N,)` bool; each person has an image that is not.

    Returns:
        `(P, D)` float32, unit vectors.
    """
    _, sums = _weighted(embeddings, labels, suspect)
    return geometry.direction(sums).astype(np.float32)


def own_centres(embeddings: F32, labels: NDArray[np.int64], suspect: NDArray[np.bool_]) -> F32:
    """Class centre of each image's person made of the other images, so that no image is compared with itself.

    Args:
        embeddings: `(N, D)` float32, raw.
        labels: `(N,)` int64, 0..P-1.
        suspect: `(N,)` bool; each person has another image that is not.

    Returns:
        `(N, D)` float32, unit vectors.
    """
    weighted, sums = _weighted(embeddings, labels, suspect)
    return geometry.direction(sums[labels] - weighted).astype(np.float32)


def _weighted(
    embeddings: F32, labels: NDArray[np.int64], suspect: NDArray[np.bool_]
) -> tuple[F32, NDArray[np.float64]]:
    """What each image adds to its person, `(N, D)`, nothing where it is suspect, and the sums `(P, D)`."""
    weighted = geometry.magnitude(embeddings)[:, None] * embeddings * ~suspect[:, None]
    sums = np.zeros((labels.max() + 1, embeddings.shape[1]))
    np.add.at(sums, labels, weighted)
    return weighted, sums


def prepare_branch(backbone: nn.Module, known: Views, faces: ImageFolder, device: str) -> None:
    """Tell the branch what features look like, and let it drop units while it trains."""
    branch: Any = backbone.get_submodule("branch")
    rows = np.linspace(0, len(faces) - 1, min(len(faces), _SAMPLE)).astype(int)
    with torch.no_grad():
        if known.features is not None:
            features = torch.from_numpy(known.features[rows].reshape(-1, *known.features.shape[2:]))
        else:
            trunk: Any = backbone
            crops = [torch.from_numpy(faces.read(row))[None].to(device) for row in rows[:_CROPS]]
            features = torch.cat([trunk.trunk(views.to_network(crop)) for crop in crops])
    if hasattr(branch, "standardise"):
        branch.standardise(features.to(device))
    branch.train()


def margin(settings: Loss) -> MagFace:
    """The loss of a recipe.

    Raises:
        DataError: its bounds are out of order.
    """
    try:
        return MagFace(
            settings.l_a,
            settings.u_a,
            settings.l_m,
            settings.u_m,
            settings.lambda_g,
            settings.s,
            settings.regularizer,
            settings.easy_margin,
            settings.clamp,
        )
    except ValueError as error:
        raise DataError(f"the loss of the recipe does not work: {error}") from error


def choose_parameters(recipe: Recipe, backbone: nn.Module) -> None:
    """Let only those parameters train that the recipe names.

    Raises:
        DataError: a pattern in `fixed` matches no parameter.
        ModelError: there is no magnitude branch to train.
    """
    names = [name for name, _ in backbone.named_parameters()]
    if recipe.direction == "frozen":
        trained = {name for name in names if name.startswith("branch.")}
        if not trained:
            raise ModelError(f"{recipe.backbone} has no magnitude branch; use direction = 'free' with it.")
    else:
        idle = [pattern for pattern in recipe.fixed if not fnmatch.filter(names, pattern)]
        if idle:
            raise DataError(f"no parameter of {recipe.backbone} is called {', '.join(idle)}; correct `fixed`.")
        trained = set(names) - {name for pattern in recipe.fixed for name in fnmatch.filter(names, pattern)}
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)


class Source:
    """Batches, each decided by the seed and the number of its step alone.

    Args:
        recipe: settings.
        faces: N training images.
        known: their views; batches hold features when it does.
    """

    def __init__(self, recipe: Recipe, faces: ImageFolder, known: Views) -> None:
        self.faces, self.known, self.seed, self.size = faces, known, recipe.seed, recipe.optimization.batch
        self.degrade = views.degrade(recipe)
        self.steps_of = recipe.degradation.steps if recipe.order.weight else 0
        self.per_epoch = len(faces) // self.size
        self.steps = recipe.optimization.epochs * self.per_epoch
        self.degraded = np.arange(self.size) >= round(self.size * (1 - recipe.degradation.share))

    def batch(self, step: int) -> Batch:
        """The batch of a step: every image once an epoch, the last rows degraded."""
        epoch, position = divmod(step, self.per_epoch)
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.faces))
        rows = order[position * self.size : (position + 1) * self.size]
        rng = np.random.default_rng((self.seed, 1, step))
        names = [self.faces.names[row] for row in rows]
        if self.known.features is None:
            crops = [self._crop(row, hard, rng) for row, hard in zip(rows, self.degraded, strict=True)]
            return Batch(names, rows, self.degraded, np.stack(crops), None)
        drawn = rng.integers(1, self.known.features.shape[1], self.size)
        view = np.where(self.degraded, drawn, 0)
        found = Batch(names, rows, self.degraded, self.known.features[rows, view], self.known.embeddings[rows, view])
        if not self.steps_of:
            return found
        series = (rows[:, None], np.array([0, *range(-self.steps_of, 0)]))
        return found._replace(steps=self.known.features[series], step_embeddings=self.known.embeddings[series])

    def _crop(self, row: int, hard: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
        image = views.flip(self.faces.read(row), rng)
        return self.degrade(image, rng) if hard else image


class Criterion:
    """The loss of a batch: MagFace, and what holds a free direction to its teacher.

    Args:
        recipe: settings.
        backbone: the network that trains.
        head: class centres and margin.
        labels: `(N,)` int64, people of the training images.
        teacher: `(N, D)` float32, embeddings of the clean images before training.
        own: `(N, D)` float32, see `own_centres`; for the head `Orthogonal`.
        device: torch device.
    """

    def __init__(
        self,
        recipe: Recipe,
        backbone: nn.Module,
        head: Full | Orthogonal,
        labels: NDArray[np.int64],
        teacher: F32,
        own: F32 | None,
        device: str,
    ) -> None:
        self.recipe, self.backbone, self.head, self.device = recipe, backbone, head, device
        self.labels, self.teacher = torch.from_numpy(labels), torch.from_numpy(teacher)
        self.own = None if own is None else torch.from_numpy(own)

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss, and its parts and mean magnitudes for the log."""
        labels, teacher = self.labels[batch.rows].to(self.device), self.teacher[batch.rows].to(self.device)
        embeddings = self.embed(batch)
        out = self.head(embeddings, labels if self.own is None else self.own[batch.rows].to(self.device))
        clean = torch.from_numpy(~batch.degraded).to(self.device)
        terms = distillation(self.recipe.distillation, embeddings, teacher, labels, clean)
        if batch.steps is not None and batch.step_embeddings is not None:
            terms["order"] = self.recipe.order.weight * self.disorder(batch.steps, batch.step_embeddings)
        numbers = {
            "identity": out.identity,
            "penalty": out.penalty,
            **terms,
            "cosine": out.cosine.mean(),
            "magnitude": out.magnitude.mean(),
            "magnitude_clean": out.magnitude[clean].mean(),
            "magnitude_degraded": out.magnitude[~clean].mean(),
        }
        loss = out.loss + sum(terms.values())
        return loss, {name: value.item() for name, value in numbers.items() if value.isfinite()}

    def embed(self, batch: Batch) -> Tensor:
        """Raw embeddings `(B, D)`, with a gradient to what trains."""
        inputs = torch.from_numpy(batch.inputs).to(self.device)
        if batch.embeddings is None:
            return self.backbone(views.to_network(inputs))
        gain: Tensor = self.backbone.get_submodule("branch")(inputs.float())
        return torch.from_numpy(batch.embeddings).to(self.device) * gain.exp()[:, None]

    def disorder(self, features: NDArray[np.float16], embeddings: F32) -> Tensor:
        """How far the log of the magnitude is from falling at each step, `(B, 1 + S, ...)` -> scalar."""
        flat = torch.from_numpy(features).to(self.device).float().flatten(0, 1)
        gain: Tensor = self.backbone.get_submodule("branch")(flat)
        before = torch.from_numpy(geometry.magnitude(embeddings)).to(self.device).clamp(min=1e-6).log()
        log_a = before + gain.reshape(before.shape)
        return (self.recipe.order.step + log_a.diff(dim=1)).relu().mean()


def distillation(
    settings: Distillation, embeddings: Tensor, teacher: Tensor, labels: Tensor, clean: Tensor
) -> dict[str, Tensor]:
    """Weighted terms by name; those of weight 0 are left out.

    Args:
        settings: weights.
        embeddings: `(B, D)`, raw.
        teacher: `(B, D)`, the teacher's raw embeddings of the clean images.
        labels: `(B,)` int64.
        clean: `(B,)` bool, rows whose image is not degraded.
    """
    terms: dict[str, Tensor] = {}
    if settings.teacher or settings.clean:
        away = 1 - F.cosine_similarity(embeddings, teacher)
        terms["teacher"] = settings.teacher * away.mean()
        terms["clean"] = settings.clean * away[clean].sum() / clean.sum().clamp(min=1)
    if settings.repulsion:
        unit = direction(embeddings)
        close = (unit @ unit.T - settings.above).relu().square()
        terms["repulsion"] = settings.repulsion * close[labels[:, None] != labels].mean()
    return terms
