"""What a run descends: the loss of a head, and what holds a trained network to what it was."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from magface import geometry
from magface.heads.classifiability import Classifiability
from magface.heads.full import direction
from magface.train import views
from magface.train.config import Distillation, Recipe
from magface.train.loop import Outcome
from magface.train.precision import autocast
from magface.train.ranks import Ranks
from magface.train.source import Batch
from magface.types import F32


class Criterion:
    """The loss of a part of a batch.

    Args:
        recipe: settings.
        network: what is called to embed; wrapped where several ranks train it.
        backbone: the network itself.
        head: class centres and margin.
        labels: `(N,)` int64, people of the training images.
        teacher: `(N, D)` float32, embeddings of the clean images before training; None where nothing asks for them.
        own: `(N, D)` float32, see `finetune.own_centres`; for the heads `Orthogonal` and `Classifiability`.
        ranks: all of them.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        backbone: nn.Module,
        head: nn.Module,
        labels: NDArray[np.int64],
        teacher: F32 | None,
        own: F32 | None,
        ranks: Ranks,
    ) -> None:
        self.recipe, self.network, self.backbone, self.head, self.device = recipe, network, backbone, head, ranks.device
        self.labels = torch.from_numpy(labels)
        self.teacher = None if teacher is None else torch.from_numpy(teacher)
        self.own = None if own is None else torch.from_numpy(own)

    def __call__(self, batch: Batch) -> Outcome:
        """The loss, and its parts for the log; terms beside that of the head are this rank's portion of a mean."""
        labels = self.labels[batch.rows].to(self.device)
        embeddings = self.embed(batch)
        out = self.head(embeddings, *self.beside(batch, labels))
        terms: dict[str, Tensor] = {}
        if self.teacher is not None:
            teacher, clean = self.teacher[batch.rows].to(self.device), torch.from_numpy(~batch.degraded).to(self.device)
            terms = distillation(self.recipe.distillation, embeddings.float(), teacher, labels, clean)
        if batch.steps is not None and batch.step_embeddings is not None:
            terms["order"] = self.recipe.order.weight * self.disorder(batch.steps, batch.step_embeddings)
        terms = {name: batch.portion * term for name, term in terms.items()}
        loss = out.loss + sum(terms.values())
        shown = {name: term.detach() for name, term in terms.items()}
        common = {"identity": out.identity.detach(), "penalty": out.penalty.detach()}
        return Outcome(loss, common, shown, out.cosine, out.magnitude, out.correct)

    def beside(self, batch: Batch, labels: Tensor) -> tuple[Tensor, ...]:
        """What the head compares the embeddings of a batch with."""
        if self.own is None:
            return (labels,)
        own = self.own[batch.rows].to(self.device)
        return (own, labels) if isinstance(self.head, Classifiability) else (own,)

    def embed(self, batch: Batch) -> Tensor:
        """Raw embeddings `(b, D)`, with a gradient to what trains."""
        inputs = torch.from_numpy(batch.inputs).to(self.device)
        if batch.embeddings is None:
            with autocast(self.recipe.optimization.precision, self.device):
                return self.network(views.to_network(inputs))
        gain: Tensor = self.backbone.get_submodule("branch")(inputs.float())
        return torch.from_numpy(batch.embeddings).to(self.device) * gain.exp()[:, None]

    def disorder(self, features: NDArray[np.float16], embeddings: F32) -> Tensor:
        """How far the log of the magnitude is from falling at each step, `(b, 1 + S, ...)` -> scalar."""
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
        embeddings: `(b, D)`, raw.
        teacher: `(b, D)`, the teacher's raw embeddings of the clean images.
        labels: `(b,)` int64.
        clean: `(b,)` bool, rows whose image is not degraded.
    """
    terms: dict[str, Tensor] = {}
    if settings.teacher or settings.clean:
        away = 1 - F.cosine_similarity(embeddings, teacher)
        terms["teacher"] = settings.teacher * away.mean()
        terms["clean"] = settings.clean * away[clean].sum() / clean.sum().clamp(min=1)
    if settings.repulsion:
        unit = direction(embeddings)
        close = (unit @ unit.T - settings.above).relu().square()
        others = labels[:, None] != labels
        terms["repulsion"] = settings.repulsion * close[others].sum() / others.sum().clamp(min=1)
    return terms
