"""Listed pairs: with the model that ships, on embeddings that say what must come out, and on the official pairs."""

import json
import pickle
import shutil
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from magface.benchmarks import verification
from magface.data.face_set import FaceSet, Held, Record
from magface.data.pairs import Pairs
from magface.errors import DataError
from magface.metrics.quality import efficiency
from magface.metrics.verification import bootstrap_people, bootstrap_people_accuracy, kfold_accuracy
from magface.types import Embeddings


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.txt"
    fold = "Ann\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t1\nAnn\t2\tCid\t2\n"
    other = "Ann\t2\t3\nCid\t1\t3\nBob\t3\tCid\t1\nAnn\t3\tBob\t2\n"
    path.write_text(f"2\t2\n{fold}{other}")
    return path


def note(result, name):
    return next(measure.note for measure in result.measures if measure.name == name)


def interval(result, name):
    return next(measure.interval for measure in result.measures if measure.name == name)


def test_lfw_on_a_small_set(embedder, album_of_crops, pairs, tmp_path):
    seen, cache = [], tmp_path / "cache"
    found = verification.evaluate(embedder, album_of_crops, name="lfw", pairs=pairs, cache=cache, progress=seen.append)
    assert found["accuracy"] == 1
    assert found["EER"] == 0
    assert found["AUC"] == 1
    assert found["TAR@FMR=0.001"] is found["EDC efficiency"] is None
    assert "at least 1,000 impostor comparisons" in note(found, "EDC r")
    assert found.counts == {
        "images": 9,
        "images missing": 0,
        "genuine pairs": 4,
        "impostor pairs": 4,
        "pairs missing": 0,
    }
    assert sum(seen) == 9
    assert found.protocol.startswith("single: cosine of one view")
    assert (found.curves["lfw"].genuine, found.curves["lfw"].tar[-1]) == (4, 1.0)
    assert json.loads(json.dumps(found.as_dict()))["model"] == embedder.fingerprint


@pytest.mark.parametrize("protocol", ["insightface", "magface-official"])
def test_named_protocols_on_a_small_set(embedder, album_of_crops, pairs, tmp_path, protocol):
    found = verification.evaluate(embedder, album_of_crops, pairs=pairs, protocol=protocol, cache=tmp_path / "cache")
    assert found["accuracy"] >= 0.75
    assert 0 <= found["accuracy on grid"] <= 1
    assert found.protocol.startswith(f"{protocol}: ")
    assert len(list((tmp_path / "cache").iterdir())) == (2 if protocol == "insightface" else 1)


def test_a_tar_finds_its_list_beside_it(embedder, album_of_crops, pairs, tmp_path):
    with tarfile.open(tmp_path / "crops.tar", "w") as tar:
        tar.add(album_of_crops, "wrapped")
    found = verification.evaluate(embedder, tmp_path / "crops.tar", name="lfw", cache=tmp_path / "cache")
    assert (found["accuracy"], found.counts["images"]) == (1, 9)


@pytest.mark.parametrize(("missing", "compared"), [("exclude", 5), ("reject", 8)])
def test_missing_and_unreadable_images_are_counted_and_named(
    embedder, album_of_crops, pairs, tmp_path, missing, compared
):
    root = tmp_path / "crops"
    shutil.copytree(album_of_crops, root)
    (root / "Ann" / "Ann_0003.png").unlink()
    (root / "Cid" / "Cid_0002.png").write_bytes(b"no image")
    found = verification.evaluate(embedder, root, pairs=pairs, missing=missing, cache=tmp_path / "cache")
    assert found.counts["images"] == 7
    assert found.counts["images missing"] == 2
    assert found.counts["pairs missing"] == 3
    assert found.counts["genuine pairs"] + found.counts["impostor pairs"] == compared
    assert found.failures["Ann/Ann_0003"] == "is not in the data"
    assert "Cid_0002.png" in found.failures["Cid/Cid_0002.png"]
    assert ("left out" if missing == "exclude" else "count as rejected") in found.protocol


def test_bin(embedder, album_of_crops, tmp_path):
    order = ["Ann/Ann_0001", "Ann/Ann_0002", "Bob/Bob_0001", "Bob/Bob_0002"]
    order += ["Ann/Ann_0001", "Bob/Bob_0001", "Ann/Ann_0003", "Cid/Cid_0001"]
    images = [(album_of_crops / f"{name}.png").read_bytes() for name in order]
    (tmp_path / "small.bin").write_bytes(pickle.dumps((images, [True, True, False, False])))
    found = verification.evaluate(embedder, tmp_path / "small.bin", name="lfw", cache=tmp_path / "cache")
    assert (found["AUC"], found.counts["images"], found.counts["genuine pairs"]) == (1, 8, 2)
    with pytest.raises(DataError, match="its own pairs"):
        verification.evaluate(embedder, tmp_path / "small.bin", pairs=tmp_path / "pairs.txt")
    with pytest.raises(DataError, match="neither names nor folders"):
        verification.evaluate(embedder, tmp_path / "small.bin", interval="people", cache=tmp_path / "cache")


