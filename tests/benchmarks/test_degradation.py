"""Scores at every strength of every damage: made, counted and correlated as a plain loop would."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from magface.benchmarks import degradation
from magface.benchmarks.degradation import KINDS, judged
from magface.data import image_folder
from magface.data.face_set import FaceSet
from magface.embedder import Embedder
from magface.errors import DataError
from magface.quality.measures import brightness

PER_FACE = 1 + 3 * len(KINDS)


class Plain:
    """A network whose magnitudes are the contrast of the crop."""

    fingerprint = "f00d"
    card = SimpleNamespace(embedding_size=1)

    def stream(self, crops):
        for crop in crops:
            yield np.array([crop.std()], np.float32)


@pytest.fixture(scope="module")
def plain():
    return Plain()


def values(measures):
    return {measure.name: measure.value for measure in measures}


def test_every_step_is_counted(plain, album_of_crops):
    seen = []
    found = degradation.evaluate(plain, album_of_crops, faces=2, steps=3, progress=seen.append)
    assert found.counts == {"images": 2, "images missing": 0, "steps": 2 * 3 * len(KINDS)}
    assert sum(seen) == 2 * PER_FACE
    for what in ("falling steps", "Spearman"):
        kinds = [found[f"{what}, {name}"] for name in KINDS]
        assert found[f"{what}, all"] == pytest.approx(np.mean(kinds))
    assert found == degradation.evaluate(plain, album_of_crops, faces=2, steps=3)


def test_scores_are_those_of_the_damaged_face(plain, album_of_crops):
    found = degradation.study(plain, album_of_crops, faces=3, steps=3, methods=["brightness"])
    assert list(found.scores) == ["magnitude", "brightness"]
    assert found.scores["brightness"].shape == (3, len(KINDS), 4)
    np.testing.assert_allclose(found.strengths, [0, 1 / 3, 2 / 3, 1])
    folder = image_folder.read(album_of_crops)
    chosen, _ = degradation._draw(folder, 3, 0)
    for face, index in enumerate(chosen):
        crop = folder.read(index)
        for kind, degrade in enumerate(KINDS.values()):
            state = np.random.default_rng([0, index])
            expected = [crop, degrade(crop, 1 / 3, state)]
            np.testing.assert_allclose(
                found.scores["brightness"][face, kind, :2], [brightness(x) for x in expected], 1e-6
            )
            magnitude = [x.std() for x in expected]
            np.testing.assert_allclose(found.scores["magnitude"][face, kind, :2], magnitude, 1e-5)


def test_measures_are_means_over_faces():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20, 2, 6)).astype(np.float32) - np.arange(6, dtype=np.float32) * [[[0.2], [1]]]
    scores[3, 1] = 5
    found = judged(scores, ["blur", "noise"])
    falls, orders = np.zeros((20, 2)), np.zeros((20, 2))
    for face in range(20):
        for kind in range(2):
            series = scores[face, kind]
            falls[face, kind] = np.mean([b < a for a, b in pairwise(series)])
            orders[face, kind] = 0 if np.ptp(series) == 0 else spearmanr(np.arange(6), series).statistic
    expected = {
        "falling steps, all": falls.mean(),
        "falling steps, blur": falls[:, 0].mean(),
        "falling steps, noise": falls[:, 1].mean(),
        "Spearman, all": orders.mean(),
        "Spearman, blur": orders[:, 0].mean(),
        "Spearman, noise": orders[:, 1].mean(),
    }
    assert values(found) == pytest.approx(expected)
    notes = {measure.name: measure.note for measure in found}
    assert notes["falling steps, noise"] == f"{round(falls[:, 1].sum() * 5)} of 100"
    assert notes["Spearman, noise"] == "1 series without any change"
    assert notes["Spearman, blur"] == ""


def test_intervals_are_over_faces():
    rng = np.random.default_rng(1)
    good = rng.random(400) < 0.5  # a face falls at all steps, or at none
    scores = np.where(good[:, None, None], -np.arange(11.0), np.arange(11.0)).astype(np.float32)
    [share, *_] = judged(scores, ["blur"])
    low, high = share.interval
    error = np.sqrt(share.value * (1 - share.value) / 400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)  # ten times as many steps would give a third of it


def test_where_faces_agree_there_is_no_interval():
    for measure in judged(np.tile(np.float32([3, 2, 1]), (5, 1, 1)), ["blur"]):
        assert measure.interval is None


def test_other_methods_have_their_name_before_their_measures(plain, album_of_crops):
    found = degradation.evaluate(plain, album_of_crops, faces=2, steps=2, methods=["brightness"])
    assert found["brightness: Spearman, darkness"] == -1
    assert found["brightness: Spearman, over-exposure"] == 1
    assert "falling steps, all" in values(found.measures)


def test_the_progress_knows_what_is_to_come(plain, album_of_crops):
    class Bar:
        expected = done = 0

        def expect(self, images):
            self.expected += images

        def __call__(self, images):
            self.done += images

    bar = Bar()
    degradation.evaluate(plain, album_of_crops, faces=2, steps=3, methods=["brightness"], progress=bar)
    assert bar.expected == bar.done == 2 * 2 * PER_FACE


def test_one_image_of_each_person_and_another_where_one_cannot_be_read(album_of_crops, tmp_path):
    for path in album_of_crops.glob("*/*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        broken = path.name in ("Ann_0001.png", "Ann_0002.png") or path.parent.name == "Bob"
        (tmp_path / path.parent.name / path.name).write_bytes(b"none" if broken else path.read_bytes())
    folder = image_folder.read(tmp_path)
    for seed in range(5):
        chosen, failures = degradation._draw(folder, 10, seed)
        people = [folder.names[index].split("/")[0] for index in chosen]
        assert sorted(people) == ["Ann", "Cid"]
        assert {name for name in failures if "Bob" in name} == {f"Bob/Bob_000{i}.png" for i in (1, 2, 3)}


def test_only_what_is_drawn_is_read(album_of_crops, monkeypatch):
    folder, read = image_folder.read(album_of_crops), []
    whole = type(folder).read
    monkeypatch.setattr(type(folder), "read", lambda self, index: read.append(index) or whole(self, index))
    chosen, _ = degradation._draw(folder, 2, 0)
    assert read == chosen
    assert len(read) == 2


def test_images_of_nobody_are_people_by_themselves(album_of_crops):
    known = list(image_folder.read(album_of_crops).records())
    nobody = FaceSet.of([replace(record, person="") for record in known[:5]] + known[5:])
    chosen, _ = degradation._draw(nobody, 100, 0)
    assert sorted(known[index].person for index in chosen) == ["Ann"] * 3 + ["Bob"] * 3 + ["Cid"]


@pytest.mark.parametrize("few", [{"faces": 0}, {"steps": 0}])
def test_nothing_to_degrade_is_refused(plain, album_of_crops, few):
    with pytest.raises(DataError, match="at least one face and one step"):
        degradation.evaluate(plain, album_of_crops, **few)


def test_nothing_readable_is_refused(plain, tmp_path):
    (tmp_path / "Ann").mkdir()
    (tmp_path / "Ann" / "1.png").write_bytes(b"none")
    with pytest.raises(DataError, match="no readable 112x112 crop"):
        degradation.evaluate(plain, tmp_path)


@pytest.mark.parametrize(
    ("faces", "falling", "order"), [(6, 0.89, -0.95), pytest.param(60, 0.92, -0.97, marks=pytest.mark.slow)]
)
def test_the_magnitude_falls_with_the_damage_and_pictures_tell_less(lfw, faces, falling, order):
    found = degradation.evaluate(
        Embedder(), lfw, faces=faces, methods=["brightness", "contrast", "sharpness (Laplacian)", "BRISQUE"]
    )
    measured = values(found.measures)
    assert measured["falling steps, all"] > falling
    assert measured["Spearman, all"] < order
    assert all(measured[f"Spearman, {kind}"] < -0.75 for kind in KINDS)
    for method in ("brightness", "contrast", "sharpness (Laplacian)", "BRISQUE"):
        assert measured[f"{method}: Spearman, all"] > measured["Spearman, all"] + 0.2


def test_the_seed_draws_people_images_and_damage(plain, album_of_crops):
    folder = image_folder.read(album_of_crops)
    drawn = {folder.names[index] for seed in range(20) for index in degradation._draw(folder, 1, seed)[0]}
    assert {name.split("/")[0] for name in drawn} == {"Ann", "Bob", "Cid"}
    assert len(drawn) > 3
    one, same, other = (
        list(degradation._series(folder, [0], 1, seed, None))[1 + list(KINDS).index("noise")] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
