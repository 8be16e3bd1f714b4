"""Templates: many images of a person, in one or more media, made into one embedding.

A medium is a still, or a video whose frames resemble each other, so its images share one voice. What differs between
the ways of fusing is where the magnitude of an embedding, how far to trust it, becomes a weight. A template stays raw
like every embedding: its direction says who, its magnitude how far to trust it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magface.errors import DataError
from magface.geometry import direction, magnitude
from magface.types import F32

Weighting = Literal["mean", "magface", "magface+", "magface+media"]
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)

_ROWS = 2048
"""Images whose vectors are gathered at a time, and more only where a template has more."""

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """T fused templates.

    Attributes:
        ids: `(T,)` int64, rising.
        vectors: `(T, D)` float32, raw; zeros where no image has a share, or all of them have weight 0.
        images: `(T,)` int64, images that have a share: their embedding is not zeros.
        media: `(T,)` int64, media that such images come from.
        lost: `(T,)` int64, images that have none.
        lost_media: `(T,)` int64, media that have only such images.
    """

    ids: Index
    vectors: F32
    images: Index
    media: Index
    lost: Index
    lost_media: Index

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def magnitude(self) -> F32:
        """`(T,)` float32, how far to trust each: the quality of a template in a pair, or in a gallery.

        That of an image and of a template weighted by magnitude have one unit; those of the mean and of
        `normalised_media` are 0 to 1.
        """
        return magnitude(self.vectors)

    @property
    def empty(self) -> NDArray[np.bool_]:
        """`(T,)` bool, True for a template without an image that has a share."""
        return self.images == 0

    def rows(self, ids: ArrayLike) -> Index:
        """Where templates are: the row of each id, of any shape; -1 for an id that there is not.

        Example:
            >>> fuse(np.ones((2, 4), np.float32), [7, 9]).rows([9, 8])
            array([ 1, -1])
        """
        wanted = np.asarray(ids)
        at = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return np.where(self.ids[at] == wanted, at, -1)


def fuse(
    vectors: F32,
    template: ArrayLike,
    media: ArrayLike | None = None,
    *,
    weighting: Weighting = "magface+",
    weight: ArrayLike | None = None,
) -> Templates:
    """Fuse the images of each template.

    | weighting | template |
    | --- | --- |
    | `mean` | `mean`: every image counts alike |
    | `magface` | `normalised_media`: magnitudes weigh the images inside a medium; media count alike |
    | `magface+` | `magnitude_weighted`: magnitudes weigh all images |
    | `magface+media` | `weighted_media`: as `magface`, then each medium counts by its mean magnitude |

    Memory beside the result is that of some 2,048 images, or of the largest template.

    Args:
        vectors: `(N, D)` float32, raw embeddings; zeros for an image that has none.
        template: `(N,)` int, the template of each image.
        media: `(N,)` int, the medium of each image; None where every image is a medium of its own. A number means one
            medium inside a template only.
        weighting: which magnitude weighs what.
        weight: `(N,)` float, finite and >= 0, by which each image counts besides, such as the score of the detector.
            As in insightface's scripts it multiplies the embedding and no mean is divided by it, so an image of weight
            0 adds nothing and still counts among the images of its medium.

    Returns:
        The templates in the order of their ids.

    Raises:
        DataError: there is no image, an argument does not fit the N embeddings, a weight is negative or not finite, or
            `weighting` is unknown.

    Example:
        >>> sharp, blurred = [8.0, 0.0], [0.0, 2.0]
        >>> fuse(np.array([sharp, blurred], np.float32), [1, 1]).vectors
        array([[4., 1.]], dtype=float32)
        >>> fuse(np.array([sharp, blurred], np.float32), [1, 1], weighting="mean").vectors
        array([[0.5, 0.5]], dtype=float32)

        A gallery holds one template a person, each with the quality that its images give it:

        >>> people = ["Ann", "Ann", "Bob"]
        >>> names, person = np.unique(people, return_inverse=True)
        >>> gallery = fuse(np.array([sharp, sharp, blurred], np.float32), person)
        >>> dict(zip(names.tolist(), gallery.magnitude.tolist()))
        {'Ann': 8.0, 'Bob': 2.0}
    """
    if weighting not in _RULES:
        raise DataError(f"there is no fusion {weighting!r}; choose one of {', '.join(WEIGHTINGS)}.")
    template_N, media_N, weight_N = _checked(vectors, template, media, weight)
    order = np.argsort(template_N, kind="stable") if media is None else np.lexsort((media_N, template_N))
    starts = _changes(template_N[order])
    ids = template_N[order[starts]]
    fused = np.empty((len(ids), vectors.shape[1]), np.float32)
    counts = np.empty((4, len(ids)), np.int64)
    bounds = np.append(starts, len(order))
    for first, last in _spans(bounds):
        rows = order[bounds[first] : bounds[last]]
        block = _block(np.asarray(vectors[rows]), template_N[rows], media_N[rows], weight_N[rows])
        fused[first:last] = _RULES[weighting](block)
        counts[:, first:last] = block.counts()
    return Templates(ids, fused, *counts)


class _Block(NamedTuple):
    """The images of some templates, sorted by template and medium; `M` media, `T` templates."""

    images: F32
    """`(n, D)` raw."""
    weight: F32
    """`(n,)`."""
    shown: NDArray[np.bool_]
    """`(n,)`, images that have a share."""
    media: Index
    """`(M,)` first image of each medium."""
    templates: Index
    """`(T,)` first medium of each template."""

    def in_media(self, images: F32) -> F32:
        """Mean over the images of each medium that have a share, each times its weight; of `(n, ...)`, `(M, ...)`."""
        each = (-1, *[1] * (images.ndim - 1))
        present = np.add.reduceat(self.shown.astype(np.float32), self.media)
        sums: F32 = np.add.reduceat(images * self.weight.reshape(each), self.media, axis=0)
        return np.divide(sums, np.maximum(present, np.float32(1)).reshape(each))

    def of_media(self, media: F32) -> F32:
        """Mean over the media of each template that have a share; of `(M, D)`, `(T, D)`."""
        present = np.add.reduceat(self.present().astype(np.float32), self.templates)
        sums: F32 = np.add.reduceat(media, self.templates, axis=0)
        return np.divide(sums, np.maximum(present, np.float32(1))[:, None])

    def present(self) -> NDArray[np.bool_]:
        """`(M,)` media with an image that has a share."""
        return np.logical_or.reduceat(self.shown, self.media)

    def counts(self) -> tuple[Index, Index, Index, Index]:
        """Images, media, lost images and lost media of each template."""
        image, medium = self.shown, self.present()
        first_image = self.media[self.templates]
        images, lost = (np.add.reduceat(kind.astype(np.int64), first_image) for kind in (image, ~image))
        media, lost_media = (np.add.reduceat(kind.astype(np.int64), self.templates) for kind in (medium, ~medium))
        return images, media, lost, lost_media


def mean(block: _Block) -> F32:
    """Media of directions, and directions of media: no magnitude has a say.

    Equation: template, mean (t = mean_m dir(mean_i x_i), x_i = f_i / a_i, over the images i of each medium m).

    Args:
        block: sorted images.

    Returns:
        `(T, D)` float32; the magnitude, 0 to 1, says how far the media agree.
    """
    return block.of_media(direction(block.in_media(direction(block.images))))


def normalised_media(block: _Block) -> F32:
    """Raw images averaged in a medium, then the directions of the media; the official code with its switch off.

    Equation: MagFace (template: t = mean_m dir(mean_i a_i x_i)).

    Args:
        block: sorted images.

    Returns:
        `(T, D)` float32; the magnitude, 0 to 1, says how far the media agree.
    """
    return block.of_media(direction(block.in_media(block.images)))


def magnitude_weighted(block: _Block) -> F32:
    """Raw images averaged in a medium, then the raw media; the official code with its quality switch on.

    Equation: MagFace+ (template: t = mean_m mean_i a_i x_i).

    Args:
        block: sorted images.

    Returns:
        `(T, D)` float32; the magnitude is that of the images times how far they agree.
    """
    return block.of_media(block.in_media(block.images))


def weighted_media(block: _Block) -> F32:
    """Directions of media, each times the mean magnitude of its images, whether these agree or not.

    Equation: MagFace+ (template, after media normalisation: t = mean_m a_m dir(mean_i a_i x_i), a_m = mean_i a_i).

    Args:
        block: sorted images.

    Returns:
        `(T, D)` float32; the magnitude is that of the images times how far the media agree.
    """
    media = block.in_media(magnitude(block.images))
    return block.of_media(np.multiply(media[:, None], direction(block.in_media(block.images))))


_RULES: dict[str, Callable[[_Block], F32]] = {
    "mean": mean,
    "magface": normalised_media,
    "magface+": magnitude_weighted,
    "magface+media": weighted_media,
}


def _block(images: F32, template: Index, media: Index, weight: F32) -> _Block:
    """Sorted images of whole templates, with where media and templates begin."""
    starts = _changes(template, media)
    return _Block(images, weight, np.asarray(images.any(axis=1)), starts, _changes(template[starts]))


def _changes(*columns: Index) -> Index:
    """Rows where a sorted column differs from the row before; the first row too."""
    change = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.flatnonzero(np.concatenate([[True], change]))


def _spans(bounds: Index) -> Iterator[tuple[int, int]]:
    """Runs of templates with some `_ROWS` images: the first, and the one after the last."""
    first = 0
    while first < len(bounds) - 1:
        full = int(np.searchsorted(bounds, bounds[first] + _ROWS, side="right")) - 1
        yield first, max(first + 1, full)
        first = max(first + 1, full)


def _checked(
    vectors: F32, template: ArrayLike, media: ArrayLike | None, weight: ArrayLike | None
) -> tuple[Index, Index, F32]:
    if vectors.ndim != 2 or len(vectors) == 0:
        raise DataError(f"templates need an (N, D) array of embeddings, N > 0; this one has shape {vectors.shape}.")
    count = len(vectors)
    template_N = np.asarray(template)
    media_N = np.arange(count) if media is None else np.asarray(media)
    weight_N = np.ones(count, np.float32) if weight is None else np.asarray(weight, np.float32)
    for name, column in (("template", template_N), ("medium", media_N), ("weight", weight_N)):
        if column.shape != (count,):
            raise DataError(f"each of {count} embeddings needs one {name}; there are {column.shape}.")
    if not (np.isfinite(weight_N) & (weight_N >= 0)).all():
        raise DataError("weights of images must be finite and not negative; look for damaged scores.")
    return template_N.astype(np.int64), media_N.astype(np.int64), weight_N
