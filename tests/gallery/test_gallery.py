"""What every gallery does, whatever store is behind it."""

import dataclasses
import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from magface.errors import DataError, ModelError
from magface.gallery import Entry, enrolling, open_gallery
from magface.gallery.milvus import MilvusStore
from magface.gallery.policy import Policy
from magface.gallery.records import Settings
from magface.gallery.sqlite import SqliteStore
from magface.quality import calibration, qmagface
from magface.types import Embeddings

ODD_NAMES = (
    "Zoë Kravitz",
    "李小龙",
    "محمد",
    "O'Brien; DROP TABLE people; --",
    '"quoted" \\ back',
    "100 % _wild*card?",
    "nan",
    "0",
    "ann",
    "Ann",
    "👩‍🚀 astronaut".replace("\u200d", ""),
    "e\u0301 decomposed",
    "é decomposed",
    "x" * 500,
    '{"json": [1]}',
)

on_disk = pytest.mark.parametrize("backend", ["sqlite", "encrypted", "half", "approximate", "milvus"], indirect=True)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def templates(entries):
    """Mean of the raw vectors of each person: the magnitude-weighted fusion."""
    people = {}
    for entry in entries:
        people.setdefault(entry.person, []).append(entry.vector.astype(np.float64))
    return {name: np.mean(vectors, axis=0) for name, vectors in people.items()}


def assert_is(gallery, expected):
    """The gallery holds these people, `{name: {vectors}}`, and every template is that of its faces."""
    people = list(gallery.people())
    assert [person.id for person in people] == sorted({person.id for person in people})
    assert {person.name for person in people} == set(expected)
    for person in people:
        faces = list(gallery.faces(person.name))
        assert person.faces == len(faces) == len(expected[person.name])
        assert all(face.person == person.id for face in faces)
        assert {face.vector.tobytes() for face in faces} == {vector.tobytes() for vector in expected[person.name]}
        np.testing.assert_array_equal(person.template, enrolling.template([face.vector for face in faces]))
        np.testing.assert_allclose(person.template, np.mean([face.vector for face in faces], axis=0), atol=1e-6)
        assert gallery.person(person.name).id == person.id
    counts = gallery.info().counts
    assert counts.people == len(expected)
    assert counts.faces == sum(map(len, expected.values())) == len(list(gallery.faces()))


def vectors_of(entries):
    found = {}
    for entry in entries:
        found.setdefault(entry.person, []).append(entry.vector)
    return found


# enrolment


def test_people_faces_and_templates_are_kept(place, crowd):
    entries, _ = crowd(12)
    gallery = place.create()
    results = gallery.enroll(entries)
    assert [result.person for result in results] == [entry.person for entry in entries]
    assert all(result.added and not result.marked for result in results)
    assert len({result.face for result in results}) == len(entries)
    assert_is(gallery, vectors_of(entries))
    assert_is(place.open(), vectors_of(entries))


def test_everything_about_a_face_is_kept(place):
    rng = np.random.default_rng(0)
    gallery = place.create()
    vectors = rng.normal(size=(3, 64)).astype(np.float32)
    entries = [
        Entry("Ann", vectors[0], 71.5, "fotos/änn 1.jpg", (1.5, -2.25, 3e3, 4.125), b"\xff\xd8 a \x00 jpeg", 1.25e9),
        Entry("Ann", vectors[1], 100.0),
        Entry("Ann", vectors[2], 35.0, "https://example.org/a.jpg", None, b"", 0.0),
    ]
    ids = [result.face for result in gallery.enroll(entries)]
    for face, entry, id in zip(place.open().faces("Ann"), entries, ids, strict=True):
        assert (face.id, face.source, face.box, face.crop) == (id, entry.source, entry.box, entry.crop)
        assert face.score == pytest.approx(entry.score, rel=1e-6)
        assert face.time == pytest.approx(entry.time, abs=1e-3)
        np.testing.assert_array_equal(face.vector, entry.vector)
        assert face.magnitude == pytest.approx(np.linalg.norm(entry.vector), rel=1e-6)


def test_crops_are_kept_only_where_they_are_wanted(place, crowd):
    gallery = place.create(crops=False)
    gallery.enroll([dataclasses.replace(entry, crop=b"jpeg") for entry in crowd(2)[0]])
    assert {face.crop for face in gallery.faces()} == {b""}


def test_faces_that_come_later_change_the_template(gallery, crowd):
    entries, _ = crowd(5, each=4)
    for some in (entries[:7], entries[7:8], entries[8:]):
        gallery.enroll(some)
    assert_is(gallery, vectors_of(entries))