def test_cfp(embedder, album_of_crops, tmp_path):
    """Frontal images of Ann and Bob, profiles of both."""
    root = tmp_path / "cfp"
    split = root / "Protocol" / "Split" / "FP"
    for number, person in enumerate(("Ann", "Bob"), 1):
        for pose, image in (("frontal", 1), ("profile", 2)):
            place = root / "Data" / "Images" / f"{number:03d}" / pose
            place.mkdir(parents=True)
            shutil.copy(album_of_crops / person / f"{person}_{image:04d}.png", place / "01.png")
    for fold in ("01", "02"):
        (split / fold).mkdir(parents=True)
        (split / fold / "same.txt").write_text("1,1\n2,2\n")
        (split / fold / "diff.txt").write_text("1,2\n2,1\n")
    for letter, pose in (("F", "frontal"), ("P", "profile")):
        lines = [f"{number} ../Data/Images/{number:03d}/{pose}/01.jpg\n" for number in (1, 2)]
        (root / "Protocol" / f"Pair_list_{letter}.txt").write_text("".join(lines))
    found = verification.evaluate(embedder, root, name="cfp-fp", interval="people", cache=tmp_path / "cache")
    assert (found["accuracy"], found.counts["images"], found.counts["genuine pairs"]) == (1, 4, 4)
    with pytest.raises(DataError, match="name the list"):
        verification.evaluate(embedder, root, name="cfp-ff", cache=tmp_path / "cache")


def test_what_cannot_be_compared_is_refused(embedder, album_of_crops, tmp_path):
    with pytest.raises(DataError, match="name the list of pairs"):
        verification.evaluate(embedder, album_of_crops)
    with pytest.raises(DataError, match="no protocol flip"):
        verification.evaluate(embedder, album_of_crops, protocol="flip")
    with pytest.raises(DataError, match="needs a list"):
        verification.evaluate(embedder, FaceSet.of([]))
    for text, words in (
        ("1 1\nEve 1 2\nEve 1 Fay 1\n", "no image of the list, such as Eve/Eve_0001"),
        ("1 1\nAnn 1 2\nAnn 1 Fay 1\n", "no impostor pair"),
        ("1 1\nAnn 1 7\nAnn 1 Bob 1\n", "no genuine pair"),
    ):
        (tmp_path / "pairs.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            verification.evaluate(embedder, album_of_crops, pairs=tmp_path / "pairs.txt", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lfw", "pairs.txt"),
        ("lfw", "lfw_pairs.txt"),
        ("xqlfw", "xqlfw_pairs.txt"),
        ("calfw", "pairs_CALFW.txt"),
        ("agedb-30", "agedb_30_pair.txt"),
        ("cfp-fp", "Protocol/Split/FP"),
        ("cfp-ff", "cfp_ff_pair.txt"),
    ],
)
def test_lists_are_found_by_the_names_they_are_published_under(tmp_path, name, file):
    for folder in (tmp_path, tmp_path / "crops"):
        (folder / "pairs.txt").parent.mkdir(exist_ok=True)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
        assert verification.find_pairs(tmp_path / "crops", name) == folder / file


