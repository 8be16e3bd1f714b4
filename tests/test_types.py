"""Embeddings hold what a network gave, whole and of one model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from magface.errors import DataError
from magface.types import Embeddings, Face

rows = arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(-(2.0**60), 2.0**60, width=32))


@given(rows)
def test_vectors_are_kept_as_they_are(x):
    embeddings = Embeddings(x, "m")
    assert embeddings.vectors.tobytes() == x.tobytes()
    assert len(embeddings) == len(embeddings.magnitude) == len(embeddings.direction) == len(x)
    assert (embeddings.magnitude >= 0).all()


@given(rows, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_what_is_not_finite_is_refused(x, value, data):
    if not len(x):
        return
    x[data.draw(st.integers(0, len(x) - 1)), data.draw(st.integers(0, 3))] = value
    with pytest.raises(DataError, match="NaN or infinity"):
        Embeddings(x)


@pytest.mark.parametrize("shape", [(), (4,), (1, 2, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="must be an"):
        Embeddings(np.zeros(shape, np.float32))


def test_other_types_and_orders_become_contiguous_float32():
    vectors = Embeddings(np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3))).vectors
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous


@given(rows, st.integers(0, 6))
def test_parts_join_to_the_whole(x, cut):
    whole = Embeddings(x, "m")
    again = Embeddings.concatenate([whole[:cut], whole[cut:]])
    np.testing.assert_array_equal(again.vectors, x)
    assert again.model == "m"


def test_rows_by_index_and_by_mask():
    embeddings = Embeddings(np.eye(3, dtype=np.float32), "m")
    np.testing.assert_array_equal(embeddings[np.array([2, 0])].vectors, np.eye(3)[[2, 0]])
    assert len(embeddings[embeddings.vectors[:, 0] > 0]) == 1
    assert embeddings[:0].model == "m"


@pytest.mark.parametrize("models", [[], ["a", "b"], ["a", ""]])
def test_different_models_are_not_mixed(models):
    parts = [Embeddings(np.ones((1, 2), np.float32), model) for model in models]
    with pytest.raises(DataError):
        Embeddings.concatenate(parts)


def test_size_of_a_face_is_its_longer_side():
    face = Face(np.array([-2, 1, 4, 31], np.float32), np.zeros((5, 2), np.float32), 0.9)
    assert face.size == 30
