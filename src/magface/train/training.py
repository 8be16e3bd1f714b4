"""A run from its recipe to its checkpoint: a network from the first weights, or from those of a trained one."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from magface import geometry, losses
from magface.data.face_set import FaceSet
from magface.errors import DataError, EngineError, ModelError
from magface.heads.classifiability import Classifiability
from magface.heads.full import Full
from magface.heads.orthogonal import Orthogonal
from magface.heads.partial_fc import PartialFC
from magface.losses.crfiqa import CrFiqa
from magface.losses.margin import Margin
from magface.train import checkpoint, loop, validation, views
from magface.train.config import Recipe
from magface.train.criterion import Criterion
from magface.train.finetune import class_centres, own_centres, prepare_branch, tuned
from magface.train.precision import widen_slow
from magface.train.ranks import Ranks
from magface.train.source import Source
from magface.train.views import Views
from magface.types import F32


def train(
    recipe: Recipe,
    backbone: nn.Module,
    faces: FaceSet,
    out: Path,
    *,
    trained: bool,
    cache: Path | None = None,
    ranks: Ranks | None = None,
    restart: bool = False,
    say: Callable[[str], object] = print,
) -> Path:
    """Train a backbone, or go on with it; every rank calls it alike.

    Args:
        recipe: every setting.
        backbone: `(N, 3, 112, 112)` float32 RGB 0..255 to `(N, D)` raw embeddings, alike on every rank. Trained in
            place. With a frozen direction it has a module `branch`, and methods `trunk` and `embed`, such that it
            computes `embed(h) * exp(branch(h))` with `h = trunk(x)`; a branch with a method `standardise` is first
            shown features.
        faces: the data set, before people are left out or kept for validation.
        out: folder of the run, for `checkpoint.pt`, `log.jsonl`, TensorBoard's `events`, and the names of images that
            could not be read (`unreadable.tsv`) or gave a loss that is not finite (`bad_batches.jsonl`).
        trained: whether the backbone has learned already. Then class centres start at the mean directions that it
            gives, what the recipe leaves out of MagFace's range is proposed from its magnitudes, and it can be held to
            what it was.
        cache: folder for what is computed before training; `out` by default, may be shared by runs.
        ranks: all processes; this one alone by default.
        restart: start again although `out` holds a checkpoint.
        say: called on the first rank with sentences about what was chosen.

    Returns:
        Path of the checkpoint.

    Raises:
        DataError: too few images are left, the recipe does not fit the network or the ranks, or a checkpoint is of
            another run.
        EngineError: torch cannot use the device, or not in this way.
        ModelError: the direction is to stay frozen but the network has no magnitude branch.
        TrainingError: the loss is not finite.
        StoppedError: SIGINT or SIGTERM came; the state is saved.
    """
    ranks = ranks or Ranks()
    chosen = training_images(recipe, faces)
    _check(recipe, trained, ranks)
    out.mkdir(parents=True, exist_ok=True)
    # Crops lie in memory channel by channel of each pixel; a network that does too is twice as fast on a CPU.
    backbone.to(ranks.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    choose_parameters(recipe, backbone)
    known = _views(recipe, backbone, chosen, cache or out, ranks) if trained else None
    clean = None if known is None else known.embeddings[:, 0]
    settings = recipe.loss.margin
    if clean is not None:
        settings, reasons = tuned(recipe.loss, geometry.magnitude(clean))
        if ranks.first:
            for reason in reasons:
                say(reason)
    psi = margin(recipe, settings, len(chosen.people))
    head = _head(recipe, psi, chosen, clean, backbone, ranks).to(ranks.device)
    _set_mode(recipe, backbone, known, chosen, ranks)
    network = called(recipe, backbone, ranks)
    if (
        not ranks.first
    ):  # ranks drew alike until here, where first weights are made, and draw for themselves from now on
        torch.manual_seed(recipe.seed + (ranks.rank << 32))
    source = Source(recipe, chosen, known, ranks, out / "unreadable.tsv")
    held = recipe.distillation.teacher or recipe.distillation.clean or recipe.distillation.repulsion
    own = None
    if clean is not None and (recipe.loss.negatives == "orthogonal" or isinstance(psi, CrFiqa)):
        own = own_centres(clean, chosen.labels, chosen.suspect)
    criterion = Criterion(recipe, network, backbone, head, chosen.labels, clean if held else None, own, ranks)
    task = loop.Task(
        network,
        backbone,
        head,
        psi,
        source.sampler.per_epoch,
        source.parts,
        criterion,
        validation.of(recipe, backbone, ranks.device),
    )
    data = chosen.fingerprint if known is None else known.key
    origin = checkpoint.Origin(recipe.backbone, dataclasses.asdict(recipe), data)
    every = recipe.validation.every
    return loop.run(task, recipe.optimization, origin, out, ranks, validate_every=every, restart=restart)


def training_images(recipe: Recipe, faces: FaceSet) -> FaceSet:
    """What is left to train on after validation people, suspect images and people with few images are out.

    Raises:
        DataError: that is less than one batch, or one person.
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
    if len(train.people) < 2:
        raise DataError("all images to train on are of one person; a recogniser needs at least two.")
    return train


