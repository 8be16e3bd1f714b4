"""Benchmarks on crops of a public-domain photo, with the model that ships; and on the real data where it is."""

import numpy as np
import pytest

from magface.benchmarks import edc
from magface.benchmarks import toy as official
from magface.benchmarks.faces import default_cache, embed
from magface.benchmarks.result import Measure, Result
from magface.benchmarks.scores import score
from magface.data import features, image_folder
from magface.errors import DataError
from magface.types import Embeddings


def test_embeddings_are_kept_and_used_again(embedder, album_of_crops, tmp_path):
    folder, seen = image_folder.read(album_of_crops), []
    _, made = embed(embedder, folder, tmp_path, seen.append)
    _, again = embed(embedder, folder, tmp_path, seen.append)
    np.testing.assert_array_equal(made.vectors, again.vectors)
    assert again.model == embedder.fingerprint
    assert sum(seen) == 18
    embed(embedder, folder[np.arange(8)], tmp_path, seen.append)
    assert sum(seen) == 26
    assert len(list(tmp_path.glob("*.npz"))) == 2


@pytest.mark.parametrize("change", ["names", "model", "bytes"])
def test_a_cache_that_was_changed_is_refused(embedder, album_of_crops, tmp_path, change):
    folder = image_folder.read(album_of_crops)
    folder, made = embed(embedder, folder, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    if change == "names":
        features.write(file, folder.names[::-1], made)
    elif change == "model":
        features.write(file, folder.names, Embeddings(made.vectors, "another"))
    else:
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError):
        embed(embedder, folder, tmp_path)


def test_a_cache_that_cannot_be_written_is_said(embedder, album_of_crops, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another cache"):
        embed(embedder, image_folder.read(album_of_crops), tmp_path / "file")


@pytest.mark.parametrize(
    ("platform", "variable", "end"),
    [("linux", "XDG_CACHE_HOME", "magface"), ("win32", "LOCALAPPDATA", "magface"), ("darwin", "HOME", "Caches")],
)
def test_caches_lie_where_the_platform_wants_them(monkeypatch, tmp_path, platform, variable, end):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert default_cache().is_relative_to(tmp_path)
    assert end in default_cache().parts
    assert default_cache().name == "embeddings"


def test_scores_are_cosines_and_lower_magnitudes():
    embeddings = Embeddings(np.array([[3, 4], [0, 2], [-3, -4]], np.float32))
    first, second, same = np.array([0, 0]), np.array([1, 2]), np.array([True, False])
    found = score(embeddings, first, second, same)
    np.testing.assert_allclose(found.similarity, [0.8, -1.0], rtol=1e-6)
    np.testing.assert_array_equal(found.quality, [2, 5])


def test_every_pair_is_drawn_at_most_once_and_labelled_rightly():
    label = np.repeat(np.arange(7), [1, 2, 3, 4, 5, 6, 7])
    first, second, same = edc.draw(label, 30, 100, seed=0)
    assert (first > second).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 130
    np.testing.assert_array_equal(label[first] == label[second], same)
    assert same.sum() == 30
    for one, other in zip(edc.draw(label, 30, 100, seed=0), (first, second, same), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(edc.draw(label, 10**6, 10**6, seed=0)[0]) == 28 * 27 // 2


@pytest.mark.parametrize("count", [2, 3, 1000, 3_000_000])
def test_the_last_pairs_have_their_places(count):
    last = count * (count - 1) // 2 - 1
    i, j = edc._unranked(np.array([last, last - (count - 2)]))
    assert (i.tolist(), j.tolist()) == ([count - 1] * 2, [count - 2, 0])


def test_edc_reports_conditions(embedder, album_of_crops, tmp_path):
    root = tmp_path / "people"
    for number, path in enumerate(sorted(album_of_crops.glob("*/*.png"))):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        condition = "neutral" if number % 3 else "masked"
        (root / path.parent.name / f"{condition}_{number}.png").write_bytes(path.read_bytes())
    found = edc.evaluate(embedder, root, genuine=5, impostor=20, cache=tmp_path / "cache")
    assert (found.counts["genuine pairs"], found.counts["impostor pairs"]) == (5, 20)
    assert found.measures[0].name == "TAR@FMR=0.001"
    mean = (3 * found["mean magnitude masked"] + 6 * found["mean magnitude neutral"]) / 9
    assert found["mean magnitude"] == pytest.approx(mean, rel=1e-5)


def test_edc_needs_two_people(embedder, album_of_crops, tmp_path):
    alone = tmp_path / "alone"
    (alone / "Ann").mkdir(parents=True)
    for path in (album_of_crops / "Ann").iterdir():
        (alone / "Ann" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="two people"):
        edc.evaluate(embedder, alone)


def test_toy_compares_with_the_list(embedder, album_of_crops, tmp_path):
    files = sorted(album_of_crops.glob("Ann/*.png"))
    for file in files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    own, _ = embedder.embed_files(files)
    features.write(tmp_path / "feat.list", [f"toy/{file.name}" for file in files], own)
    assert official.evaluate(embedder, tmp_path)["Spearman"] == pytest.approx(1)
    (tmp_path / files[0].name).unlink()
    with pytest.raises(DataError, match="cannot be used"):
        official.evaluate(embedder, tmp_path)


def test_results_are_found_by_name():
    result = Result("lfw", "f00d", (Measure("accuracy", 0.9),), {})
    assert result["accuracy"] == 0.9
    with pytest.raises(KeyError):
        result["none"]


def test_official_faces(embedder, toy):
    found = official.evaluate(embedder, toy)
    assert found["Spearman"] >= 0.8
