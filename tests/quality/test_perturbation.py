import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from magface.quality.perturbation import VARIANTS, agreement, variants


@pytest.fixture(scope="module")
def crop():
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def test_variants_are_the_crop_and_six_slight_changes(crop):
    found = variants(crop)
    assert found.shape == (VARIANTS, 112, 112, 3)
    assert found.dtype == np.uint8
    same, mirrored, shifted, blurred, noisy, brighter, darker = found
    assert np.array_equal(same, crop)
    assert np.array_equal(mirrored, crop[:, ::-1])
    assert np.array_equal(shifted[2:, 2:], crop[:-2, :-2])
    assert blurred.std() < crop.std()
    assert 3 < np.abs(noisy.astype(int) - crop).mean() < 6
    assert (brighter >= crop).all()
    assert (darker <= crop).all()
    assert brighter.mean() > crop.mean() + 10 > darker.mean() + 20


def test_the_seed_decides_the_noise_alone(crop):
    assert np.array_equal(variants(crop), variants(crop))
    differ = (variants(crop, seed=1) != variants(crop)).any(axis=(1, 2, 3))
    assert np.flatnonzero(differ).tolist() == [4]


@given(st.integers(2, 7), st.integers(2, 6), st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_agreement_is_the_mean_cosine_of_all_pairs(count, size, seed, scale):
    embeddings = np.random.default_rng(seed).normal(size=(3, count, size))
    expected = [cosine_similarity(each)[np.triu_indices(count, 1)].mean() for each in embeddings]
    assert agreement(embeddings) == pytest.approx(expected, abs=1e-9)
    assert agreement(scale * embeddings) == pytest.approx(expected, abs=1e-9)


def test_agreement_at_its_limits():
    assert agreement([[1.0, 0.0], [5.0, 0.0]]) == pytest.approx(1)
    assert agreement([[1.0, 0.0], [-1.0, 0.0]]) == pytest.approx(-1)
