"""Face embeddings whose direction says who and whose magnitude says how far to trust it.

Names are imported when they are first used, so that `import magface` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from magface._version import __version__

if TYPE_CHECKING:
    from magface.cluster import average_linkage
    from magface.detect import Detector, YuNet
    from magface.embedder import Embedder
    from magface.errors import DataError, EngineError, ImageError, MagfaceError, ModelError, NoFaceError
    from magface.fusion import Templates, fuse
    from magface.gallery import Entry, Gallery, open_gallery
    from magface.geometry import angle, cosine, direction, magnitude
    from magface.models.card import Card
    from magface.quality.calibration import percentile, score
    from magface.recognizer import Photo, RecognizedFace, Recognizer, Verification
    from magface.report.analysis import analyze
    from magface.types import Embeddings, Face

__all__ = [
    "__version__",
    "Recognizer",
    "RecognizedFace",
    "Photo",
    "Verification",
    "analyze",
    "Embedder",
    "Embeddings",
    "Face",
    "Detector",
    "YuNet",
    "Card",
    "direction",
    "magnitude",
    "cosine",
    "angle",
    "score",
    "percentile",
    "average_linkage",
    "fuse",
    "Templates",
    "Gallery",
    "Entry",
    "open_gallery",
    "MagfaceError",
    "ImageError",
    "NoFaceError",
    "ModelError",
    "EngineError",
    "DataError",
]

_HOMES = {
    "cluster": ["average_linkage"],
    "detect": ["Detector", "YuNet"],
    "embedder": ["Embedder"],
    "errors": ["MagfaceError", "ImageError", "NoFaceError", "ModelError", "EngineError", "DataError"],
    "fusion": ["fuse", "Templates"],
    "gallery": ["Gallery", "Entry", "open_gallery"],
    "geometry": ["direction", "magnitude", "cosine", "angle"],
    "models.card": ["Card"],
    "quality.calibration": ["score", "percentile"],
    "recognizer": ["Recognizer", "RecognizedFace", "Photo", "Verification"],
    "report.analysis": ["analyze"],
    "types": ["Embeddings", "Face"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"magface.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
