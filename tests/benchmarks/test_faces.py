"""Embedding a set: in shards that a stopped run keeps, mirrored, and of photos."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from magface.benchmarks import faces as module
from magface.benchmarks.faces import embed, known
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError, NoFaceError
from magface.types import Embeddings


def png(level):
    image = np.zeros((112, 112, 3), np.uint8)
    image[:, :56] = level
    return cv2.imencode(".png", image)[1].tobytes()


class Network:
    """Mean of the left and of the right half of each crop, and how many crops it saw."""

    fingerprint, engine, precision = "a network", "numpy", "f32"

    def __init__(self, fail_at=None):
        self.seen, self.fail_at = 0, fail_at

    def stream(self, crops):
        for crop in crops:
            if self.seen == self.fail_at:
                raise KeyboardInterrupt
            self.seen += 1
            yield np.array([crop[:, :56].mean(), crop[:, 56:].mean() + 1], np.float32)


@pytest.fixture
def faces(monkeypatch):
    monkeypatch.setattr(module, "_SHARD", 4)
    contents = [png(level) for level in range(1, 11)]
    contents[5] = b"no image"
    return FaceSet.of([Record(f"p{i // 2}/{i}", f"p{i // 2}", Held(content)) for i, content in enumerate(contents)])


def test_a_stopped_run_goes_on_with_what_is_left(faces, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        embed(Network(fail_at=6), faces, tmp_path)
    network, seen = Network(), []
    kept, made = embed(network, faces, tmp_path, seen.append)
    assert network.seen == 5
    assert sum(seen) == 10
    assert kept.names == tuple(name for name in faces.names if name != "p2/5")
    assert [name for name, _ in kept.failures] == ["p2/5"]
    np.testing.assert_array_equal(made.vectors[:, 0], [1, 2, 3, 4, 5, 7, 8, 9, 10])
    again = Network()
    kept_again, made_again = embed(again, faces, tmp_path)
    assert again.seen == 0
    assert kept_again.failures == kept.failures
    np.testing.assert_array_equal(made_again.vectors, made.vectors)


def test_mirrored_crops_are_kept_apart(faces, tmp_path):
    _, straight = embed(Network(), faces, tmp_path)
    _, mirrored = embed(Network(), faces, tmp_path, flip=True)
    np.testing.assert_array_equal(straight.vectors, mirrored.vectors[:, ::-1] + [-1, 1])


def test_images_are_aligned_by_what_is_given_and_its_name_is_in_the_key(faces, tmp_path):
    class Align:
        name = "brighter"

        def __call__(self, name, image):
            if name == "p0/1":
                raise NoFaceError(f"{name} shows no face.")
            return cv2.add(image, (100, 100, 100, 0))

    embed(Network(), faces, tmp_path)
    kept, made = embed(Network(), faces, tmp_path, align=Align())
    assert dict(kept.failures)["p0/1"] == "p0/1 shows no face."
    np.testing.assert_array_equal(made.vectors[:2], [[101, 101], [103, 101]])


class Finer(Network):
    precision = "bf16"


class Elsewhere(Network):
    engine = "another"


class Later(Network):
    fingerprint = "a later network"


def renamed(faces, **change):
    return FaceSet.of([replace(record, **{k: f(record) for k, f in change.items()}) for record in faces.records()])


@pytest.mark.parametrize(
    ("network", "change"),
    [
        (Finer, lambda faces: faces),
        (Elsewhere, lambda faces: faces),
        (Later, lambda faces: faces),
        (Network, lambda faces: faces[np.arange(len(faces))[::-1]]),
        (Network, lambda faces: renamed(faces, person=lambda record: f"{record.person} II")),
        (Network, lambda faces: renamed(faces, name=lambda record: f"again/{record.name}")),
        (Network, lambda faces: renamed(faces, place=lambda record: Held(record.place.content + b" "))),
    ],
    ids=["precision", "engine", "model", "order", "people", "names", "bytes"],
)
def test_a_change_of_what_made_them_embeds_again(faces, tmp_path, network, change):
    embed(Network(), faces, tmp_path)
    again, changed = network(), change(faces)
    kept, _ = embed(again, changed, tmp_path)
    assert again.seen == len(kept) == 9
    assert set(kept.names) <= set(changed.names)


def test_a_set_that_cannot_be_read_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match="no readable"):
        embed(Network(), FaceSet.of([Record("x", "", Held(b""))]), tmp_path)


def test_an_image_that_comes_back_is_not_passed_over(faces, tmp_path):
    shard = faces[np.arange(4, 8)]
    embed(Network(), shard, tmp_path)
    [file] = tmp_path.glob("*.npz")
    names = [name for name in shard.names if name != "p2/5"]
    module.features.write(file, names[:-1], Embeddings(np.zeros((2, 2), np.float32), "a network"))
    with pytest.raises(DataError, match="delete it"):
        embed(Network(), shard, tmp_path)


def test_a_cache_that_cannot_be_written_is_said_before_the_work(faces, tmp_path):
    (tmp_path / "file").write_text("")
    network = Network()
    with pytest.raises(DataError, match=r"cannot keep embeddings in .*file .* choose another cache"):
        embed(network, faces, tmp_path / "file")
    assert network.seen == 0


@pytest.mark.parametrize("content", [b"", b"junk", "NaN"])
def test_a_damaged_file_of_the_cache_is_named(faces, tmp_path, content):
    _, made = embed(Network(), faces, tmp_path)
    for file in tmp_path.iterdir():
        if content == "NaN":
            vectors = np.full((len(made), 2), np.nan, np.float32)
            np.savez(file, names=np.array(["x"] * len(made)), vectors=vectors, model=np.array(made.model))
        else:
            file.write_bytes(content)
    with pytest.raises(DataError, match=r"\.npz is damaged; delete it"):
        embed(Network(), faces, tmp_path)


def test_strangers_are_not_one_person():
    records = [Record(name, person, Held(b"")) for name, person in (("1", ""), ("2", ""), ("3", "Ann"))]
    faces = known(FaceSet.of(records))
    assert (faces.names, faces.people) == (("3",), ("Ann",))
    assert faces.failures == (("1", "nobody knows who is on 1."), ("2", "nobody knows who is on 2."))
    assert known(faces) is faces
    with pytest.raises(DataError, match="do not say who is on their images"):
        known(FaceSet.of(records[:2]))


def test_a_progress_that_asks_is_told_how_many_images_come(faces, tmp_path):
    class Counting:
        expected = done = 0

        def expect(self, images):
            self.expected += images

        def __call__(self, done):
            assert self.expected == 10
            self.done += done

    for _ in ("embedded", "from the cache"):
        counting = Counting()
        embed(Network(), faces, tmp_path, counting)
        assert counting.done == 10
