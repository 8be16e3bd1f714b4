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

    known = {"sface": sface.SFace, "magsface": sface.MagSFace}
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."
        raise ModelError(f"there is no backbone {name!r}; {hint}")
    return known[name]()
