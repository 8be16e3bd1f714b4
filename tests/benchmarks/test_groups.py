"""Labels of names and tables, groups, and numbers of groups as a plain selection gives them."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from magface import aligner
from magface.benchmarks import groups
from magface.benchmarks.groups import labelled, partitions, pictures
from magface.data.face_set import FaceSet, Held, Record
from magface.errors import DataError
from magface.metrics.verification import wilson
from magface.quality.calibration import score


class Plain:
    """A network that sees the brightness of a crop in the magnitude, and its colour in the direction."""

    fingerprint, engine, precision = "f00d", "plain", "f32"

    def __init__(self, card):
        self.card = card

    def stream(self, crops):
        for crop in crops:
            yield vector(crop)


def vector(crop):
    colour = crop.mean((0, 1)) - crop.mean() + 1e-3
    return (crop.mean() / 8 * colour / np.linalg.norm(colour)).astype(np.float32)


@pytest.fixture(scope="module")
def plain(embedder):
    card = SimpleNamespace(quality=embedder.card.quality, threshold=embedder.card.threshold, embedding_size=3)
    return Plain(card)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """120 crops named as those of UTKFace; the women are brighter, and so are those of race 1."""
    root, rng = tmp_path_factory.mktemp("utkface"), np.random.default_rng(0)
    for number in range(120):
        gender, race, age = number % 2, number // 2 % 2, (5, 25)[number // 4 % 2]
        level = 110 + 30 * gender + 20 * race + rng.normal(0, 8) + rng.normal(0, 12, 3)
        crop = np.clip(level + rng.normal(0, 5, (112, 112, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / f"{age}_{gender}_{race}_2017{number:04d}.png"), crop)
    return root


@pytest.fixture(scope="module")
def found(plain, faces, tmp_path_factory):
    return groups.evaluate(plain, faces, cache=tmp_path_factory.mktemp("cache"))


def record(name):
    return Record(name, "", Held(b""))


def test_every_group_is_measured(found):
    names = {measure.name.rpartition(": ")[0] for measure in found.measures}
    assert {"all", "gender female", "age 3 to 9", "age 20 to 29", "race Black", "race White"} <= names
    assert {"gender female, race Black", "gender male, race White"} <= names
    assert found.counts["images"] == 120
    assert found.counts["groups"] == 2 + 2 + 2 + 4
    assert "look" in found.protocol


def test_numbers_are_those_of_the_faces_of_the_group(plain, faces, found):
    files = sorted(faces.glob("*.png"))
    crops = [cv2.imread(str(path))[..., ::-1] for path in files]
    vectors = np.stack([vector(crop) for crop in crops]).astype(np.float64)
    scores = score(np.linalg.norm(vectors, axis=1), plain.card)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    women = np.array([path.name.split("_")[1] == "1" for path in files])
    own = scores[women]
    assert found["gender female: mean score"] == pytest.approx(own.mean(), rel=1e-4)
    for level in (10, 50, 90):
        assert found[f"gender female: score, percentile {level}"] == pytest.approx(np.percentile(own, level), rel=1e-4)
    measures = {measure.name: measure for measure in found.measures}
    below = measures["gender male: below 70 (not accepted)"]
    count = int((scores[~women] < 70).sum())
    assert (below.value, below.note) == (count / 60, f"{count} of 60")
    assert below.interval == wilson(count, 60)
    assert found["gender female: difference"] == pytest.approx(own.mean() - scores.mean(), abs=1e-3)
    gap = measures["gender: largest gap"]
    assert gap.value == pytest.approx(own.mean() - scores[~women].mean(), abs=1e-3)
    assert gap.note == "gender female less gender male"
    threshold = plain.card.threshold(1e-3).cosine
    accepted = (unit[women] @ unit[women].T >= threshold)[np.triu_indices(60, 1)]
    assert found["gender female: FMR"] == pytest.approx(accepted.mean(), abs=2 / len(accepted))
    across = unit[women] @ unit[~women].T >= threshold
    assert found["gender: of two groups, FMR"] == pytest.approx(across.mean(), abs=2 / across.size)


def test_what_brightness_explains_is_gone_at_equal_pictures(found):
    """The score is of the brightness alone."""
    assert found["gender: largest gap"] > 5
    assert abs(found["gender: largest gap, adjusted"]) < 0.3 * found["gender: largest gap"]


def test_a_table_names_any_attributes(plain, faces, tmp_path):
    paths = sorted(path.name for path in faces.glob("*.png"))
    lines = [
        "path\tidentity\tage\tlight",
        *(f"{name}\tx\t{30 + i % 2 * 40}\t{'ab'[i % 2]}" for i, name in enumerate(paths[:100])),
    ]
    (tmp_path / "labels.tsv").write_text("\n".join([*lines, f"{paths[100]}\tx\t30\t"]))
    found = groups.evaluate(plain, faces, table=tmp_path / "labels.tsv", cache=tmp_path / "cache")
    names = {measure.name.rpartition(": ")[0] for measure in found.measures}
    assert names >= {"age 30 to 39", "age 70 and more", "light a", "light b"}
    assert not any("identity" in name for name in names)
    assert (found.counts["images"], found.counts["images missing"]) == (100, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\tidentity\nx.png\tAnn\n", "a column for each attribute"),
        ("path\tdate\n" + "".join(f"{i}.png\t{i}\n" for i in range(41)), "41 different values"),
        ("nothing", "heading"),
        ("path\tlight\nother.png\ta\n", "no labels in the table"),
    ],
)
def test_a_table_that_says_nothing_is_refused(text, message, faces, tmp_path):
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        labelled(aligner.find(faces), tmp_path / "labels.tsv")


def test_ages_that_are_no_years_are_values_like_others(tmp_path):
    (tmp_path / "labels.tsv").write_text("path\tage\na.png\tyoung\nb.png\t30\n")
    _, known = labelled(FaceSet.of([record("a.png"), record("b.png")]), tmp_path / "labels.tsv")
    assert [row["age"] for row in known.values()] == ["young", "30"]


def test_names_without_labels_are_named(faces):
    files = FaceSet.of([record("1_0_0_x.jpg"), record("61_1_20170109142408075.jpg"), record("7_2_0_x.jpg")])
    kept, known = labelled(files)
    assert list(known.values()) == [{"gender": "male", "age": "0 to 2", "race": "White"}]
    assert kept.names == ("1_0_0_x.jpg",)
    assert all("AGE_GENDER_RACE_DATE" in reason for _, reason in kept.failures)
    with pytest.raises(DataError, match="AGE_GENDER_RACE_DATE"):
        labelled(FaceSet.of([record("a.jpg")]))


def test_small_groups_are_left_out_and_counted():
    labels = {"gender": np.repeat(["male", "female"], [40, 29])}
    [part] = partitions(labels)
    assert (part.names, part.small) == (("gender male",), 1)
    assert part.group.tolist() == [0] * 40 + [-1] * 29
    with pytest.raises(DataError, match="no group has 30 faces"):
        partitions({"gender": np.array(["male"] * 29)})


def test_ages_are_in_their_order():
    bands = [groups._band(age) for age in groups.AGES]
    [part] = partitions({"age": np.repeat(bands[::-1], 30)})
    assert part.names == tuple(f"age {band}" for band in bands)


def test_pictures_are_measured_in_the_middle_and_at_the_edge():
    grey = np.full((112, 112, 3), 128, np.uint8)
    edged = grey.copy()
    edged[:28] = 0
    edged[60:64, 50:54] = 0  # a pupil is no edge
    sharp = grey.copy()
    sharp[36:104:2] = 255
    files = [Held(cv2.imencode(".png", crop)[1].tobytes()) for crop in (grey, edged, sharp)]
    found = pictures(FaceSet.of([Record(f"{i}.png", "", file) for i, file in enumerate(files)]))
    assert found.shape == (3, len(groups.CONTROLS))
    np.testing.assert_allclose(found[0], [0, 128, 0, 0])
    assert found[1, 3] == pytest.approx(0.25)
    assert found[2, 0] > 5
    assert found[2, 1] == pytest.approx((128 + 255) / 2, abs=1)


@pytest.fixture
def some():
    """What is known of 60 faces: two genders, three kinds of light, and pictures."""
    rng = np.random.default_rng(0)
    labels = {"gender": np.tile(["male", "female"], 30), "light": np.repeat(["day", "lamp", "night"], 20)}
    score = np.append([groups.ACCEPT, groups.RETAKE, groups.WEAK], rng.uniform(0, 100, 57))
    return groups._Faces(score, np.eye(60, dtype=np.float32), rng.normal(size=(60, 4)), labels, 0.5)


def test_a_score_at_a_limit_is_not_below_it(some):
    found = {measure.name: measure.value for measure in some.spread("all", slice(3))}
    shares = [found[f"all: below {limit:g} ({meaning})"] for limit, meaning in groups._BELOW.items()]
    assert shares == [0, 1 / 3, 2 / 3]


def test_controls_are_the_pictures_their_squares_and_the_other_labels(some):
    scaled = (some.picture - some.picture.mean(0)) / some.picture.std(0)
    by_light, by_both = (
        groups.Partition(names, ("a",), np.zeros(60, int)) for names in (("light",), ("gender", "light"))
    )
    np.testing.assert_allclose(some._controls(by_both), np.hstack([scaled, scaled**2]))
    men = some.labels["gender"] == "male"
    np.testing.assert_allclose(some._controls(by_light), np.hstack([scaled, scaled**2, men[:, None]]))
    held = some._controls(groups.Partition(("gender",), ("a",), np.zeros(60, int)))[:, 8:]
    np.testing.assert_array_equal(held.T, [some.labels["light"] == each for each in ("lamp", "night")])


@pytest.mark.parametrize("edge", [np.s_[:28, 28:84], np.s_[-28:, 28:84], np.s_[28:84, :28], np.s_[28:84, -28:]])
def test_black_counts_from_every_edge_and_dark_colours_do_not(edge):
    crop = np.full((112, 112, 3), 128, np.uint8)
    crop[edge] = (0, 0, 200)  # as blue as can be, and not black
    assert groups._picture(crop)[3] == 0
    crop[edge] = 15
    assert groups._picture(crop)[3] == 0.125


def test_of_many_faces_some_are_compared_each_in_its_group(some, monkeypatch):
    monkeypatch.setattr(groups, "_MOST_COMPARED", 4)
    direction = np.eye(3, dtype=np.float32)[np.arange(60) // 20]
    many = groups._Faces(some.score, direction, some.picture, some.labels, 0.5)
    within, across = (many._matched("x", np.arange(10, 60), apart) for apart in (None, np.arange(60) // 30))
    assert within.note == "1 of 6"  # rows 10, 26, 42 and 59, of the directions 0, 1, 2 and 2
    assert across.note == "0 of 4"


def test_a_column_may_have_forty_values(tmp_path):
    (tmp_path / "labels.tsv").write_text("path\tdate\n" + "".join(f"{i}.png\t{i}\n" for i in range(40)))
    _, known = labelled(FaceSet.of([record("7.png")]), tmp_path / "labels.tsv")
    assert known["7.png"] == {"date": "7"}
