import dataclasses
import math

import numpy as np
import pytest

from magface.data.audit import own_cosine
from magface.errors import DataError
from magface.gallery import Entry, audit, openset
from magface.gallery.policy import Policy
from magface.metrics.verification import threshold_at_fmr
from magface.quality import qmagface


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def faces_of(gallery):
    """Ids, vectors and names of all faces, and template of each person."""
    names = {person.id: person.name for person in gallery.people()}
    faces = list(gallery.faces())
    templates = {person.name: person.template for person in gallery.people()}
    return [f.id for f in faces], np.stack([f.vector for f in faces]), [names[f.person] for f in faces], templates


@pytest.fixture
def messy(place, crowd):
    """A gallery with a copy under one name, one under two, a wrong face, and a person under two names."""
    entries, centres = crowd(40, each=4)
    rng = np.random.default_rng(7)
    near = lambda vector: vector + rng.normal(0, 0.1, 64).astype(np.float32)  # noqa: E731
    extra = [
        Entry("person 0", near(entries[0].vector), 90, "copy.jpg"),
        Entry("person 1", near(entries[8].vector), 90, "stolen.jpg"),
        Entry("person 3", centres[4], 90, "wrong.jpg"),
        *(Entry("alias", centres[5] + rng.normal(0, 0.6, 64).astype(np.float32), 90, f"{i}.jpg") for i in range(4)),
        *(Entry("poor", rng.normal(0, 1.5, 64).astype(np.float32), 50, f"poor {i}.jpg") for i in range(2)),
    ]
    gallery = place.create()
    gallery.enroll(entries + extra, check=False)
    return gallery


def test_copies_are_all_pairs_that_are_near(messy):
    ids, vectors, names, _ = faces_of(messy)
    cosine = unit(vectors) @ unit(vectors).T
    expected = {
        (ids[a], ids[b]): ((names[a], names[b]), cosine[a, b])
        for a, b in zip(*np.nonzero(np.triu(cosine, 1) >= 0.92), strict=True)
    }
    found = messy.audit().copies
    assert {(each.first, each.second): each.people for each in found} == {
        key: people for key, (people, _) in expected.items()
    }
    assert all(each.first < each.second for each in found)
    for each in found:
        assert each.cosine == pytest.approx(expected[each.first, each.second][1], abs=1e-5)
    assert {("person 0",), ("person 1", "person 2")} <= {tuple(sorted(set(each.people))) for each in found}
    assert [each.cosine for each in found] == sorted((each.cosine for each in found), reverse=True)


def test_likely_wrong_faces_are_those_nearer_to_somebody_else(messy):
    ids, vectors, names, templates = faces_of(messy)
    found = messy.audit()
    people = sorted(templates)
    labels = np.array([people.index(name) for name in names])
    cosine = unit(vectors) @ unit(np.stack([templates[name] for name in people])).T
    cosine[np.arange(len(labels)), labels] = -np.inf
    by_face = {each.face: each for each in found.suspects}
    wrong = next(f for f in messy.faces("person 3") if f.source == "wrong.jpg")
    stolen = next(f for f in messy.faces("person 1") if f.source == "stolen.jpg")
    assert {wrong.id, stolen.id} <= set(by_face)
    assert (by_face[wrong.id].person, by_face[wrong.id].nearest) == ("person 3", "person 4")
    assert by_face[wrong.id].own == pytest.approx(
        float(own_cosine(vectors, labels, len(people), np.arange(len(ids)))[ids.index(wrong.id)]), abs=1e-5
    )
    assert by_face[wrong.id].other == pytest.approx(float(cosine[ids.index(wrong.id)].max()), abs=2e-3)
    assert by_face[stolen.id].nearest == "person 2"
    honest = set(ids) - {wrong.id, stolen.id} - {face.id for face in messy.faces("poor")}
    assert not honest & set(by_face)
    for face in messy.faces("poor"):  # two strangers under one name are far from each other
        assert by_face[face.id].own < found.far


def test_one_person_under_two_names_is_told_and_their_faces_are_not_suspect(messy):
    found = messy.audit()
    assert [set(each.people) for each in found.same] == [{"alias", "person 5"}]
    one, other = (messy.person(name).template for name in ("alias", "person 5"))
    assert found.same[0].cosine == pytest.approx(float(unit(one) @ unit(other)), abs=2e-3)
    assert found.same[0].cosine >= found.agree
    assert not {"alias", "person 5"} & {each.person for each in found.suspects}


def test_people_known_by_poor_faces_alone_are_told(messy):
    assert messy.audit().poor == ("poor",)
    messy.policy = Policy(mark=95)
    messy.enroll([Entry("person 9", np.ones(64, np.float32), 90)])
    assert messy.audit().poor == ("poor",)


def test_what_is_found_does_not_depend_on_the_blocks(in_memory, crowd, monkeypatch):
    entries, centres = crowd(30, each=3, noise=0.4)
    stolen = [dataclasses.replace(entry, person="thief") for entry in entries[4:6]]
    wrong = [Entry(f"person {i}", centres[i + 1], 90) for i in range(20, 25)]
    in_memory.enroll(entries + stolen + wrong, check=False)
    whole = in_memory.audit()
    assert whole.copies
    assert whole.suspects
    for size in (1, 5, 50):
        monkeypatch.setattr(audit, "_FACES", size)
        monkeypatch.setattr(audit, "_PEOPLE", size)
        found = in_memory.audit()
        assert {(each.first, each.second) for each in found.copies} == {(e.first, e.second) for e in whole.copies}
        assert [each.people for each in found.same] == [each.people for each in whole.same]
        assert {each.face for each in found.suspects} == {each.face for each in whole.suspects}