def test_the_policy_refuses_and_marks_and_is_kept(place, crowd):
    entries, _ = crowd(1, each=5)
    graded = [
        dataclasses.replace(entry, score=score) for entry, score in zip(entries, (39.9, 40, 79.9, 80, 100), strict=True)
    ]
    gallery = place.create()
    gallery.policy = Policy(refuse=40, mark=80)
    results = place.open().enroll(graded)
    assert [bool(result.refused) for result in results] == [True, False, False, False, False]
    assert [result.marked for result in results] == [False, True, True, False, False]
    assert "below 40" in results[0].refused
    assert results[0].face is None
    assert_is(gallery, vectors_of(graded[1:]))
    assert [face.marked for face in gallery.faces()] == [True, True, False, False]
    assert gallery.info().counts.marked == 2
    assert gallery.info().policy == Policy(refuse=40, mark=80)


def test_a_person_of_whom_every_face_is_refused_is_not_there(gallery, crowd):
    entries, _ = crowd(2, score=10)
    assert all(result.refused for result in gallery.enroll(entries))
    assert_is(gallery, {})


def test_enrolling_again_adds_nothing(place, crowd):
    entries, _ = crowd(6)
    gallery = place.create()
    first = gallery.enroll(entries)
    again = place.open().enroll(entries)
    assert [result.face for result in again] == [result.face for result in first]
    assert all(result.present and not result.added for result in again)
    assert_is(gallery, vectors_of(entries))


def test_a_face_given_twice_at_once_is_added_once(gallery, crowd):
    entries, _ = crowd(2)
    results = gallery.enroll([*entries, *entries[::-1]])
    assert [result.present for result in results] == [False] * 6 + [True] * 6
    assert [result.face for result in results[6:]] == [result.face for result in results[5::-1]]
    assert_is(gallery, vectors_of(entries))


def test_the_same_box_of_the_same_picture_is_the_same_face_though_its_vector_is_rounded_otherwise(gallery, crowd):
    [entry, other], _ = crowd(1, each=2)
    entry = dataclasses.replace(entry, box=(1.0, 2.0, 3.0, 4.0))
    rounded = dataclasses.replace(entry, vector=entry.vector * np.float32(1.0001))
    beside = dataclasses.replace(rounded, box=(9.0, 2.0, 13.0, 4.0))
    another = dataclasses.replace(other, source=entry.source, box=entry.box)  # the file was replaced by another
    results = gallery.enroll([entry, rounded, beside, another])
    assert [result.present for result in results] == [False, True, False, False]


@pytest.mark.parametrize("together", [True, False])
def test_faces_that_cancel_each_other_out_still_have_a_template(gallery, together):
    vector = np.arange(1, 65, dtype=np.float32)
    entries = [Entry("Ann", vector, 90), Entry("Ann", -vector, 90)]
    for some in [entries] if together else [[entry] for entry in entries]:
        gallery.enroll(some)
    np.testing.assert_array_equal(gallery.person("Ann").template, vector)
    assert gallery.search(vector[None])[0].matches[0].cosine == pytest.approx(1)


def test_one_face_may_be_enrolled_under_two_names(gallery, crowd):
    [entry], _ = crowd(1, each=1)
    results = gallery.enroll([entry, dataclasses.replace(entry, person="alias")])
    assert all(result.added for result in results)
    assert [result.nearer for result in results] == ["alias", "person 0"]


def test_copies_and_likely_wrong_labels_are_reported(gallery, crowd):
    entries, centres = crowd(8, each=4)
    gallery.enroll(entries)
    copy = dataclasses.replace(entries[0], vector=entries[0].vector * np.float32(0.9), source="resaved.jpg")
    wrong = Entry("person 1", centres[5], 90.0)
    right = Entry("person 2", centres[2], 90.0)
    results = gallery.enroll([copy, wrong, right])
    known = next(gallery.faces("person 0"))
    assert [result.copy for result in results] == [known.id, None, None]
    assert [result.nearer for result in results] == ["", "person 5", ""]
    rest = templates(entries)
    own = [float(unit(e.vector) @ unit(rest[e.person])) for e in (wrong, right)]
    assert [result.own for result in results[1:]] == pytest.approx(own, abs=1e-5)
    assert results[1].other == pytest.approx(float(unit(centres[5]) @ unit(rest["person 5"])), abs=2e-3)
    assert math.isnan(results[2].other)


def test_a_face_is_never_compared_with_itself_whatever_counts_as_a_copy(in_memory, crowd):
    in_memory.policy = dataclasses.replace(in_memory.policy, copy=1.0)  # what rounding makes of it may be less
    entries, _ = crowd(20, each=1)
    assert all(math.isnan(result.own) and result.copy is None for result in in_memory.enroll(entries))


