"""What can go wrong for a user: every message says what to do about it."""

from __future__ import annotations


class MagfaceError(Exception):
    """Base of every error this package raises on purpose; the command line prints it and exits with code 2."""


class ImageError(MagfaceError):
    """A file is not a readable image, or is larger than the limit."""


class NoFaceError(MagfaceError):
    """A photo holds no face, or none that fits what was asked."""


class ModelError(MagfaceError):
    """A model file is missing, damaged, without a card, or of another kind than needed."""


class DataError(MagfaceError):
    """A data set, feature list, table or checkpoint is malformed, or does not belong to what it is used with."""


class EngineError(MagfaceError):
    """No engine can run the model with the options given."""


class TrainingError(MagfaceError):
    """A training run cannot go on."""


def interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error; compiled libraries that are being imported turn it into an `ImportError`.

    Example:
        >>> error = ImportError("initialization failed")
        >>> error.__cause__ = KeyboardInterrupt()
        >>> interrupted(error), interrupted(ImportError("no such module"))
        (True, False)
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
