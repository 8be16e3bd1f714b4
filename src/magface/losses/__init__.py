"""Margin-softmax losses: one file a paper, only its equation inside."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from magface.losses.margin import Margin

T = TypeVar("T")

_HOMES = {
    "softmax": ("softmax", "Softmax"),
    "normface": ("margin", "Margin"),
    "sphereface": ("sphereface", "SphereFace"),
    "sphereface-r": ("sphereface_r", "SphereFaceR"),
    "cosface": ("cosface", "CosFace"),
    "arcface": ("arcface", "ArcFace"),
    "combined": ("combined", "Combined"),
    "magface": ("magface", "MagFace"),
    "magface-self-tuning": ("self_tuning", "SelfTuning"),
    "mag-cosface": ("magface", "MagCosFace"),
    "adaface": ("adaface", "AdaFace"),
    "elasticface-arc": ("elasticface", "ElasticArc"),
    "elasticface-cos": ("elasticface", "ElasticCos"),
    "curricularface": ("curricularface", "CurricularFace"),
    "sphereface2": ("sphereface2", "SphereFace2"),
}
NAMES = tuple(_HOMES)
"""What `build` knows, from the oldest to the youngest."""


def build(name: str, *, num_classes: int | None = None, **options: Any) -> Margin:
    """A loss by its name, as recipes give it.

    Args:
        name: one of `NAMES`.
        num_classes: C, number of people; only "sphereface2" looks at it, so whoever knows it can always give it.
        options: what the loss is made of; those left out are the paper's.

    Raises:
        ValueError: no loss has that name, it has no such option, needs another one, or an option cannot be what it is.

    Example:
        >>> build("arcface", m=0.4).m
        0.4
        >>> build("sphereface2", num_classes=1000).reduction
        'binary'
        >>> build("arc-face")
        Traceback (most recent call last):
        ValueError: there is no loss 'arc-face'; did you mean arcface?
    """
    if name not in _HOMES:
        raise ValueError(f"there is no loss {name!r}; {_hint(name, NAMES)}")
    module, attribute = _HOMES[name]
    cls = getattr(import_module(f"magface.losses.{module}"), attribute)
    if "num_classes" in inspect.signature(cls).parameters and num_classes is not None:
        options["num_classes"] = num_classes
    made: Margin = make(cls, name, **options)
    return made


def make(cls: type[T], name: str, **options: Any) -> T:
    """A loss of a class, with the options of a recipe.

    Args:
        cls: of the loss.
        name: of the loss, for messages.
        options: what it is made of.

    Raises:
        ValueError: it has no such option, needs another one, or an option cannot be what it is.
    """
    parameters = inspect.signature(cls).parameters
    for option in options:
        if option not in parameters:
            raise ValueError(f"the loss {name} has no option {option!r}; {_hint(option, parameters)}")
    missing = [key for key, option in parameters.items() if option.default is option.empty and key not in options]
    if missing:
        raise ValueError(f"the loss {name} needs {', '.join(missing)}.")
    try:
        return cls(**options)
    except TypeError as error:
        raise ValueError(f"an option of the loss {name} has the wrong type: {error}.") from error


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known)) or 'none'}."