def test_without_a_check_nothing_is_searched(in_memory, crowd, monkeypatch):
    monkeypatch.setattr(in_memory.store, "search", None)
    results = in_memory.enroll(crowd(3)[0], check=False)
    assert all(result.added and math.isnan(result.own) for result in results)


def test_the_first_face_of_a_person_has_no_own_cosine_and_of_a_stranger_nobody_is_nearer(gallery, crowd):
    entries, _ = crowd(6, each=1)
    results = gallery.enroll(entries)
    assert all(math.isnan(result.own) and not result.nearer and result.copy is None for result in results)


def test_batches_are_durable_one_after_the_other(place, crowd, monkeypatch):
    monkeypatch.setattr(enrolling, "BATCH", 4)
    entries, _ = crowd(5, each=2)
    gallery = place.create()

    def stopped():
        yield from entries[:9]
        raise KeyboardInterrupt

    done = []
    with pytest.raises(KeyboardInterrupt):
        gallery.enroll(stopped(), progress=done.append)
    assert done == [4, 4]
    assert_is(place.open(), vectors_of(entries[:8]))
    assert [result.present for result in gallery.enroll(entries)] == [True] * 8 + [False] * 2
    assert_is(place.open(), vectors_of(entries))


def test_labels_are_added_to_those_there_are(gallery, crowd):
    entries, _ = crowd(2)
    gallery.enroll(entries[:4], labels=["staff", "Köln"])
    gallery.enroll(entries, labels=["staff", "guest"])
    assert [person.labels for person in gallery.people()] == [("Köln", "guest", "staff")] * 2
    assert gallery.info().labels == ("Köln", "guest", "staff")


@pytest.mark.parametrize("bad", ["", " staff", "a\nb", "x" * 501])
def test_a_label_that_is_no_name_is_refused(in_memory, crowd, bad):
    with pytest.raises(DataError, match="label"):
        in_memory.enroll(crowd(1)[0], labels=[bad])
    assert_is(in_memory, {})


def test_odd_names_are_only_names(place):
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 2, (len(ODD_NAMES), 64)).astype(np.float32)
    entries = [Entry(name, vector, 80) for name, vector in zip(ODD_NAMES, vectors, strict=True)]
    gallery = place.create()
    gallery.enroll(entries, labels=ODD_NAMES)
    gallery = place.open()
    assert_is(gallery, vectors_of(entries))
    assert gallery.person("Ann").labels == tuple(sorted(ODD_NAMES))
    for name, vector in zip(ODD_NAMES, vectors, strict=True):
        [found] = gallery.search(vector[None], k=1, label=name)
        assert found.matches[0].person == name
    for name in ODD_NAMES[:4]:
        gallery.remove(name)
    assert_is(gallery, vectors_of(entries[4:]))


@pytest.mark.parametrize("size", [1, 63, 65, 512])
def test_a_vector_of_another_size_is_refused_and_nothing_is_added(gallery, size):
    good, bad = np.ones(64, np.float32), np.ones(size, np.float32)
    with pytest.raises(DataError, match=rf"embedding of Bob: {size} numbers, where magface-sface, .* makes 64"):
        gallery.enroll([Entry("Ann", good, 90), Entry("Bob", bad, 90)])
    assert_is(gallery, {})


def test_vectors_of_another_model_are_refused(gallery, crowd):
    entries, centres = crowd(2)
    gallery.enroll(entries, model="a" * 64)
    for act in (
        lambda: gallery.enroll(entries, model="b" * 64),
        lambda: gallery.search(Embeddings(centres, "b" * 64)),
        lambda: list(gallery.entries(Embeddings(centres, "b" * 64), ["Ann", "Bob"])),
    ):
        with pytest.raises(
            DataError, match="not of the model bbbbbbbbbbbb: use that model, or embed the gallery again"
        ):
            act()
    assert gallery.search(Embeddings(centres, "a" * 64))
    assert gallery.search(Embeddings(centres))


def test_embeddings_become_faces_with_their_quality(in_memory, card, crowd):
    _, centres = crowd(2)
    found = list(in_memory.entries(Embeddings(centres, card.sha256), ["Ann", "Bob"], ["a.jpg", "b.jpg"]))
    assert [(entry.person, entry.source) for entry in found] == [("Ann", "a.jpg"), ("Bob", "b.jpg")]
    np.testing.assert_allclose(
        [entry.score for entry in found], calibration.score(np.linalg.norm(centres, axis=1), card)
    )
    with pytest.raises(DataError, match="2 embeddings"):
        list(in_memory.entries(Embeddings(centres), ["Ann"]))
    with pytest.raises(DataError, match="2 and 1"):
        list(in_memory.entries(Embeddings(centres), ["Ann", "Bob"], ["a.jpg"]))


# corrections


