"""Networks: `(N, 3, 112, 112)` float32 RGB 0..255 in, `(N, D)` raw embeddings out, D their attribute `size`.

| name | network |
| --- | --- |
| `sface`, `magsface` | SFace, and with a magnitude branch; D = 128 |
| `mobilefacenet` | MobileFaceNet; D = 512 |
| `iresnet18`, `34`, `50`, `100`, `200` | iResNet to train from scratch; D = 512 |
| `iresnet50-magface`, `iresnet50-arcface`, and so on | the same as the official MagFace and arcface_torch build it |
| `ir18-adaface`, `ir34-`, `ir50-`, `ir101-adaface` | the network of the official AdaFace; D = 512 |

The name says everything about a network but its weights: settings of normalisation and preprocessing are its origin's.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING

from magface.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def build(name: str) -> nn.Module:
    """An untrained network by the name that checkpoints and model cards use.

    Raises:
        ModelError: no network has that name.

    Example:
        >>> type(build("sface")).__name__
        'SFace'
    """
    known = _known()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."
        raise ModelError(f"there is no backbone {name!r}; {hint}")
    return known[name]()


def _known() -> dict[str, Callable[[], nn.Module]]:
    """How each network is made."""
    from magface.backbones import adaface_ir, iresnet, mobilefacenet, sface

    known: dict[str, Callable[[], nn.Module]] = {
        "sface": sface.SFace,
        "magsface": sface.MagSFace,
        "mobilefacenet": mobilefacenet.MobileFaceNet,
    }
    for whose, origin in iresnet.ORIGINS.items():
        for depth in iresnet.BLOCKS:
            name = f"iresnet{depth}" if whose == "own" else f"iresnet{depth}-{whose}"
            known[name] = partial(iresnet.IResNet, depth, origin)
    return known | {f"ir{depth}-adaface": partial(adaface_ir.IR, depth) for depth in adaface_ir.DEPTHS}
