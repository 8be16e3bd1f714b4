"""Templates of blurred and clean images: the draw, the paired interval, and real faces."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magface.benchmarks.templates import Blurred, deal, evaluate
from magface.data import image_folder
from magface.data.face_set import FaceSet, Held, Record
from magface.embedder import Embedder
from magface.errors import DataError


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(0, 100))
def test_images_are_dealt_once_in_templates_of_two_to_five(labels, seed):
    labels = np.array(labels)
    counts = np.bincount(labels)
    if (counts >= 2).sum() < 2 or counts.max() < 4:
        with pytest.raises(DataError, match="two people"):
            deal(labels, seed)
        return
    dealt = deal(labels, seed)
    assert len(np.unique(dealt.image)) == len(dealt.image)
    sizes = np.bincount(dealt.template)
    assert sizes.min() >= 2
    assert sizes.max() <= 5
    np.testing.assert_array_equal(labels[dealt.image], dealt.person[dealt.template])
    hands = np.bincount(dealt.person, minlength=len(counts))
    np.testing.assert_array_equal(hands > 0, counts >= 2)
    np.testing.assert_array_equal(hands > 1, counts >= 4)
    assert hands.max() <= 4
    again = deal(labels, seed)
    np.testing.assert_array_equal(again.image, dealt.image)


def test_a_share_of_the_images_is_blurred_whatever_their_order():
    names = [f"{i}.jpg" for i in range(40)]
    blurred = Blurred(names, 0.25, ["gaussian_blur"], 3)
    assert len(blurred.chosen) == 10
    assert Blurred(names[::-1], 0.25, ["gaussian_blur"], 3).chosen == blurred.chosen
    assert Blurred(names, 0.25, ["gaussian_blur"], 4).chosen != blurred.chosen
    assert len({Blurred(names, *by).name for by in [(0.25, ["jpeg"], 3), (0.5, ["jpeg"], 3), (0.5, ["jpeg"], 4)]}) == 3
    more = Blurred([*names, "more.jpg", "and more.jpg"], 0.25, ["gaussian_blur"], 3)
    assert (more.text, more.name == blurred.name) == (blurred.text, more.chosen == blurred.chosen)
    assert Blurred(names[:20], 0.25, ["gaussian_blur"], 3).name != blurred.name
    crop = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    for name in names:
        made = blurred(name, crop)
        assert (made.std() < 0.5 * crop.std()) == (name in blurred.chosen)
        np.testing.assert_array_equal(blurred(name, crop), made)


class Network:
    """A noisy direction for each person, shorter and noisier for images without contrast."""

    fingerprint, engine, precision = "a network", "numpy", "f32"

    def stream(self, crops):
        for crop in crops:
            person, sharp = round(crop.mean(axis=(0, 1))[0] / 4), crop.std()
            rng = np.random.default_rng(int(crop.astype(np.int64).sum()))
            centre = np.random.default_rng(person).standard_normal(64)
            seen = centre + 50 / sharp * rng.standard_normal(64)
            yield (sharp * seen / np.linalg.norm(seen)).astype(np.float32)


@pytest.fixture
def people():

    rng = np.random.default_rng(0)
    records = []
    for person in range(40):
        for image in range(6):
            noise = rng.integers(-40, 41, (112, 112, 3))
            crop = np.clip(np.array([80, 60, 4 * person + 60]) + noise - noise.mean(axis=(0, 1)), 0, 255)
            content = cv2.imencode(".png", crop.astype(np.uint8))[1].tobytes()
            records.append(Record(f"{person}/{image}.png", str(person), Held(content)))
    return records


def test_a_magnitude_that_tells_blur_helps(people, tmp_path):
    seen = []
    found = evaluate(Network(), FaceSet.of(people), cache=tmp_path, progress=seen.append)
    assert found["magface+: AUC"] > found["mean: AUC"]
    assert found["magface+ minus mean: TAR@FMR=0.01"] == pytest.approx(
        found["magface+: TAR@FMR=0.01"] - found["mean: TAR@FMR=0.01"]
    )
    difference = next(m for m in found.measures if m.name == "magface+ minus mean: TAR@FMR=0.01")
    assert difference.interval[0] <= difference.value <= difference.interval[1]
    assert found["magface+ minus mean: TAR@FMR=0.0001"] is None
    assert found.counts["images blurred"] == round(found.counts["images"] / 2)
    assert (
        found.counts["genuine pairs"] + found.counts["impostor pairs"]
        == found.counts["templates"] * (found.counts["templates"] - 1) // 2
    )
    assert sum(seen) == found.counts["images"]
    assert "2 to 5 images, 0.5 blurred by gaussian_blur, motion_blur, downsampling, seed 0" in found.protocol


def test_unreadable_images_are_counted_and_their_templates_rejected(people, tmp_path):
    broken = [Record(r.name, r.person, Held(b"")) if r.person == "3" else r for r in people]
    found = evaluate(Network(), FaceSet.of(broken), share=0, cache=tmp_path)
    assert found.counts["images missing"] == len(found.failures) > 0
    assert found.counts["templates missing"] in (2, 3)
    whole = evaluate(Network(), FaceSet.of(people), share=0, cache=tmp_path)
    assert found["mean: TAR@FMR=0.1"] < whole["mean: TAR@FMR=0.1"]


@pytest.mark.parametrize("arguments", [{"share": 1.5}, {"kinds": []}, {"kinds": ["rain"]}])
def test_what_cannot_be_blurred_is_refused(people, arguments):
    with pytest.raises(DataError, match="gaussian_blur"):
        evaluate(Network(), FaceSet.of(people), **arguments)


@pytest.mark.slow
def test_the_magnitude_helps_on_real_faces(lfw, tmp_path):
    found = evaluate(Embedder(threads=1), image_folder.read(lfw), cache=tmp_path)
    differences = [m for m in found.measures if m.name.startswith("magface+ minus mean")]
    assert [m.name for m in differences if m.interval[0] > 0][-2:] == [m.name for m in differences[-2:]]
    assert found["magface+: EER"] < found["mean: EER"]