@pytest.fixture
def people(place, crowd):
    """A gallery of six people, and their entries."""
    entries, _ = crowd(6)
    gallery = place.create()
    gallery.enroll(entries, labels=["all"])
    return gallery, entries


def test_a_removed_person_is_never_found_again(place, people):
    gallery, entries = people
    assert gallery.remove("person 2")
    expected = vectors_of(entries)
    removed = expected.pop("person 2")
    for handle in (gallery, place.open()):
        assert_is(handle, expected)
        for by in ("cosine", "quality"):
            for search in handle.search(np.stack(removed), k=10, by=by):
                assert {match.person for match in search.matches} == set(expected)
        with pytest.raises(DataError, match="no person 'person 2'"):
            handle.person("person 2")


def test_ids_of_what_was_removed_are_never_used_again(people, crowd):
    gallery, entries = people
    ids = {person.id for person in gallery.people()}
    faces = {face.id for face in gallery.faces()}
    gallery.remove(*vectors_of(entries))
    assert_is(gallery, {})
    gallery.enroll(crowd(3)[0])
    assert not ids & {person.id for person in gallery.people()}
    assert not faces & {face.id for face in gallery.faces()}


def test_several_people_are_removed_together_or_not_at_all(people):
    gallery, entries = people
    with pytest.raises(DataError, match="no person 'nobody'"):
        gallery.remove("person 0", "nobody")
    assert_is(gallery, vectors_of(entries))
    gallery.remove("person 0", "person 1", "person 0")
    assert_is(gallery, vectors_of(entries[6:]))


def test_removing_a_face_leaves_the_template_of_the_others(people):
    gallery, entries = people
    first, *rest = gallery.faces("person 3")
    gallery.remove_face(first.id)
    expected = vectors_of(entries)
    expected["person 3"] = [face.vector for face in rest]
    assert_is(gallery, expected)
    with pytest.raises(DataError, match=f"no face {first.id}"):
        gallery.remove_face(rest[0].id, first.id)
    assert_is(gallery, expected)


def test_the_last_face_takes_its_person_with_it(people):
    gallery, entries = people
    gallery.remove_face(*(face.id for face in gallery.faces("person 3")))
    assert_is(gallery, vectors_of([entry for entry in entries if entry.person != "person 3"]))


def test_a_renamed_person_is_the_same_under_another_name(people):
    gallery, entries = people
    before = gallery.person("person 1")
    gallery.rename("person 1", "Zoë")
    after = gallery.person("Zoë")
    assert (after.id, after.labels, after.faces) == (before.id, before.labels, before.faces)
    gallery.rename("Zoë", "Zoë")
    for name in ("person 0", " ", "a\tb"):
        with pytest.raises(DataError):
            gallery.rename("Zoë", name)
    with pytest.raises(DataError, match="no person 'person 1'"):
        gallery.rename("person 1", "Eve")
    expected = vectors_of(entries)
    expected["Zoë"] = expected.pop("person 1")
    assert_is(gallery, expected)


def test_labels_of_a_person_are_changed(people):
    gallery, entries = people
    changed = gallery.relabel("person 1", add=["b", "a", "b"], drop=["all", "never there"])
    assert changed.labels == gallery.person("person 1").labels == ("a", "b")
    assert gallery.info().labels == ("a", "all", "b")
    gallery.relabel("person 1", drop=["a", "b"])
    assert gallery.person("person 1").labels == ()
    assert gallery.info().labels == ("all",)
    with pytest.raises(DataError, match="label"):
        gallery.relabel("person 1", add=[""])
    assert_is(gallery, vectors_of(entries))


def test_two_people_become_one(people):
    gallery, entries = people
    gallery.relabel("person 4", add=["late"])
    merged = gallery.merge("person 2", "person 4")
    expected = vectors_of(entries)
    expected["person 2"] += expected.pop("person 4")
    assert_is(gallery, expected)
    assert (merged.name, merged.faces, merged.labels) == ("person 2", 6, ("all", "late"))
    for into, other in (("person 2", "person 2"), ("person 2", "person 4"), ("person 4", "person 2")):
        with pytest.raises(DataError):
            gallery.merge(into, other)
    assert_is(gallery, expected)


def test_a_face_moves_to_a_person_who_is_there(people):
    gallery, entries = people
    face = list(gallery.faces("person 0"))[1]
    assert gallery.move(face.id, "person 5") == face.id
    expected = vectors_of(entries)
    expected["person 5"].append(expected["person 0"].pop(1))
    assert_is(gallery, expected)
    assert gallery.move(face.id, "person 5") == face.id
    assert_is(gallery, expected)


