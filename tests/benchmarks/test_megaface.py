"""MegaFace's folders, lists and feature files, on crops of a photo."""

import contextlib
import itertools
import tarfile

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magface.benchmarks import megaface
from magface.benchmarks.megaface import DISTRACTOR_NOISES, PROBE_NOISES
from magface.data import features
from magface.errors import DataError
from magface.types import Embeddings

SIZES = (2, 10, 100)


@pytest.fixture(scope="session")
def flickr(tmp_path_factory, astronaut):
    """Twelve places of the photo, named as the distractors are published."""
    root = tmp_path_factory.mktemp("flickr")
    for number, (x, y) in enumerate(itertools.product((0, 130, 260, 390), (0, 190, 380))):
        folder = root / f"{number % 3}" / f"{number}@N0{number % 2}"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / f"{number}_0.png"), astronaut[y : y + 112, x : x + 112, ::-1])
    return root


@pytest.fixture(scope="session")
def vectors(embedder, album_of_crops, flickr):
    """Embeddings of the probes, their people, and the embeddings of the distractors, by the order of names."""
    probes, crowd = sorted(album_of_crops.rglob("*.png")), sorted(flickr.rglob("*.png"))
    made = [embedder.embed_files(files)[0] for files in (probes, crowd)]
    return made[0], [path.parent.name for path in probes], made[1]


def brute_force(probes, people, crowd):
    """Hits and trials of the mates against all distractors."""
    own, other = (probes.direction @ side.direction.T for side in (probes, crowd))
    pairs = [(i, j) for i, a in enumerate(people) for j, b in enumerate(people) if i != j and a == b]
    return sum(own[i, j] > other[i].max() for i, j in pairs), len(pairs)


def test_mates_against_a_folder_of_distractors(embedder, album_of_crops, flickr, vectors, tmp_path):
    seen = []
    found = megaface.evaluate(
        embedder, album_of_crops, distractors=flickr, sizes=(12, 100), cache=tmp_path, progress=seen.append
    )
    hits, trials = brute_force(*vectors)
    assert found["rank-1, 12 distractors"] == hits / trials
    assert found.measures[0].note == f"{hits} of {trials} ordered pairs"
    assert found.measures[0].interval is not None
    assert (found.measures[1].value, found.measures[1].note) == (None, "there are 12 distractors, fewer than 100.")
    assert found["TAR@FMR=1e-06"] is None
    assert "impostor comparisons; there are 108" in found.measures[-1].note
    assert found.counts == {
        "probes": 9,
        "people": 3,
        "probes missing": 0,
        "probes on the list": 0,
        "distractors": 12,
        "distractors missing": 0,
        "distractors on the list": 0,
    }
    assert sum(seen) == 21
    again = megaface.evaluate(embedder, album_of_crops, distractors=flickr, sizes=(12, 100), cache=tmp_path)
    assert again == found


def test_listed_and_unreadable_images_are_left_out_and_counted(embedder, album_of_crops, flickr, vectors, tmp_path):
    crowd = tmp_path / "crowd.tar"
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with tarfile.open(crowd, "w") as tar:
        tar.add(flickr, "FlickrFinal2")
        tar.add(tmp_path / "broken.jpg", "FlickrFinal2/7/7@N00/broken.jpg")
    (tmp_path / PROBE_NOISES).write_text("\ufeffAnn_0002.jpg\n\n# noises\nnobody.png\n", encoding="utf-8")
    (tmp_path / DISTRACTOR_NOISES).write_text("# noises\n1\t0/0@N00/0_0.png\nFlickrFinal2/1/1@N01/1_0.jpg\n9/9/9.jpg\n")
    found = megaface.evaluate(
        embedder, album_of_crops, distractors=crowd, noises=tmp_path, sizes=(10,), cache=tmp_path / "cache"
    )
    probes, people, all_of_them = vectors
    listed = {"0", "1"}
    kept = [n for n, path in enumerate(sorted(flickr.rglob("*.png"))) if path.stem.split("_")[0] not in listed]
    rows = [n for n in range(9) if n != 1]
    hits, trials = brute_force(probes[np.array(rows)], [people[n] for n in rows], all_of_them[np.array(kept)])
    assert (found["rank-1, 10 distractors"], trials) == (hits / trials, 14)
    assert (found.counts["probes"], found.counts["probes on the list"]) == (8, 1)
    assert (found.counts["distractors"], found.counts["distractors on the list"]) == (10, 2)
    assert found.counts["distractors missing"] == 1
    assert list(found.failures) == ["FlickrFinal2/7/7@N00/broken.jpg"]


