"""Stochastic gradient descent that leaves what had no part in a step alone, and the norm of a gradient over ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from magface.heads import distributed
from magface.train.config import Optimization

_ROWS = 1 << 14  # of a sparse gradient that are worked on at a time


class SGD(torch.optim.SGD):
    """torch's SGD, in its fused form; in a parameter with a sparse gradient only the rows that have one change.

    Rows without a gradient are neither moved by their momentum nor decayed. So work, though not the momentum itself,
    depends on the number of rows that took part. Momentum is dense, `(C, D)`, and begins at zero. The fused form needs
    no memory beside it, where the others copy every gradient.

    Args:
        params: parameters or groups of them.
        lr: learning rate, >= 0.
        momentum: share of the last step in the next, 0 up to 1.
        weight_decay: multiple of a parameter that is added to its gradient, >= 0.

    Example:
        >>> centres = nn.Parameter(torch.ones(3, 1))
        >>> centres.grad = torch.sparse_coo_tensor([[1]], [[1.0]], (3, 1), check_invariants=True)
        >>> SGD([centres], lr=0.5, weight_decay=0.5).step()
        >>> centres.flatten().tolist()
        [1.0, 0.25, 1.0]
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; `closure`, if given, computes the loss anew and its gradients."""
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["momentum"] and parameter.grad is not None and "momentum_buffer" not in self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        sparse = [(group, p, p.grad) for group in self.param_groups for p in group["params"] if _is_sparse(p)]
        for group, parameter, gradient in sparse:
            self._step_rows(group, parameter, gradient.coalesce())
            parameter.grad = None
        super().step()
        for _, parameter, gradient in sparse:
            parameter.grad = gradient
        return loss if closure is not None else None

    def _step_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        parts = gradient.indices()[0].split(_ROWS), gradient.values().split(_ROWS)
        for rows, change in zip(*parts, strict=True):
            if group["weight_decay"]:
                change = change.add(parameter[rows], alpha=group["weight_decay"])
            if group["momentum"]:
                momentum = self.state[parameter]["momentum_buffer"]
                change = change.add(momentum[rows], alpha=group["momentum"])
                momentum[rows] = change
            parameter.index_add_(0, rows, change, alpha=-group["lr"])


def build(module: nn.Module, settings: Optimization) -> torch.optim.Optimizer:
    """The optimizer of a recipe over what trains of a module; its learning rate is set before each step.

    Args:
        module: it may have nothing that trains.
        settings: `optimizer`, `momentum`, `weight_decay` and `spare_norms` are used.
    """
    groups = parameter_groups(module, settings.weight_decay, settings.spare_norms)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    return SGD(groups, lr=0.0, momentum=settings.momentum)


def parameter_groups(module: nn.Module, weight_decay: float, spare_norms: bool = False) -> list[dict[str, Any]]:
    """Parameters that train, in two groups for an optimizer, of which one may be empty.

    Args:
        module: what trains.
        weight_decay: of the first group.
        spare_norms: put normalisations, biases and slopes, which have less than two dimensions, into the second group,
            without decay; else all are in the first.

    Example:
        >>> groups = parameter_groups(nn.Linear(2, 3), 0.1, spare_norms=True)
        >>> [([tuple(p.shape) for p in group["params"]], group["weight_decay"]) for group in groups]
        [([(3, 2)], 0.1), ([(3,)], 0.0)]
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    spared = [spare_norms and p.ndim < 2 for p in parameters]
    return [
        {"params": [p for p, spare in zip(parameters, spared, strict=True) if not spare], "weight_decay": weight_decay},
        {"params": [p for p, spare in zip(parameters, spared, strict=True) if spare], "weight_decay": 0.0},
    ]


@torch.no_grad()
def clip(parameters: Iterable[Tensor], max_norm: float, sharded: Iterable[Tensor] = ()) -> Tensor:
    """Shorten the gradient of a whole model, in place, to a greatest norm; one collective, none when alone.

    Args:
        parameters: alike on every rank, as are their gradients; those without a gradient are passed over.
        max_norm: > 0; `inf` only measures.
        sharded: parameters of which each rank holds a part; their gradients may be sparse.

    Returns:
        Scalar float32 or wider: the norm before, of the parts of all ranks together; the same on every rank. If it is
        not finite, the gradients are of no use.

    Example:
        >>> x = nn.Parameter(torch.zeros(2))
        >>> x.grad = torch.tensor([3.0, 4.0])
        >>> clip([x], 1.0), x.grad
        (tensor(5.), tensor([0.6000, 0.8000]))
    """
    alike, split = _gradients(parameters), _gradients(sharded)
    parts = distributed.total(_norm(split) ** 2) if split else _norm(split)
    norm = (_norm(alike).to(parts.device) ** 2 + parts).sqrt()
    if max_norm < float("inf"):
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        if gradients := alike + split:
            torch._foreach_mul_(gradients, factor)
    return norm


def _norm(tensors: list[Tensor]) -> Tensor:
    return nn.utils.get_total_norm(tensors)


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Numbers of each gradient; of a sparse one, which is first put in order, those of the rows it has."""
    found = []
    for parameter in parameters:
        if _is_sparse(parameter):
            parameter.grad = parameter.grad.coalesce()  # type: ignore[union-attr]
        if parameter.grad is not None:
            found.append(parameter.grad._values() if parameter.grad.is_sparse else parameter.grad)
    return found


def _is_sparse(parameter: Tensor) -> bool:
    return parameter.grad is not None and parameter.grad.is_sparse