def test_a_face_moves_to_somebody_new(people):
    gallery, entries = people
    face = list(gallery.faces("person 0"))[1]
    moved = gallery.move(face.id, "Eve")
    expected = vectors_of(entries)
    expected["Eve"] = [expected["person 0"].pop(1)]
    assert_is(gallery, expected)
    [kept] = gallery.faces("Eve")
    assert (kept.id, kept.source, kept.score, kept.time) == (moved, face.source, face.score, face.time)
    with pytest.raises(DataError, match="no face 123456"):
        gallery.move(123456, "Eve")


def test_the_last_face_that_moves_takes_its_old_person_with_it(people):
    gallery, entries = people
    for face in list(gallery.faces("person 0")):
        gallery.move(face.id, "person 1")
    expected = vectors_of(entries)
    expected["person 1"] += expected.pop("person 0")
    assert_is(gallery, expected)


# searches


def brute_force(people, probes, k, score):
    """Names and values of the k best people for each probe."""
    names = list(people)
    values = score(np.stack(list(people.values())), probes)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return [[names[i] for i in row] for row in order], np.take_along_axis(values, order, axis=1)


def cosines(vectors, probes):
    return unit(probes.astype(np.float64)) @ unit(vectors).T


def test_searches_find_the_nearest_people(place, crowd, card):
    entries, centres = crowd(300, each=2)
    gallery = place.create()
    gallery.enroll(entries, check=False)
    probes = centres[:70]
    names, values = brute_force(templates(entries), probes, 7, cosines)
    found = gallery.search(probes, k=7)
    if place.exact:
        assert [[match.person for match in search.matches] for search in found] == names
        actual = [[match.cosine for match in search.matches] for search in found]
        np.testing.assert_allclose(actual, values, atol=1e-6)
    assert [search.matches[0].person for search in found] == [row[0] for row in names]
    for search, probe in zip(found, probes, strict=True):
        assert search.exact
        assert search.limit is None
        assert search.identified is None
        assert search.quality == pytest.approx(float(calibration.score(np.linalg.norm(probe), card)), rel=1e-5)
        for match in search.matches:
            person = gallery.person(match.person)
            length = np.linalg.norm(person.template)
            assert (match.id, match.labels) == (person.id, person.labels)
            assert match.magnitude == pytest.approx(length, rel=1e-6)
            assert match.quality == pytest.approx(float(calibration.score(length, card)), rel=1e-5)
            lower = min(length, np.linalg.norm(probe))
            expected = qmagface.score(match.cosine, lower, card.comparison)
            assert match.score == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("noise", [0.6, 2.0])
def test_the_best_by_quality_are_the_best_of_all_where_the_search_says_so(gallery, crowd, card, noise):
    entries, centres = crowd(250, each=1, noise=noise)
    rng = np.random.default_rng(1)
    faded = [dataclasses.replace(e, vector=e.vector * np.float32(rng.uniform(0.05, 1.5))) for e in entries]
    gallery.enroll(faded, check=False)
    probes = centres[:40] * rng.uniform(0.02, 1, (40, 1)).astype(np.float32)

    def score(vectors, rows):
        lengths = np.linalg.norm(vectors, axis=1)[None], np.linalg.norm(rows, axis=1)[:, None]
        return qmagface.score(cosines(vectors, rows), np.minimum(*lengths), card.comparison)

    names, values = brute_force(templates(faded), probes, 3, score)
    found = gallery.search(probes, k=3, by="quality")
    for search, row, best in zip(found, names, values, strict=True):
        scores = [match.score for match in search.matches]
        assert scores == sorted(scores, reverse=True)
        if search.exact and gallery.settings == Settings():
            assert [match.person for match in search.matches] == row
        assert scores[0] <= best[0] + 1e-5
    assert any(search.exact for search in found)
    assert not all(search.exact for search in found) or noise < 1


def test_by_quality_everybody_is_looked_at_in_a_small_gallery(people, card):
    gallery, entries = people
    assert all(search.exact for search in gallery.search(np.stack([e.vector for e in entries]), k=2, by="quality"))


def test_a_model_without_a_score_searches_by_cosine_only(place, card, crowd):
    gallery = place.create(dataclasses.replace(card, comparison=None))
    entries, centres = crowd(3)
    gallery.enroll(entries)
    assert gallery.search(centres)[0].matches[0].score is None
    with pytest.raises(ModelError, match="no quality-aware score; search by cosine"):
        gallery.search(centres, by="quality")


@pytest.mark.parametrize("by", ["cosine", "quality"])
def test_no_room_is_taken_for_people_whom_there_are_not(people, by):
    gallery, entries = people
    [everybody] = gallery.search(entries[0].vector[None], k=1 << 50, by=by)
    assert (len(everybody.matches), everybody.exact) == (gallery.info().counts.people, True)


