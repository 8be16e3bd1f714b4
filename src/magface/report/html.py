"""The report: one page that needs no server, no network and no script to be read."""

from __future__ import annotations

import base64
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
import pyarrow as pa
from markupsafe import Markup

from magface.models.card import Card
from magface.quality.calibration import STRONG, WEAK

SHOWN = 3000
"""Faces on the page at most: some 12 MB, which a phone still opens. `faces.parquet` holds all of them."""

_OPEN = 60
"""Faces of a band of quality that are shown without a click, at most: all of them are further up already."""

_THUMBNAIL, _COVER = 96, 192


@dataclass(frozen=True, slots=True)
class _Tile:
    """A face on the page."""

    id: int
    photo: str
    number: int
    person: int
    magnitude: float
    score: int
    percentile: float
    crop: str

    @property
    def file(self) -> str:
        """Name of the photo without its folder."""
        return os.path.basename(self.photo)  # noqa: PTH119 a name is text, not a path

    @property
    def label(self) -> str:
        """What a reader who cannot see the picture is told."""
        return f"Face {self.number} in {self.photo}, score {self.score}"

    @property
    def rank(self) -> str:
        """Place among the reference faces; rounded down, since no face is better than all of them."""
        below = min(int(self.percentile), 99)
        return f"> {below}\u202f%" if below else "lowest 1\u202f%"

    @property
    def band(self) -> str:
        """How good the picture is, by the score that is shown."""
        return band(self.score)


@dataclass(frozen=True, slots=True)
class _Person:
    number: int
    size: int
    tiles: tuple[_Tile, ...]
    cover: str


def band(score: float) -> str:
    """How good a picture of that score is: `strong`, `fair` or `weak`."""
    return "strong" if score >= STRONG else "weak" if score < WEAK else "fair"


def environment() -> jinja2.Environment:
    """What fills in the pages that lie beside this file; all that is filled in is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style(name: str) -> Markup:
    """A style sheet that lies beside this file."""
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))  # noqa: S704 our own file


def render(photos: pa.Table, faces: pa.Table, card: Card, crops: Path) -> str:
    """Make the page.

    Above `SHOWN` faces it shows the best face of each person, then the second best and so on until it is full,
    and says how many there are.

    Args:
        photos: table of photos, as `Results.merge` gives it.
        faces: table of faces, as `write_faces` gives it.
        card: of the model.
        crops: folder with the pictures of the faces.
    """
    names = photos["photo"].to_pylist()
    root = common_root(names)
    sizes = np.bincount(faces["person"].to_numpy(), minlength=1)
    tiles = _shown(_tiles(faces, root))
    groups: dict[int, list[_Tile]] = defaultdict(list)
    for tile in tiles:
        groups[tile.person].append(tile)
    people = [
        _Person(number, int(sizes[number]), tuple(group), picture(crops / group[0].crop, _COVER))
        for number, group in sorted(groups.items())
        if sizes[number] > 1
    ]
    return (
        environment()
        .get_template("report.html")
        .render(
            css=style("report.css"),
            card=card,
            root=root,
            strong=round(STRONG),
            weak=round(WEAK),
            opened=_OPEN,
            counts={
                "photos": len(names),
                "faces": len(faces),
                "people": int((sizes > 1).sum()),
                "singles": int((sizes == 1).sum()),
            },
            people=people,
            singles=[tile for tile in tiles if sizes[tile.person] == 1],
            tiles=sorted(tiles, key=lambda tile: -tile.magnitude),
            pictures=[(tile.id, picture(crops / tile.crop, _THUMBNAIL)) for tile in tiles],
            without_face=[below(name, root) for name in without_face(photos)],
            failures=[(below(name, root), reason) for name, reason in failures(photos)],
        )
    )


def without_face(photos: pa.Table) -> tuple[str, ...]:
    """Names of the photos that were read and hold no face."""
    rows = zip(photos["photo"].to_pylist(), photos["error"].to_pylist(), _counts(photos), strict=True)
    return tuple(name for name, error, count in rows if not error and not count)


def failures(photos: pa.Table) -> tuple[tuple[str, str], ...]:
    """`(name, reason)` of the photos that could not be read."""
    rows = zip(photos["photo"].to_pylist(), photos["error"].to_pylist(), strict=True)
    return tuple((name, error) for name, error in rows if error)


def _counts(photos: pa.Table) -> list[int]:
    return [int(count) for chunk in photos["faces"].chunks for count in chunk.value_lengths().to_numpy()]


def _tiles(faces: pa.Table, root: str) -> list[_Tile]:
    columns = [
        faces[name].to_pylist() for name in ("photo", "face", "person", "magnitude", "score", "percentile", "crop")
    ]
    return [
        _Tile(place, below(photo, root), number, person, magnitude, round(score), percentile, crop)
        for place, (photo, number, person, magnitude, score, percentile, crop) in enumerate(zip(*columns, strict=True))
    ]


def _shown(tiles: Sequence[_Tile]) -> list[_Tile]:
    """Faces on the page: those of a person from best to worst, every person's best before any second best."""
    rank: dict[int, int] = defaultdict(int)
    ranked = []
    for tile in sorted(tiles, key=lambda tile: -tile.magnitude):
        ranked.append((rank[tile.person], tile.person, tile))
        rank[tile.person] += 1
    return [tile for *_, tile in sorted(ranked, key=lambda entry: entry[:2])[:SHOWN]]


def picture(path: Path, side: int) -> str:
    """A picture as data URI, reduced to `side` pixels; empty where the file is gone."""
    image = cv2.imread(os.fspath(path))
    if image is None:
        return ""
    if len(image) > side:
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def common_root(names: Sequence[str]) -> str:
    """Folder that all photos lie below."""
    return os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120 names are text, not paths


def below(name: str, root: str) -> str:
    """Name of a photo without the folder that all lie below."""
    return os.path.relpath(name, root)