def test_ready_features_are_the_same(embedder, album_of_crops, flickr, vectors, tmp_path):
    probes, people, crowd = vectors
    names = [f"{person}/{n}.png" for n, person in enumerate(people)]
    features.write(tmp_path / "probes.npz", names, probes)
    features.write(tmp_path / "crowd.parquet", [f"0/1/{n}.jpg" for n in range(12)], crowd)
    np.save(tmp_path / "crowd.npy", crowd.vectors)
    whole = megaface.evaluate(embedder, album_of_crops, distractors=flickr, sizes=SIZES, cache=tmp_path / "cache")
    for file in ("crowd.parquet", "crowd.npy"):
        found = megaface.evaluate(embedder, tmp_path / "probes.npz", distractors=tmp_path / file, sizes=SIZES)
        assert found.counts == whole.counts
        for one, other in zip(found.measures, whole.measures, strict=True):
            assert one.value == pytest.approx(other.value)
    (tmp_path / PROBE_NOISES).write_text("3.png\n")
    (tmp_path / DISTRACTOR_NOISES).write_text("0/1/5.jpg\n")
    found = megaface.evaluate(
        embedder, tmp_path / "probes.npz", distractors=tmp_path / "crowd.parquet", noises=tmp_path, sizes=(11, 12)
    )
    assert (found.counts["probes"], found.counts["distractors"]) == (8, 11)
    assert found["rank-1, 12 distractors"] is None


@pytest.fixture
def ready(vectors, tmp_path):
    """Feature files of probes and distractors, and a place for lists."""
    probes, people, crowd = vectors
    features.write(tmp_path / "probes.npz", [f"{person}/{n}.png" for n, person in enumerate(people)], probes)
    features.write(tmp_path / "crowd.npz", [f"{n}/{n}.jpg" for n in range(12)], crowd)
    return tmp_path


def judged(embedder, ready, data="probes.npz", crowd="crowd.npz", **options):
    return megaface.evaluate(embedder, ready / data, distractors=ready / crowd, sizes=(10,), **options)


@pytest.mark.parametrize(
    ("file", "content", "word"),
    [
        ("nothing", b"", f"no {PROBE_NOISES} or {DISTRACTOR_NOISES}"),
        (PROBE_NOISES, b"\xff\xfe\xff", "cannot read the list"),
        (DISTRACTOR_NOISES, b"# a\n0/1/2.jpg\n1/2.jpg\n", "line 3 is not FOLDER/FOLDER/IMAGE"),
        (DISTRACTOR_NOISES, b"0/1/2.jpg\n", "0/0.jpg cannot be on a list"),
    ],
)
def test_lists_that_do_not_fit_are_refused(embedder, ready, file, content, word):
    (ready / file).write_bytes(content)
    with pytest.raises(DataError, match=word):
        judged(embedder, ready, noises=ready)


def test_features_that_do_not_fit_are_refused(embedder, ready, vectors):
    with pytest.raises(DataError, match="needs distractors"):
        megaface.evaluate(embedder, ready / "probes.npz")
    features.write(ready / "other.npz", [str(n) for n in range(12)], Embeddings(vectors[2].vectors, "another"))
    with pytest.raises(DataError, match="another model"):
        judged(embedder, ready, crowd="other.npz")
    features.write(ready / "flat.npz", [f"{n}.jpg" for n in range(9)], vectors[0])
    with pytest.raises(DataError, match="does not say whose face"):
        judged(embedder, ready, data="flat.npz")
    np.save(ready / "crowd.npy", vectors[2].vectors)
    (ready / DISTRACTOR_NOISES).write_text("0/1/2.jpg\n")
    with pytest.raises(DataError, match="no names to look for"):
        judged(embedder, ready, crowd="crowd.npy", noises=ready)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4)), np.zeros(3), np.float32(1), np.zeros((3, 128), int), np.full((3, 128), 1e300)]
)
def test_arrays_that_do_not_fit_are_refused(embedder, ready, array):
    np.save(ready / "crowd.npy", array)
    with pytest.raises(DataError, match="distractor"):
        judged(embedder, ready, crowd="crowd.npy")


@given(st.binary(max_size=40), st.integers(0, 200))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_arrays_give_a_sentence(embedder, ready, noise, place):
    np.save(ready / "crowd.npy", np.ones((3, 128), np.float32))
    content = bytearray((ready / "crowd.npy").read_bytes())
    content[place : place + len(noise)] = noise
    (ready / "crowd.npy").write_bytes(bytes(content[: len(content) - place]))
    with contextlib.suppress(DataError):
        judged(embedder, ready, crowd="crowd.npy")
