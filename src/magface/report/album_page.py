"""The contact sheet of an album: everybody at a glance, on one page that needs no server and no network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from magface.report import album_folders, html
from magface.report.album_state import AlbumFace, State

_COVER, _THUMBNAIL = 192, 96


@dataclass(frozen=True, slots=True)
class _Tile:
    """A face on the page."""

    id: int
    face: AlbumFace
    photo: str

    @property
    def file(self) -> str:
        """Name of the photo without its folder."""
        return os.path.basename(self.photo)  # noqa: PTH119 a name is text, not a path

    @property
    def spot(self) -> str:
        """What commands call the face."""
        return f"{self.photo}#{self.face.face}"

    @property
    def score(self) -> int:
        """As shown."""
        return round(self.face.score)

    @property
    def band(self) -> str:
        """How good the picture is."""
        return html.band(self.score)

    @property
    def label(self) -> str:
        """What a reader who cannot see the picture is told."""
        poor = ", low quality" if self.face.poor else ""
        return f"Face {self.face.face} in {self.photo}, score {self.score}{poor}"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A person on the page; tiles of some of the faces, the representative first."""

    id: int
    name: str
    faces: int
    photos: int
    cover: str
    tiles: Sequence[_Tile]
    folder: str


def render(state: State, photos: pa.Table, crops: Path) -> str:
    """Make the page.

    Above `html.SHOWN` faces it shows the representative of each person, then the best other face of each, and so on
    until it is full, and says how many there are.

    Args:
        state: what the album holds.
        photos: table of photos, as `Results.merge` gives it.
        crops: folder with the pictures of the faces.
    """
    names = photos["photo"].to_pylist()
    root = html.common_root(names) if names else ""
    groups = [*(person.faces for person in state.people), *((face,) for face in state.unknown)]
    rounds = (face for row in zip_longest(*groups) for face in row if face is not None)
    tiles = {
        face: _Tile(number, face, html.below(face.photo, root))
        for number, face in enumerate(islice(rounds, html.SHOWN))
    }
    places = album_folders.folders(state.people) if state.settings.photos != "none" else {}
    people = [
        _Shown(
            person.id,
            person.name,
            len(person.faces),
            len({face.photo for face in person.faces}),
            html.picture(crops / person.faces[0].crop, _COVER),
            list(_known(tiles, person.faces)),
            quote(places.get(person.id, "")),
        )
        for person in state.people
        if person.faces[0] in tiles
    ]
    unknown = list(_known(tiles, state.unknown))
    return (
        html.environment()
        .get_template("album.html")
        .render(
            css=html.style("report.css") + html.style("album.css"),
            root=root,
            settings=state.settings,
            counts={
                "photos": len(names),
                "people": len(state.people),
                "of_people": sum(len(person.faces) for person in state.people),
                "seen_once": sum(not face.poor for face in state.unknown),
                "poor": sum(face.poor for face in state.unknown),
                "faces": sum(map(len, groups)),
            },
            people=people,
            seen_once=[tile for tile in unknown if not tile.face.poor],
            poor=[tile for tile in unknown if tile.face.poor],
            shown=len(tiles),
            pictures=[(tile.id, html.picture(crops / face.crop, _THUMBNAIL)) for face, tile in tiles.items()],
            without_face=[html.below(name, root) for name in html.without_face(photos)],
            failures=[(html.below(name, root), reason) for name, reason in html.failures(photos)],
        )
    )


def _known(tiles: dict[AlbumFace, _Tile], faces: Sequence[AlbumFace]) -> Iterator[_Tile]:
    return (tiles[face] for face in faces if face in tiles)