@pytest.mark.parametrize("id", [-1, 0, 1 << 62, 1 << 63, 1 << 100])
def test_a_face_of_a_number_that_cannot_be_is_not_there(people, id):
    gallery, _ = people
    for change in (gallery.remove_face, lambda face: gallery.move(face, "Ann")):
        with pytest.raises(DataError, match=f"no face {id} "):
            change(id)


def test_more_people_than_there_are_cannot_be_found(people):
    gallery, entries = people
    [found] = gallery.search(entries[0].vector[None], k=50)
    assert sorted(match.person for match in found.matches) == sorted(vectors_of(entries))


def test_nobody_is_found_in_an_empty_gallery(gallery):
    [found] = gallery.search(np.ones((1, 64), np.float32), fpir=0.01)
    assert found.matches == ()
    assert found.identified is None
    assert found.limit.people == 0
    assert gallery.search(np.ones((1, 64), np.float32), by="quality")[0].matches == ()
    assert_is(gallery, {})


def test_who_is_exactly_at_the_threshold_is_identified(people):
    gallery, entries = people
    [found] = gallery.search(entries[0].vector[None], fpir=0.1)
    best = found.matches[0]
    for limit, person in ((best.cosine, best), (np.nextafter(best.cosine, 2), None)):
        assert dataclasses.replace(found, limit=dataclasses.replace(found.limit, threshold=limit)).identified is person


def test_no_probe_is_no_search(people):
    gallery, _ = people
    assert gallery.search(np.empty((0, 64), np.float32)) == []


@pytest.mark.parametrize("by", ["cosine", "quality"])
def test_a_label_limits_a_search(place, crowd, by):
    entries, centres = crowd(30)
    gallery = place.create()
    gallery.enroll(entries[:45], labels=["a"])
    gallery.enroll(entries[45:], labels=["b"])
    names = {f"person {i}" for i in range(15)}
    for row, found in enumerate(gallery.search(centres, k=20, label="a", by=by, fpir=0.01)):
        assert {match.person for match in found.matches} == names
        assert found.limit.people == 15
        assert (found.identified is not None) == (row < 15)
    assert gallery.search(centres, k=1, fpir=0.01)[0].limit.people == 30


def test_nobody_has_an_unknown_label(people):
    gallery, entries = people
    [found] = gallery.search(entries[0].vector[None], label="nobody's", fpir=0.01)
    assert found.matches == ()
    assert found.identified is None


@pytest.mark.parametrize("by", ["cosine", "quality"])
def test_people_are_identified_and_strangers_are_not(gallery, crowd, by):
    entries, centres = crowd(200)
    gallery.enroll(entries, check=False)
    known = gallery.search(centres, k=2, by=by, fpir=0.01)
    assert [search.identified.person for search in known] == [f"person {i}" for i in range(200)]
    _, strangers = crowd(200, seed=1)
    found = gallery.search(strangers, k=2, by=by, fpir=0.01)
    assert sum(search.identified is not None for search in found) <= 8
    limit = gallery.threshold(0.01, by=by)
    for search in found:
        value = search.matches[0].cosine if by == "cosine" else search.matches[0].score
        assert search.limit == limit
        assert (search.identified is not None) == (value >= limit.threshold)


@pytest.mark.parametrize(
    ("probes", "reason"),
    [
        (np.zeros((2, 64)), "probe 0 is all zeros"),
        (np.full((1, 64), np.nan), "NaN"),
        (np.full((1, 64), np.inf), "NaN"),
        (np.ones(64), "shape"),
        (np.ones((1, 63)), "the probes: 63 numbers"),
        (np.ones((1, 2, 64)), "shape"),
    ],
)
def test_probes_that_are_no_faces_are_refused(in_memory, crowd, probes, reason):
    in_memory.enroll(crowd(2)[0])
    with pytest.raises(DataError, match=reason):
        in_memory.search(probes.astype(np.float32))


@pytest.mark.parametrize("options", [{"k": 0}, {"k": -1}, {"by": "name"}, {"fpir": 0.0}, {"fpir": 1.0}, {"fpir": -1.0}])
def test_searches_out_of_range_are_refused(in_memory, crowd, options):
    in_memory.enroll(crowd(2)[0])
    with pytest.raises(DataError):
        in_memory.search(np.ones((1, 64), np.float32), **options)


