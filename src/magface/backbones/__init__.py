"""Networks: `(N, 3, 112, 112)` float32 RGB 0..255 in, `(N, D)` raw embeddings out."""

from __future__ import annotations

from difflib import get_close_matches
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
    from magface.backbones import sface

    known = {"sface": sface.SFace}
    if name not in known:
        hint = get_close_matches(name, known, n=1)
        raise ModelError(f"there is no backbone {name!r}; " + (f"did you mean {hint[0]}?" if hint else f"known: {', '.join(known)}."))
    return known[name]()
