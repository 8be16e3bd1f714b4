"""TinyFace's folders, on crops of a photo."""

import itertools
import shutil
import tarfile

import cv2
import numpy as np
import pytest

from magface.benchmarks import tinyface
from magface.errors import DataError


@pytest.fixture
def tiny(album_of_crops, astronaut, tmp_path):
    """Person 1 and 2 with a probe and two mates, a probe of person 3 without a mate, and nine distractors."""
    root = tmp_path / "tinyface" / "Testing_Set"
    for folder in tinyface.FOLDERS:
        (root / folder).mkdir(parents=True)
    places = [("Probe", 1), ("Gallery_Match", 2), ("Gallery_Match", 3)]
    for number, person in enumerate(("Ann", "Bob"), 1):
        for folder, image in places:
            shutil.copy(album_of_crops / person / f"{person}_{image:04d}.png", root / folder / f"{number}_{image}.png")
    shutil.copy(album_of_crops / "Cid" / "Cid_0001.png", root / "Probe" / "3_1.png")
    for number, (x, y) in enumerate(itertools.product((0, 130, 390), (0, 190, 380))):
        crop = astronaut[y : y + 112, x : x + 112, ::-1]
        cv2.imwrite(str(root / "Gallery_Distractor" / f"{number}.png"), crop)
    return root


def vectors(embedder, folder):
    files = sorted(folder.iterdir())
    return embedder.embed_files(files)[0].direction, [file.stem.split("_")[0] for file in files]


def brute_force(embedder, root):
    """Rank and average precision by trapezoids of each probe, over the sorted gallery."""
    (probes, people), (mates, owners), (others, _) = (vectors(embedder, root / name) for name in tinyface.FOLDERS)
    found = []
    for probe, person in zip(probes, people, strict=True):
        order = np.argsort(-(np.concatenate([mates, others]) @ probe))
        hits = np.flatnonzero([n < len(owners) and owners[n] == person for n in order])
        after, before = np.arange(1, len(hits) + 1) / (hits + 1), np.arange(len(hits)) / np.maximum(hits, 1)
        found.append((hits[0] + 1, np.mean((after + np.where(hits == 0, 1, before)) / 2)) if len(hits) else None)
    return found


def test_probes_in_a_gallery_with_distractors(embedder, tiny, tmp_path):
    seen = []
    found = tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache", progress=seen.append)
    expected = [pair for pair in brute_force(embedder, tiny) if pair]
    for k in (1, 5, 20):
        assert found[f"rank-{k}"] == np.mean([rank <= k for rank, _ in expected])
    assert found["mAP"] == pytest.approx(np.mean([precision for _, precision in expected]))
    low, high = found.measures[-1].interval
    assert low <= found["mAP"] <= high
    assert found.counts == {
        "probes": 3,
        "probes without mate": 1,
        "gallery": 4,
        "distractors": 9,
        "images missing": 0,
    }
    assert sum(seen) == 16
    assert found.measures[0].note.endswith("of 2 probes")


def test_mates_behind_distractors_count_by_trapezoids(embedder, tiny, album_of_crops, tmp_path):
    shutil.copy(album_of_crops / "Cid" / "Cid_0003.png", tiny / "Gallery_Match" / "1_2.png")
    shutil.copy(album_of_crops / "Cid" / "Cid_0002.png", tiny / "Gallery_Match" / "2_2.png")
    shutil.copy(album_of_crops / "Bob" / "Bob_0002.png", tiny / "Gallery_Match" / "2_3.png")
    found = tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache")
    expected = [pair for pair in brute_force(embedder, tiny) if pair]
    assert found["mAP"] == pytest.approx(np.mean([precision for _, precision in expected]))
    assert 0 < found["mAP"] < 0.95
    assert found["rank-1"] == np.mean([rank <= 1 for rank, _ in expected])