def test_a_claim_is_checked(people, card):
    gallery, entries = people
    rest = templates(entries)
    right, wrong = (gallery.verify(entries[0].vector, name, fmr=1e-2) for name in ("person 0", "person 1"))
    assert right.match
    assert not wrong.match
    assert right.threshold == card.threshold(1e-2)
    for claim in (right, wrong):
        template = rest[claim.person]
        assert claim.cosine == pytest.approx(float(unit(template) @ unit(entries[0].vector)), abs=1e-6)
        lower = min(np.linalg.norm(template), np.linalg.norm(entries[0].vector))
        assert claim.quality == pytest.approx(float(calibration.score(lower, card)), rel=1e-5)
        assert claim.score == pytest.approx(float(qmagface.score(claim.cosine, lower, card.comparison)), rel=1e-5)
    assert gallery.verify(entries[0].vector * np.float32(0.01), "person 0").weak
    with pytest.raises(DataError, match="no person 'nobody'"):
        gallery.verify(entries[0].vector, "nobody")
    with pytest.raises(ModelError, match=r"no threshold at FMR 0\.5"):
        gallery.verify(entries[0].vector, "person 0", fmr=0.5)
    with pytest.raises(DataError, match="all zeros"):
        gallery.verify(np.zeros(64, np.float32), "person 0")


# handles, models


@on_disk
def test_two_handles_see_each_others_changes(place, crowd):
    entries, centres = crowd(6)
    one = place.create()
    two = place.open()
    one.enroll(entries[:9])
    assert two.search(centres[:1], k=1)[0].matches[0].person == "person 0"
    two.enroll(entries[9:])
    assert_is(one, vectors_of(entries))
    assert one.search(centres[5:], k=1)[0].matches[0].person == "person 5"
    two.remove("person 5")
    assert one.search(centres[5:], k=9)[0].matches[0].person != "person 5"
    one.rename("person 0", "Eve")
    assert two.search(centres[:1], k=1)[0].matches[0].person == "Eve"
    two.policy = Policy(refuse=99, mark=99)
    assert all(result.refused for result in one.enroll(crowd(1, name="late {}")[0]))


def test_a_gallery_is_closed_by_its_block(place, crowd):
    with place.create() as gallery:
        gallery.enroll(crowd(2)[0])
    with place.open() as again:
        assert again.info().counts.people == 2


@on_disk
def test_a_gallery_is_made_once_and_then_opened(place, card, crowd):
    with pytest.raises(DataError, match="no gallery"):
        place.other()
    with pytest.raises(DataError, match="no gallery"):
        place.other(card)
    first = place.create()
    first.enroll(crowd(2)[0])
    again = place.create(recall=0.5)
    assert again.settings == first.settings
    assert again.info().counts.people == 2
    assert place.open(card).info().counts.people == 2
    assert place.open().card == card
    with pytest.raises(DataError, match="not of the model cccccccccccc"):
        place.open(dataclasses.replace(card, sha256="c" * 64))


@on_disk
def test_threads_may_share_a_gallery(place, crowd):
    gallery = place.create()
    parts = [crowd(4, seed=seed, name=f"{seed} {{}}")[0] for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda entries: [gallery.enroll([entry]) for entry in entries], parts))
    assert_is(gallery, vectors_of([entry for entries in parts for entry in entries]))


def test_the_address_says_what_keeps_a_gallery(tmp_path, monkeypatch):
    asked = []
    for store in (SqliteStore, MilvusStore):
        monkeypatch.setattr(store, "open", lambda place, key, store=store: asked.append((store, place, key)))
    for uri in ("faces.db", tmp_path / "faces.db", "http://host:1", "https://host/people", "milvus:some/folder"):
        open_gallery(uri, key="k")
    assert asked == [
        (SqliteStore, "faces.db", "k"),
        (SqliteStore, str(tmp_path / "faces.db"), "k"),
        (MilvusStore, "http://host:1", "k"),
        (MilvusStore, "https://host/people", "k"),
        (MilvusStore, "some/folder", "k"),
    ]


def test_a_gallery_that_somebody_made_a_moment_ago_is_opened(tmp_path, card, monkeypatch):
    create = SqliteStore.create

    def late(*arguments):
        create(*arguments).close()
        return create(*arguments)

    monkeypatch.setattr(SqliteStore, "create", late)
    with open_gallery(tmp_path / "faces.db", card, create=True, key="") as gallery:
        assert gallery.card == card


def test_a_gallery_that_is_to_be_made_needs_a_model(tmp_path):
    with pytest.raises(DataError, match="name the model"):
        open_gallery(tmp_path / "faces.db", create=True)
    assert not any(tmp_path.iterdir())


def test_the_key_comes_from_the_environment(tmp_path, card, crowd, monkeypatch):
    pytest.importorskip("sqlcipher3")
    monkeypatch.setenv("MAGFACE_GALLERY_KEY", "correct horse")
    with open_gallery(tmp_path / "faces.db", card, create=True) as gallery:
        gallery.enroll(crowd(2)[0])
    with open_gallery(tmp_path / "faces.db") as gallery:
        assert gallery.info().counts.people == 2
    for key in ("wrong horse", ""):
        with pytest.raises(DataError):
            open_gallery(tmp_path / "faces.db", key=key)
    monkeypatch.setenv("MAGFACE_GALLERY_KEY", "wrong horse")
    with pytest.raises(DataError):
        open_gallery(tmp_path / "faces.db")