class Made:
    """Images of people, their embeddings in both views, and pairs of them in blocks of both kinds."""

    def __init__(self, seed=0, people=40, pairs=120, names="{0}/{0}_{1:04d}"):
        rng = np.random.default_rng(seed)
        self.person = np.repeat(np.arange(people), 4)
        self.names = [
            names.format(f"P{person:02d}", image)
            for person, image in zip(self.person, np.tile(range(4), people), strict=True)
        ]
        centre = rng.normal(0.3, 1, (people, 16))[self.person]
        self.view, self.mirrored = (
            ((centre + rng.normal(0, 0.9, centre.shape)) * rng.uniform(5, 40, (len(centre), 1))).astype(np.float32)
            for _ in range(2)
        )
        a, b, same = (
            rng.integers(len(centre), size=pairs),
            rng.integers(len(centre), size=pairs),
            np.arange(pairs) % 12 < 6,
        )
        b[same] = a[same] // 4 * 4 + (a[same] + 1 + rng.integers(3, size=same.sum())) % 4
        b[~same] = (a[~same] + 4 * (1 + rng.integers(people - 1, size=(~same).sum()))) % len(centre)
        self.a, self.b, self.same = a, b, same
        pick = [tuple(self.names[i] for i in side) for side in (a, b)]
        self.pairs = Pairs(*pick, same, np.arange(pairs) // 12)
        self.faces = FaceSet.of(
            [Record(f"set/{n}.jpg", f"P{p}", Held(b"")) for n, p in zip(self.names, self.person, strict=True)]
        )

    def embed(self, embedder, faces, cache, progress, *, flip=False, align=None):
        rows = [self.names.index(name.removeprefix("set/").removesuffix(".jpg")) for name in faces.names]
        return faces, Embeddings((self.mirrored if flip else self.view)[rows], "a network")


@pytest.fixture
def evaluated(monkeypatch):
    def evaluate(made, faces=None, **options):
        monkeypatch.setattr(verification, "embed", made.embed)
        faces = made.faces if faces is None else faces
        return verification.evaluate(SimpleNamespace(fingerprint="a network"), faces, pairs=made.pairs, **options)

    return evaluate


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def script(distances, same, step=0.01):
    """Accuracy of ten folds at the first best threshold of the others; `distances(train)` of all pairs."""
    found = []
    for train, test in KFold(10).split(same):
        d = distances(train)
        best = max(np.arange(0, 4, step), key=lambda t: np.sum((d[train] < t) == same[train]))
        found.append(np.mean((d[test] < best) == same[test]))
    return np.mean(found), np.std(found)


def test_insightface_adds_both_views(evaluated):
    made = Made()
    found = evaluated(made, protocol="insightface")
    x = unit(made.view.astype(float) + made.mirrored)
    distance = np.sum((x[made.a] - x[made.b]) ** 2, axis=1)
    assert (found["accuracy on grid"], found["accuracy on grid std"]) == pytest.approx(
        script(lambda _: distance, made.same)
    )
    assert found["accuracy"] == kfold_accuracy(-distance, made.same, np.arange(120) // 12).accuracy
    assert found["AUC"] == pytest.approx(roc_auc_score(made.same, -distance))


def test_magface_official_takes_off_the_mean_of_raw_embeddings(evaluated):
    made = Made(1)
    found = evaluated(made, protocol="magface-official")
    a, b = made.view[made.a].astype(float), made.view[made.b].astype(float)

    def distances(train):
        mean = np.concatenate([a[train], b[train]]).mean(axis=0)
        return np.arccos(np.sum(unit(a - mean) * unit(b - mean), axis=1)) / np.pi

    assert (found["accuracy on grid"], found["accuracy on grid std"]) == pytest.approx(script(distances, made.same))
    assert found["AUC"] == pytest.approx(roc_auc_score(made.same, np.sum(unit(a) * unit(b), axis=1)))


def test_single_takes_the_folds_of_the_list(evaluated):
    made = Made(2)
    similarity = np.sum(unit(made.view)[made.a] * unit(made.view)[made.b], axis=1)
    fold = np.arange(120) % 4
    made.pairs = Pairs(made.pairs.first, made.pairs.second, made.same, fold)
    found = evaluated(made)
    expected = kfold_accuracy(similarity, made.same, fold)
    assert (found["accuracy"], found["accuracy std"]) == pytest.approx((expected.accuracy, expected.std))
    assert note(found, "accuracy") == "mean of 4 folds"
    made.pairs = Pairs(made.pairs.first, made.pairs.second, made.same, 0 * fold)
    assert note(evaluated(made), "accuracy") == "needs pairs of two folds."
    made.pairs = Pairs(made.pairs.first, made.pairs.second, made.same, fold)
    assert "accuracy on grid" not in {measure.name for measure in found.measures}
    highest_rejected = np.sort(similarity[~made.same])[-7]
    assert found["TAR@FMR=0.1"] == pytest.approx(np.mean(similarity[made.same] > highest_rejected))
    assert [found[f"TAR@FMR={fmr}"] for fmr in ("1e-06", "1e-05", "0.0001", "0.001", "0.01")] == [None] * 5


@pytest.mark.parametrize("protocol", ["single", "insightface", "magface-official"])
def test_a_rejected_pair_is_wrong_when_genuine_and_right_when_not(evaluated, protocol):
    made = Made(3)
    gone = made.names[made.a[0]], made.names[made.a[6]]  # of a genuine and of an impostor pair
    left = made.faces[np.array([name not in gone for name in made.names])]
    absent = np.isin(made.pairs.first, gone) | np.isin(made.pairs.second, gone)
    found = evaluated(made, left, protocol=protocol, missing="reject")
    assert found.counts["pairs missing"] == absent.sum()
    assert found.counts["genuine pairs"] == 60
    x = unit(made.view + made.mirrored if protocol == "insightface" else made.view)
    similarity = np.where(absent, -1, np.sum(x[made.a] * x[made.b], axis=1))
    assert found["AUC"] == pytest.approx(roc_auc_score(made.same, similarity))
    if protocol != "magface-official":
        expected = kfold_accuracy(similarity, made.same, np.arange(120) // 12)
        assert found["accuracy"] == pytest.approx(expected.accuracy)


def test_a_rejected_pair_has_no_quality(evaluated):
    made = Made(7, pairs=2400)
    gone = made.names[made.a[0]]
    left = made.faces[np.array([name != gone for name in made.names])]
    found = evaluated(made, left, missing="reject")
    absent = (np.array(made.pairs.first) == gone) | (np.array(made.pairs.second) == gone)
    x = unit(made.view)
    similarity = np.where(absent, -1, np.sum(x[made.a] * x[made.b], axis=1))
    length = np.linalg.norm(made.view, axis=1)
    quality = np.where(absent, 0, np.minimum(length[made.a], length[made.b]))
    expected = efficiency(similarity[made.same], quality[made.same], found_threshold(similarity[~made.same]))
    assert (found["EDC r"], found["EDC efficiency"]) == pytest.approx((expected.r, expected.efficiency))


def found_threshold(impostor):
    """Above the highest but one of 1,200 impostors, as FMR 1e-3 has it."""
    return np.nextafter(np.sort(impostor)[-2], np.inf)


def test_excluded_pairs_leave_the_folds_of_the_others(evaluated):
    made = Made(4)
    gone = made.names[made.a[0]]
    left = made.faces[np.array([name != gone for name in made.names])]
    kept = ~((np.array(made.pairs.first) == gone) | (np.array(made.pairs.second) == gone))
    found = evaluated(made, left, protocol="insightface")
    x = unit(made.view + made.mirrored)
    distance = np.sum((x[made.a] - x[made.b]) ** 2, axis=1)
    expected = kfold_accuracy(-distance[kept], made.same[kept], (np.arange(120) // 12)[kept])
    assert found["accuracy"] == pytest.approx(expected.accuracy)
    assert found.counts["pairs missing"] == np.sum(~kept)


@pytest.mark.parametrize("names", ["{0}/{0}_{1:04d}", "aligned images/{0}_{1}", "Images/{0}/profile/{1}"])
def test_intervals_over_people_whom_names_tell(evaluated, names):
    made = Made(5, names=names)
    found = evaluated(made, interval="people")
    similarity = np.sum(unit(made.view)[made.a] * unit(made.view)[made.b], axis=1)
    who = made.person[made.a], made.person[made.b]
    expected = bootstrap_people(similarity, made.same, *who, [0.1])
    assert interval(found, "TAR@FMR=0.1") == pytest.approx(expected.tar[0])
    assert interval(found, "EER") == pytest.approx(expected.eer)
    accuracy = bootstrap_people_accuracy(similarity, made.same, np.arange(120) // 12, *who)
    assert interval(found, "accuracy") == pytest.approx(accuracy)
    assert interval(found, "EDC efficiency") is None
    assert "intervals over people" in found.protocol


def test_intervals_over_people_whom_only_the_set_knows(evaluated):
    made = Made(6)
    made.names = [f"{number:05d}" for number in range(len(made.names))]
    made.pairs = Pairs(*(tuple(made.names[i] for i in side) for side in (made.a, made.b)), made.same, made.pairs.fold)
    records = [Record(f"set/{n}.jpg", f"P{p}", Held(b"")) for n, p in zip(made.names, made.person, strict=True)]
    made.faces = FaceSet.of(records)
    assert interval(evaluated(made, interval="people"), "EER") is not None
    with pytest.raises(DataError, match="intervals over pairs"):
        evaluated(made, made.faces[np.arange(1, len(records))][np.arange(90)], interval="people", missing="reject")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "accuracy", "tar"),
    [("single", 0.9945, 0.9917), ("insightface", 0.9960, 0.9927), ("magface-official", 0.9965, 0.9917)],
)
def test_official_lfw(embedder, data, protocol, accuracy, tar):
    found = verification.evaluate(embedder, data / "lfw_aligned.tar", name="lfw", protocol=protocol)
    assert found["accuracy"] == pytest.approx(accuracy, abs=0.0005)
    assert found["TAR@FMR=0.001"] == pytest.approx(tar, abs=0.0005)
    assert found.counts["pairs missing"] == 0