def choose_parameters(recipe: Recipe, backbone: nn.Module) -> None:
    """Let only those parameters train that the recipe names; what the network itself holds fixed stays so.

    Raises:
        DataError: a pattern in `fixed` matches no parameter.
        ModelError: there is no magnitude branch to train.
    """
    names = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
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


def margin(recipe: Recipe, settings: Mapping[str, Any], people: int) -> Margin | CrFiqa:
    """The loss of a recipe.

    Args:
        recipe: names it.
        settings: of it.
        people: number of classes.

    Raises:
        DataError: there is no such loss, or it has no such setting or value.
    """
    name = "magface-self-tuning" if recipe.loss.self_tuning else recipe.loss.name
    try:
        if name == "crfiqa":
            return losses.make(CrFiqa, name, **settings)
        return losses.build(name, num_classes=people, **settings)
    except ValueError as error:
        raise DataError(f"the loss of the recipe does not work: {error}") from error


def _check(recipe: Recipe, trained: bool, ranks: Ranks) -> None:
    settings = recipe.optimization
    if recipe.direction == "frozen" and not trained:
        raise DataError("a frozen direction needs a trained network; name one to start from.")
    if recipe.direction == "frozen" and ranks.world > 1:
        raise DataError("with a frozen direction a run takes minutes in one process; start it without torchrun.")
    if settings.batch < 2 * ranks.world * settings.accumulate:
        raise DataError(
            f"a batch of {settings.batch} is less than two images for each of {ranks.world} ranks and "
            f"{settings.accumulate} parts; raise optimization.batch."
        )
    if settings.norms == "sync" and not ranks.device.startswith("cuda"):
        raise EngineError("torch can share batch statistics between ranks on GPUs alone; take norms = 'batch'.")


def _views(recipe: Recipe, backbone: nn.Module, faces: FaceSet, folder: Path, ranks: Ranks) -> Views:
    """Embeddings of the images before training: the first rank makes them, the others read what it wrote."""
    if ranks.first:
        views.compute(backbone, faces, recipe, folder, ranks.device)
    ranks.wait()
    return views.compute(backbone, faces, recipe, folder, ranks.device)


def _head(
    recipe: Recipe, psi: Margin | CrFiqa, faces: FaceSet, clean: F32 | None, backbone: nn.Module, ranks: Ranks
) -> nn.Module:
    people, loss = len(faces.people), recipe.loss
    centres = None if clean is None else torch.from_numpy(class_centres(clean, faces.labels, faces.suspect))
    if isinstance(psi, CrFiqa):
        return Classifiability(cast(Tensor, centres), psi)  # a frozen direction starts from a trained network
    if loss.negatives == "orthogonal":
        return Orthogonal(people, psi)
    size = clean.shape[1] if clean is not None else _size(backbone)
    frozen, detach = loss.centres == "fixed", loss.detach_direction
    if recipe.head.kind == "full":
        return Full(people, size, psi, centres=centres, frozen=frozen, detach_direction=detach)
    rate = recipe.head.rate if recipe.head.kind == "sampled" else 1.0
    seed = recipe.seed
    return PartialFC(people, size, psi, rate=rate, seed=seed, centres=centres, frozen=frozen, detach_direction=detach)


def _size(backbone: nn.Module) -> int:
    size: Any = backbone.size
    return int(size)


def _set_mode(recipe: Recipe, backbone: nn.Module, known: Views | None, faces: FaceSet, ranks: Ranks) -> None:
    """Whether batch normalisation and dropout are those of training."""
    norms = recipe.optimization.norms
    if recipe.direction == "frozen" and known is not None:
        prepare_branch(backbone, known, faces, ranks.device)
    elif norms in ("batch", "sync") or (norms == "auto" and known is None):
        backbone.train()


def called(recipe: Recipe, backbone: nn.Module, ranks: Ranks) -> nn.Module:
    """The backbone as it is called in training: compiled, and shared between ranks, whose gradients are summed."""
    settings = recipe.optimization
    network = nn.SyncBatchNorm.convert_sync_batchnorm(backbone) if settings.norms == "sync" else backbone
    widen_slow(network, settings.precision, ranks.device)
    if settings.compile:
        network = cast(nn.Module, torch.compile(network))
    if ranks.world == 1:
        return network
    places = [torch.device(ranks.device)] if ranks.device.startswith("cuda") else None
    shared = DistributedDataParallel(network, device_ids=places)
    shared.register_comm_hook(None, lambda _, bucket: _sum(bucket))  # torch takes no other annotations than its own
    return shared


def _sum(bucket: Any) -> torch.futures.Future[Tensor]:
    """Add up gradients; those of a global mean are not to be averaged again."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])
