"""The learning rate of each step."""

from __future__ import annotations

import math

from magface.train.config import Optimization


def learning_rate(step: int, per_epoch: int, settings: Optimization) -> float:
    """Linear warm-up, then a fall.

    Args:
        step: from 0.
        per_epoch: steps of an epoch, >= 1.
        settings: peak, schedule, epochs and warm-up.

    Example:
        >>> settings = Optimization(epochs=1, learning_rate=1.0, warmup=0.2)
        >>> [round(learning_rate(step, 10, settings), 2) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.04]
        >>> settings = Optimization(epochs=4, learning_rate=1.0, warmup=0.0, schedule="steps", drops=(2, 3))
        >>> [round(learning_rate(step, 10, settings), 3) for step in (0, 19, 20, 39)]
        [1.0, 1.0, 0.1, 0.01]
    """
    steps = per_epoch * settings.epochs
    rising = round(steps * settings.warmup)
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    progress = (step - rising) / (steps - rising)
    match settings.schedule:
        case "cosine":
            share = (1 + math.cos(math.pi * progress)) / 2
        case "polynomial":
            share = (1 - progress) ** settings.power
        case "steps":
            share = 0.1 ** sum(step >= drop * per_epoch for drop in settings.drops)
    return settings.learning_rate * share
