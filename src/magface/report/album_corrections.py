"""What a user can say about an album: these two are one, these are somebody else, this is Ann.

A correction settles faces: whoever they are said to be, they stay that, whatever a later run finds. So merging two
people settles all faces of both to be one person, and splitting faces off settles them to be another one than the rest.
A name settles the representative alone, and goes with that face.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magface.errors import DataError
from magface.report.album_state import (
    AlbumFace,
    Corrections,
    Person,
    Settled,
    Spot,
    State,
    checked_name,
    find_spots,
)
from magface.report.results import name_of

_ID = re.compile(r"(?:person[- ]?)?(\d{1,18})", re.IGNORECASE)
_NUMBERED = re.compile(r"(.+)#(\d{1,18})", re.DOTALL)
_SHOWN = 5
NOBODY = "unknown"
"""What stands for faces of nobody in particular where a person is asked for."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a correction does.

    Attributes:
        corrections: everything that the user said, with this.
        people: new person of each face that gets another.
        person: id of whom it is about.
        message: what was done, for people.
    """

    corrections: Corrections
    people: Mapping[AlbumFace, int]
    person: int
    message: str


Correction = Callable[[State, Corrections], Change]


def merge(first: str, others: Sequence[str]) -> Correction:
    """People who are one. The first keeps its id, and its name unless it has none.

    Raises:
        DataError: when it is made: there is no such person, or they are one already.
    """

    def change(state: State, corrections: Corrections) -> Change:
        people = [person_of(state, text) for text in (first, *others)]
        if len({person.id for person in people}) < len(people):
            raise DataError("a person cannot be merged with itself; name different people.")
        kept, *gone = people
        name = next((person.name for person in people if person.name), "")
        faces = [face for person in people for face in person.faces]
        absent = [spot for person in people for spot in _said(corrections, person.id).faces]
        found = _settled(state, corrections, {kept.id: faces}, extra={kept.id: absent}, names={kept.id: name})
        left = {number: settled for number, settled in found.people.items() if number not in {each.id for each in gone}}
        return Change(
            Corrections(left),
            {face: kept.id for person in gone for face in person.faces},
            kept.id,
            f"{_list(person.title for person in people)} are one: {name or kept.title}.",
        )

    return change


def split(person: str, faces: Sequence[str]) -> Correction:
    """Faces that are somebody else than the rest of a person, together a new one.

    Args:
        person: that they are of now; `unknown` for faces of nobody.
        faces: each a photo, and `#` with the number of the face where it has several of the person.

    Raises:
        DataError: when it is made: there is no such person or face, or nobody would be left.
    """

    def change(state: State, corrections: Corrections) -> Change:
        source = None if person.lower() == NOBODY else person_of(state, person)
        scope, title = (state.unknown, "the unknown") if source is None else (source.faces, source.title)
        moved = _faces_of(scope, faces, title)
        new = state.highest + 1
        groups = {new: moved}
        if source is not None:
            groups[source.id] = [face for face in source.faces if face not in moved]
            if not groups[source.id]:
                raise DataError(f"these are all faces of {source.title}; leave some, or give it another name.")
        return Change(
            _settled(state, corrections, groups),
            dict.fromkeys(moved, new),
            new,
            f"{_count(moved)} from {title} {'is' if len(moved) == 1 else 'are'} now Person {new}.",
        )

    return change


def move(faces: Sequence[str], person: str) -> Correction:
    """Faces that are of a person, whomever or nobody they were of.

    Raises:
        DataError: when it is made: there is no such face or person.
    """

    def change(state: State, corrections: Corrections) -> Change:
        target = person_of(state, person)
        owners = {face: each for each in state.people for face in each.faces}
        moved = _faces_of([*owners, *state.unknown], faces, "the album")
        groups = {each.id: list(each.faces) for each in {target.id: target, **_by_id(owners, moved)}.values()}
        groups = {number: [face for face in kept if face not in moved] for number, kept in groups.items()}
        groups[target.id] += moved
        return Change(
            _settled(state, corrections, groups),
            dict.fromkeys(moved, target.id),
            target.id,
            f"{_count(moved)} {'is' if len(moved) == 1 else 'are'} now of {target.title}.",
        )

    return change


def name(person: str, text: str) -> Correction:
    """What a person is called; two may have one name.

    Raises:
        DataError: when it is made: there is no such person; `text` is no name.
    """

    def change(state: State, corrections: Corrections) -> Change:
        named = person_of(state, person)
        found = _settled(state, corrections, {named.id: named.faces[:1]}, names={named.id: checked_name(text)})
        return Change(found, {}, named.id, f"{named.title} is now {found.people[named.id].name}.")

    return change


def person_of(state: State, text: str) -> Person:
    """A person by id (`3`, `person-3`) or name.

    Raises:
        DataError: there is none, or several of that name.
    """
    number = _ID.fullmatch(text.strip())
    found = [each for each in state.people if number and each.id == int(number[1])]
    found = found or [each for each in state.people if each.name and each.name == text.strip()]
    if not found:
        named = [each.name for each in state.people if each.name]
        known = f"names are {_list(named)}; " if named else ""
        raise DataError(f"there is no person {text[:40]!r} in the album; {known}numbers are on the page people.html.")
    if len(found) > 1:
        numbers = _list(str(each.id) for each in found)
        raise DataError(f"{len(found)} people are called {text!r}; take a number: {numbers}.")
    return found[0]


def face_of(scope: Sequence[AlbumFace], text: str, title: str) -> AlbumFace:
    """A face by its photo, and `#` with its number where there are several.

    Args:
        scope: faces that it may be.
        text: path of the photo, or of a link to it, or the end of the path.
        title: what messages call the scope.

    Raises:
        DataError: there is none, or several.
    """
    whole = _in_photo(scope, text)
    numbered = None if whole else _NUMBERED.fullmatch(text)
    found = whole
    if numbered:
        found = [face for face in _in_photo(scope, numbered[1]) if face.face == int(numbered[2])]
    if not found:
        raise DataError(f"there is no face {text} in {title}; name a photo, and the face in it as photo.jpg#2.")
    photos = sorted({face.photo for face in found})
    if len(photos) > 1:
        raise DataError(f"{text} may be {_list(photos)}; say which.")
    if len(found) > 1:
        numbers = _list(f"{text}#{face.face}" for face in sorted(found, key=lambda face: face.face))
        raise DataError(f"{text} has {len(found)} faces of {title}, from left to right: {numbers}; say which.")
    return found[0]


def _faces_of(scope: Sequence[AlbumFace], texts: Sequence[str], title: str) -> list[AlbumFace]:
    return list(dict.fromkeys(face_of(scope, text, title) for text in texts))


def _in_photo(scope: Sequence[AlbumFace], text: str) -> list[AlbumFace]:
    """Faces of a photo of that path, or else of that end of a path."""
    paths = {name_of(Path(text)), name_of(Path(os.path.realpath(text))), text}
    end = f"/{text.lstrip('./')}"
    return [face for face in scope if face.photo in paths] or [face for face in scope if face.photo.endswith(end)]


def _by_id(owners: Mapping[AlbumFace, Person], faces: Sequence[AlbumFace]) -> dict[int, Person]:
    return {owners[face].id: owners[face] for face in faces if face in owners}


def _said(corrections: Corrections, person: int) -> Settled:
    return corrections.people.get(person, Settled())


def _settled(
    state: State,
    corrections: Corrections,
    groups: Mapping[int, Sequence[AlbumFace]],
    *,
    extra: Mapping[int, Sequence[Spot]] | None = None,
    names: Mapping[int, str] | None = None,
) -> Corrections:
    """Corrections by which faces are of the given people, and of nobody else."""
    faces = [*(face for person in state.people for face in person.faces), *state.unknown]
    moved = {face for group in groups.values() for face in group}
    said = {
        number: [*_said(corrections, number).faces, *(extra or {}).get(number, ())]
        for number in corrections.people.keys() | groups.keys()
    }
    every = list(dict.fromkeys(spot for spots in said.values() for spot in spots))
    rows = find_spots(every, faces, exact=False)
    gone = {spot for spot, row in zip(every, rows, strict=True) if row >= 0 and faces[row] in moved}
    people: dict[int, Settled] = {}
    for number, spots in said.items():
        new = [Spot(face.photo, face.box, face.crop) for face in groups.get(number, ())]
        kept = [spot for spot in dict.fromkeys(spots) if spot not in gone]
        if kept or new:
            name = (names or {}).get(number, _said(corrections, number).name)
            people[number] = Settled(name, (*kept, *new))
    return Corrections(people)


def _count(faces: Sequence[AlbumFace]) -> str:
    return f"{len(faces)} {'face' if len(faces) == 1 else 'faces'}"


def _list(texts: Iterable[str]) -> str:
    found = list(texts)
    return ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