def test_many_who_look_as_one_are_all_told(in_memory):
    rng = np.random.default_rng(0)
    centre = rng.normal(0, 1.5, 64)
    in_memory.enroll(
        [Entry(f"p{i}", (centre + rng.normal(0, 0.1, 64)).astype(np.float32), 90) for i in range(30)], check=False
    )
    found = in_memory.audit()
    assert len(found.same) == 30 * 29 / 2
    assert len(found.copies) == 30 * 29 / 2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_gallery_of_hardly_anybody_has_nothing_wrong(gallery, crowd, count):
    gallery.enroll(crowd(count, each=1)[0])
    found = gallery.audit()
    assert (found.copies, found.suspects, found.same, found.poor) == ((), (), (), ())
    assert math.isfinite(found.agree)


def test_faces_are_searched_among_everybody_else(in_memory, crowd, card):
    in_memory.enroll(crowd(5)[0], check=False)
    found = in_memory.audit()
    assert found.near == openset.threshold(card, in_memory.policy.fpir, 4).threshold
    assert (found.far, found.agree) == (openset.cosine_at(card, 1e-2), audit.agreement(card, 5))


def test_a_tenth_of_a_pair_reaches_the_agreement(card):
    assert openset.cosine_at(card, 0.1 / 4950) == audit.agreement(card, 100)


@pytest.mark.parametrize("fpir", [0.1, 0.3])
def test_calibration_is_what_strangers_in_the_gallery_need(gallery, crowd, card, fpir):
    entries, _ = crowd(150, each=1)
    gallery.enroll(entries, check=False)
    before = gallery.threshold(fpir).threshold
    shift = gallery.calibrate(fpir)
    _, vectors, _, _ = faces_of(gallery)
    cosine = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(cosine, -np.inf)
    lengths = np.linalg.norm(vectors, axis=1)
    score = qmagface.score(cosine, np.minimum(lengths[:, None], lengths[None]), card.comparison)
    score[cosine == -np.inf] = -np.inf
    alone = openset.threshold(card, fpir, 149), openset.threshold(card, fpir, 149, "quality")
    assert shift.cosine == pytest.approx(threshold_at_fmr(cosine.max(axis=1), fpir) - alone[0].threshold, abs=1e-5)
    if gallery.settings.index == "exact":
        assert shift.score == pytest.approx(threshold_at_fmr(score.max(axis=1), fpir) - alone[1].threshold, abs=1e-4)
    assert (shift.fpir, shift.people, shift.searches, shift.passed) == (fpir, 150, 150, 0)
    assert gallery.threshold(fpir).threshold == pytest.approx(before + shift.cosine)
    [found] = gallery.search(entries[0].vector[None], fpir=fpir)
    assert found.limit == gallery.threshold(fpir)
    assert gallery.info().calibrated == shift


def test_a_gallery_of_a_model_without_a_score_is_calibrated_by_cosine(place, crowd, card):
    gallery = place.create(dataclasses.replace(card, comparison=None))
    gallery.enroll(crowd(40, each=1)[0], check=False)
    shift = gallery.calibrate(0.3)
    assert (shift.score, gallery.info().calibrated) == (0, shift)


def test_calibration_passes_over_a_person_under_two_names(in_memory, crowd):
    entries, _ = crowd(100, each=2)
    in_memory.enroll(entries, check=False)
    clean = in_memory.calibrate(0.1)
    twice = [dataclasses.replace(entry, person=f"alias of {entry.person}") for entry in entries[1:60:2]]
    in_memory.enroll(twice, check=False)
    found = in_memory.calibrate(0.1)
    assert found.passed >= 50
    assert found.cosine == pytest.approx(clean.cosine, abs=0.05)


def test_a_rate_too_low_for_the_searches_is_measured_at_a_higher_one(in_memory, crowd):
    in_memory.enroll(crowd(50, each=1)[0], check=False)
    assert in_memory.calibrate(0.001).fpir == 10 / 50
    assert in_memory.calibrate(0.4).fpir == 0.4
    assert in_memory.calibrate(0.001, searches=25).searches == 25


def test_too_few_people_cannot_be_calibrated_with(in_memory, crowd):
    in_memory.enroll(crowd(19, each=3)[0], check=False)
    with pytest.raises(DataError, match="20 people at least; there are 19"):
        in_memory.calibrate()
    assert in_memory.info().calibrated is None
    for fpir in (0, 1):
        with pytest.raises(DataError, match="between 0 and 1"):
            in_memory.calibrate(fpir)


def test_long_work_tells_how_far_it_is(in_memory, crowd):
    in_memory.enroll(crowd(30, each=2)[0], check=False)
    done = []
    in_memory.calibrate(progress=done.append)
    assert sum(done) == 30
    done.clear()
    in_memory.audit(done.append)
    assert sum(done) == 30 + 60
