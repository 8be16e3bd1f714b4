"""Face embeddings whose direction says who and whose magnitude says how far to trust it."""

from magface._version import __version__

__all__ = ["__version__"]
