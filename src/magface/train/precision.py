"""Half precision in training: what runs in it, and the scale that keeps small gradients from vanishing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["f32", "bf16", "fp16"]

_START, _GROWTH, _PATIENCE = 2.0**16, 2.0, 2000


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """Where the network computes in `precision`; heads leave it by themselves."""
    if precision == "f32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16 if precision == "bf16" else torch.float16)


def widen_slow(network: nn.Module, precision: Precision, device: str) -> None:
    """Let a network leave half precision where a CPU is faster without, in place.

    That is in depthwise convolutions with a stride, whose backward pass in bf16 takes 3 to 30 times as long.
    """
    if precision == "f32" or torch.device(device).type != "cpu":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and module.stride != (1, 1):
            module.forward = partial(_wide, module.forward)  # type: ignore[method-assign]


def _wide(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())


class LossScaler:
    """Factor of the loss before the backward pass, 1 but in fp16, where gradients below 6e-8 would be lost.

    torch's own `GradScaler` decides on each rank by itself whether a gradient overflowed, so that ranks with different
    class centres could end up with different factors; this one is told by the caller, who asked all ranks.

    Example:
        >>> scaler = LossScaler("fp16")
        >>> scaler.update(overflowed=True)
        >>> scaler.scale
        32768.0
    """

    def __init__(self, precision: Precision) -> None:
        self.active = precision == "fp16"
        self.scale = _START if self.active else 1.0
        self._good = 0

    def __call__(self, loss: Tensor) -> Tensor:
        """The loss to go backward from."""
        return loss * self.scale if self.active else loss

    def unscale(self, parameters: list[nn.Parameter]) -> None:
        """Divide the gradients by the factor, in place."""
        if self.active:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.scale)

    def update(self, *, overflowed: bool) -> None:
        """Halve the factor after an overflow; double it after 2,000 steps without one."""
        self._good = 0 if overflowed else self._good + 1
        if self.active and overflowed:
            self.scale /= _GROWTH
        elif self.active and self._good == _PATIENCE:
            self.scale, self._good = self.scale * _GROWTH, 0

    @property
    def spent(self) -> bool:
        """Whether a smaller factor would help no more: what overflows is not the factor's fault."""
        return self.scale <= 1.0

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"scale": self.scale, "good": self._good}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take up what a checkpoint kept."""
        self.scale, self._good = float(state["scale"]), int(state["good"])
