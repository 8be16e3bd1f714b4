import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from magface.data import features
from magface.errors import DataError
from magface.types import Embeddings

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
VECTORS = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=FINITE)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=12).map(
    lambda n: f"{n} 1.jpg"
)


@pytest.mark.parametrize("suffix", features.FORMATS)
@given(vectors=VECTORS, name=NAMES)
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, suffix, vectors, name):
    path = tmp_path_factory.mktemp("features") / f"f{suffix}"
    names = [f"{row}/{name}" for row in range(len(vectors))]
    features.write(path, names, Embeddings(vectors, "abc"))
    found, embeddings = features.read(path)
    assert found == names
    assert embeddings.vectors.tobytes() == vectors.tobytes()
    assert embeddings.model == ("" if suffix in (".txt", ".list") else "abc")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_no_faces_are_a_file_too(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    features.write(path, [], Embeddings(np.empty((0, 128), np.float32), "abc"))
    names, embeddings = features.read(path)
    assert (names, embeddings.vectors.shape, embeddings.model) == ([], (0, 128), "abc")


def test_official_features_have_the_published_magnitudes(toy):
    path = next(toy.rglob("feat.list"))
    names, embeddings = features.read(path)
    assert names == [f"toy_imgs/{image}.jpg" for image in range(10)]
    assert embeddings.vectors.shape == (10, 512)
    assert embeddings.magnitude.min() == pytest.approx(21.78, abs=0.01)
    assert embeddings.magnitude.max() == pytest.approx(30.25, abs=0.01)


def test_official_features_are_written_as_the_authors_wrote_them(toy, tmp_path):
    path = next(toy.rglob("feat.list"))
    features.write(tmp_path / "again.list", *features.read(path))
    again = (tmp_path / "again.list").read_text().split()
    assert again == path.read_text().split()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.jpg 1 2\nb.jpg 1\n", 2),
        ("a.jpg 1 2\nb.jpg 1 2 3\n", 2),
        ("a.jpg 1 2\nb.jpg 1 x\n", 2),
        ("a.jpg 1 2\n\nb.jpg 1 2\n", 2),
        ("a.jpg 1 nan\n", 1),
        ("a.jpg 1 2\nb.jpg 1e400 2\n", 2),
        ("a.jpg\n", 1),
        ("1 2 3\n", 1),
        ("a.jpg,1,2\n", 1),
    ],
)
def test_malformed_lines_are_named(tmp_path, text, line):
    path = tmp_path / "f.list"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"f\.list, line {line}: expected a path and"):
        features.read(path)


@given(st.binary(max_size=200))
def test_random_bytes_give_data_errors_only(tmp_path_factory, content):
    for suffix in features.FORMATS:
        path = tmp_path_factory.mktemp("hostile") / f"f{suffix}"
        path.write_bytes(content)
        try:
            features.read(path)
        except DataError:
            continue


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_cut_and_changed_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    features.write(path, ["a"], Embeddings(np.ones((1, 8), np.float32)))
    content = path.read_bytes()
    for cut in range(0, len(content) - 1, 7):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError):
            features.read(path)


def test_pickled_names_are_not_loaded(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, names=np.array([print], object), vectors=np.ones((1, 2), np.float32), model=np.array(""))
    with pytest.raises(DataError, match="damaged"):
        features.read(path)


@pytest.mark.parametrize("name", ["", "1", "photo 2", "a\nb", " a", "a nan"])
def test_names_that_a_text_list_would_lose_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"write \.npz"):
        features.write(tmp_path / "f.txt", [name], Embeddings(np.ones((1, 2), np.float32)))
    assert not list(tmp_path.iterdir())


def test_other_mistakes_are_said(tmp_path):
    one = Embeddings(np.ones((1, 2), np.float32))
    with pytest.raises(DataError, match="format"):
        features.write(tmp_path / "f.csv", ["a"], one)
    with pytest.raises(DataError, match="2 names"):
        features.write(tmp_path / "f.npz", ["a", "b"], one)
    with pytest.raises(DataError, match="no feature file"):
        features.read(tmp_path / "none.npz")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="no embeddings"):
        features.read(tmp_path / "empty.txt")


def test_numbers_that_are_none_are_those_of_a_file(tmp_path):
    vectors = np.array([[1, np.nan]], np.float32)
    np.savez(tmp_path / "a.npz", names=np.array(["x"]), vectors=vectors, model=np.array(""))
    with pytest.raises(DataError, match=r"a\.npz: embeddings hold NaN"):
        features.read(tmp_path / "a.npz")


def test_a_folder_of_parts_is_read_in_order(tmp_path):
    for number, names in enumerate((["b", "c"], [], ["a"])):
        vectors = np.full((len(names), 3), number, np.float32)
        features.write(tmp_path / f"part-{number:05}.parquet", names, Embeddings(vectors, "abc"))
    names, embeddings = features.read(tmp_path)
    assert names == ["b", "c", "a"]
    assert embeddings.vectors[:, 0].tolist() == [0, 0, 2]
    assert embeddings.model == "abc"


def test_a_folder_without_parts_or_of_two_models_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no part-\*"):
        features.read(tmp_path)
    for number, model in enumerate(("abc", "def")):
        features.write(tmp_path / f"part-{number:05}.parquet", ["a"], Embeddings(np.ones((1, 3), np.float32), model))
    with pytest.raises(DataError, match="different models"):
        features.read(tmp_path)