def test_folders_are_found_at_any_depth_and_in_a_tar(embedder, tiny, tmp_path):
    found = tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache")
    assert tinyface.evaluate(embedder, tiny.parent.parent, cache=tmp_path / "cache").measures == found.measures
    with tarfile.open(tmp_path / "tiny.tar", "w") as tar:
        tar.add(tiny, "Testing_Set")
    assert tinyface.evaluate(embedder, tmp_path / "tiny.tar", cache=tmp_path / "cache").measures == found.measures


def test_other_images_are_no_distractors(embedder, tiny, tmp_path):
    (tiny.parent / "Training_Set" / "5").mkdir(parents=True)
    shutil.copy(tiny / "Probe" / "1_1.png", tiny.parent / "Training_Set" / "5" / "5_1.png")
    assert tinyface.evaluate(embedder, tiny.parent, cache=tmp_path / "cache").counts["distractors"] == 9


def test_unreadable_images_are_counted_and_a_distractor_is_nobodys_mate(embedder, tiny, tmp_path):
    (tiny / "Gallery_Match" / "2_2.png").unlink()
    (tiny / "Gallery_Match" / "2_3.png").write_bytes(b"no image")
    shutil.copy(tiny / "Probe" / "1_1.png", tiny / "Gallery_Distractor" / "1_9.png")
    found = tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache")
    assert (found.counts["images missing"], found.counts["probes without mate"]) == (1, 2)
    assert list(found.failures) == ["Gallery_Match/2_3.png"]
    assert (found["rank-1"], found["rank-5"]) == (0, 1)


def test_person_nought_is_a_person(embedder, tiny, tmp_path):
    expected = tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache")
    for file in [*tiny.glob("Probe/1_*"), *tiny.glob("Gallery_Match/1_*")]:
        file.rename(file.with_name(file.name.replace("1_", "000_" if file.parent.name == "Probe" else "0_", 1)))
    found = tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache")
    assert found.counts["probes without mate"] == 1
    assert [m.value for m in found.measures] == [m.value for m in expected.measures]


@pytest.mark.parametrize("folder", tinyface.FOLDERS)
def test_a_folder_that_is_missing_is_said(embedder, tiny, folder):
    shutil.rmtree(tiny / folder)
    with pytest.raises(DataError, match=f"folder {folder}; name"):
        tinyface.evaluate(embedder, tiny)


def test_folders_that_are_there_twice_are_refused(embedder, tiny):
    shutil.copytree(tiny / "Probe", tiny.parent / "aligned" / "Probe")
    with pytest.raises(DataError, match="aligned/Probe"):
        tinyface.evaluate(embedder, tiny.parent)


@pytest.mark.parametrize("name", ["x_1.png", "7.png", "_1.png"])
def test_a_name_without_a_person_is_refused(embedder, tiny, name):
    (tiny / "Probe" / "1_1.png").rename(tiny / "Probe" / name)
    with pytest.raises(DataError, match="number of a person"):
        tinyface.evaluate(embedder, tiny)


def test_nobody_with_a_mate_gives_no_number(embedder, tiny, tmp_path):
    for number, file in enumerate(sorted((tiny / "Gallery_Match").iterdir()), 50):
        file.rename(tiny / "Gallery_Match" / f"{number}_1.png")
    found = tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache")
    assert {measure.value for measure in found.measures} == {None}
    assert {measure.note for measure in found.measures} == {"no probe has a mate in the gallery."}


@pytest.mark.parametrize("folders", [["Probe"], ["Gallery_Match", "Gallery_Distractor"]])
def test_a_side_without_a_readable_image_is_said(embedder, tiny, tmp_path, folders):
    for folder in folders:
        for file in (tiny / folder).iterdir():
            file.write_bytes(b"")
    with pytest.raises(
        DataError, match=f"no image of {' and '.join(folders)} can be embedded, the first because .* is empty"
    ):
        tinyface.evaluate(embedder, tiny, cache=tmp_path / "cache")
