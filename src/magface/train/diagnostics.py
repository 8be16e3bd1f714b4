"""What a log says of a batch: where its magnitudes lie, and whether they go with how easy a face is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from magface.types import F32


def diagnose(cosine: F32, magnitude: F32, degraded: NDArray[np.bool_], margin: nn.Module) -> dict[str, float]:
    """Numbers for a line of the log.

    Args:
        cosine: `(B,)` float32, to the own class centre, before the margin; B >= 1.
        magnitude: `(B,)` float32, as the network gave it: never clamped.
        degraded: `(B,)`, which faces were made harder.
        margin: the loss. Where it has a range of magnitudes, `outside` is the share of faces that lie outside it, and
            `margin` the mean margin.

    Returns:
        Means, the 5th, 50th and 95th percentile of the magnitude, its mean over clean and over degraded faces, and
        `correlation`, Pearson's, of magnitude and cosine; what cannot be told is left out.

    Example:
        >>> found = diagnose(np.array([0.2, 0.6]), np.array([5.0, 15.0]), np.array([True, False]), nn.Identity())
        >>> found["magnitude"], found["magnitude_p95"], round(found["correlation"], 3)
        (10.0, 14.5, 1.0)
    """
    low, middle, high = np.percentile(magnitude, [5, 50, 95]).tolist()
    found = {
        "cosine": float(cosine.mean()),
        "magnitude": float(magnitude.mean()),
        "magnitude_p5": low,
        "magnitude_p50": middle,
        "magnitude_p95": high,
    }
    for name, faces in (("clean", ~degraded), ("degraded", degraded)):
        if faces.any():
            found[f"magnitude_{name}"] = float(magnitude[faces].mean())
    ranged: Any = margin
    if hasattr(margin, "l_a"):
        found["outside"] = float(np.mean((magnitude < float(ranged.l_a)) | (magnitude > float(ranged.u_a))))
        place = next(margin.buffers(), torch.empty(0)).device
        found["margin"] = float(ranged.margin(torch.as_tensor(magnitude).to(place)).mean())
    if cosine.std() > 0 and magnitude.std() > 0:
        found["correlation"] = float(np.corrcoef(cosine, magnitude)[0, 1])
    return found