def turned(entries, size=48):
    """Embeds faces with another model: a fixed projection to fewer numbers."""
    projection = np.random.default_rng(9).normal(0, 0.3, (64, size)).astype(np.float32)
    return lambda faces: [(face.vector @ projection, 55.0) for face in faces]


def test_every_vector_is_replaced_when_the_model_changes(place, card, crowd):
    entries, centres = crowd(20)
    gallery = place.create()
    other = place.open()
    gallery.enroll(entries, labels=["all"])
    gallery.calibrate(0.1)
    new = dataclasses.replace(card, name="new", embedding_size=48, sha256="d" * 64)
    embed = turned(entries)
    expected = {e.person: [] for e in entries}
    for face, entry in zip(gallery.faces(), entries, strict=True):
        expected[entry.person].append(embed([face])[0][0])
    people = [(person.id, person.name, person.labels) for person in gallery.people()]
    gallery.reembed(new, embed)
    for handle in (gallery, other, place.open()):
        assert handle.card == new
        assert handle.info().calibrated is None
        assert [(person.id, person.name, person.labels) for person in handle.people()] == people
        assert {(face.score, face.marked) for face in handle.faces()} == {(55.0, True)}
        assert_is(handle, expected)
        probe = np.stack(expected["person 7"]).mean(axis=0)
        assert handle.search(probe[None], k=1)[0].matches[0].person == "person 7"
        with pytest.raises(DataError, match="64 numbers"):
            handle.search(centres)
        with pytest.raises(DataError, match="64 numbers"):
            handle.enroll(crowd(1, name="late {}")[0])


def test_a_new_score_that_the_policy_accepts_is_not_marked(in_memory, card, crowd):
    in_memory.enroll(crowd(3, each=1)[0])
    scores = iter([in_memory.policy.mark, np.nextafter(in_memory.policy.mark, 0), 100])
    new = dataclasses.replace(card, sha256="d" * 64)
    in_memory.reembed(new, lambda faces: [(face.vector, float(next(scores))) for face in faces])
    assert [face.marked for face in in_memory.faces()] == [False, True, False]


@pytest.mark.parametrize("bad", [np.ones(47), np.zeros(48), np.full(48, np.nan)], ids=["size", "zeros", "nan"])
def test_a_gallery_that_cannot_be_embedded_again_stays_as_it_was(gallery, card, crowd, bad):
    entries, _ = crowd(4)
    gallery.enroll(entries)
    embed, calls = turned(entries), itertools.count()

    def broken(faces):
        return embed(faces) if next(calls) < 2 else [(bad.astype(np.float32), 55.0)] * len(faces)

    with pytest.raises(DataError):
        gallery.reembed(dataclasses.replace(card, embedding_size=48, sha256="d" * 64), broken)
    assert gallery.card == card
    assert_is(gallery, vectors_of(entries))


def test_what_was_enrolled_for_a_model_that_changed_meanwhile_is_refused(place, card, crowd):
    entries, _ = crowd(4)
    gallery, other = place.create(), place.open()
    gallery.enroll(entries[:3])
    new = dataclasses.replace(card, sha256="d" * 64)

    def late():
        other.reembed(new, lambda faces: [(face.vector, face.score) for face in faces])
        yield from entries[3:]

    with pytest.raises(DataError, match="another model"):
        gallery.enroll(late())
    assert_is(gallery, vectors_of(entries[:3]))


def test_a_gallery_tells_what_it_is(place, card, crowd):
    gallery = place.create()
    gallery.enroll(crowd(3)[0], labels=["x"])
    info = gallery.info()
    assert (info.counts.people, info.counts.faces, info.counts.marked) == (3, 9, 0)
    assert (info.model, info.fingerprint) == (f"{card.name} {card.version}", card.sha256)
    assert (info.labels, info.policy, info.calibrated) == (("x",), Policy(), None)
    assert info.settings == gallery.settings


def test_a_note_that_cannot_be_read_is_told(in_memory):
    in_memory.store.set_note("policy", "{")
    with pytest.raises(DataError, match="policy in the gallery cannot be read"):
        in_memory.enroll([])
    in_memory.policy = Policy()
    in_memory.store.set_note("shift", "[1]")
    with pytest.raises(DataError, match="calibrate it again"):
        in_memory.search(np.ones((1, 64), np.float32), fpir=0.1)
