import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from magface.benchmarks.faces import embed
from magface.data import formats
from magface.embedder import Embedder
from magface.errors import DataError
from magface.metrics.verification import wilson
from magface.models.card import Reliability, Threshold
from magface.quality import comparisons, reliability
from magface.types import Embeddings

THRESHOLD = Threshold(1e-3, 0.4, 100_000)


def simulated(count, seed, spread=0.0):
    """Genuine pairs whose error falls with quality, and how often each is missed."""
    rng = np.random.default_rng(seed)
    quality = rng.gamma(40, 0.5, count).astype(np.float32)
    missed = 1 / (1 + np.exp(0.6 * (quality - 15)))
    return np.where(rng.random(count) < missed, 0.3, 0.6) + spread * rng.normal(size=count), quality, missed


GROUPS = st.lists(
    st.integers(1, 200).flatmap(lambda pairs: st.tuples(st.integers(0, pairs), st.just(pairs))), min_size=1, max_size=40
)


@given(GROUPS)
def test_pooled_rates_are_those_of_scikit_learn(groups):
    errors, pairs = np.array(groups).T
    start, wrong, count = reliability.pool(errors, pairs)
    ours = np.repeat(wrong / count, np.diff([*start, len(pairs)]))
    regression = IsotonicRegression(increasing=False)
    theirs = regression.fit_transform(np.arange(len(pairs)), errors / pairs, sample_weight=pairs)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert (np.diff(wrong / count) < 0).all()
    assert (wrong.sum(), count.sum()) == (errors.sum(), pairs.sum())


def test_bands_hold_the_pairs_that_they_say():
    cosine, quality, _ = simulated(5000, 0)
    found = reliability.fit(cosine, quality, THRESHOLD)
    assert (found.fmr, found.cosine) == (THRESHOLD.fmr, THRESHOLD.cosine)
    assert sum(found.genuine) == 5000
    assert min(found.genuine) >= reliability.MINIMUM
    assert found.magnitude[0] == quality.min()
    for start, end, rate, pairs in zip(
        found.magnitude, (*found.magnitude[1:], np.inf), found.fnmr, found.genuine, strict=True
    ):
        inside = (quality >= start) & (quality < end)
        assert inside.sum() == pairs
        assert rate == pytest.approx((cosine[inside] < THRESHOLD.cosine).mean(), abs=1e-12)


def test_the_expected_errors_are_those_that_come():
    found = reliability.fit(*simulated(40_000, 1)[:2], THRESHOLD)
    _, quality, missed = simulated(40_000, 2)
    expected = np.array([reliability.expected_fnmr(q, found)[0] for q in quality])
    for part in np.array_split(np.argsort(quality), 8):
        assert expected[part].mean() == pytest.approx(missed[part].mean(), abs=0.02)


@given(st.integers(0, 1000), st.integers(1, 20))
def test_the_order_of_pairs_does_not_matter_and_equal_qualities_stay_together(seed, levels):
    rng = np.random.default_rng(seed)
    cosine, quality = rng.uniform(0, 1, 700), rng.integers(0, levels, 700).astype(float)
    found = reliability.fit(cosine, quality, THRESHOLD)
    order = rng.permutation(700)
    assert reliability.fit(cosine[order], quality[order], THRESHOLD) == found
    assert set(found.magnitude) <= set(quality.tolist())
    assert min(found.genuine) >= reliability.MINIMUM


def test_a_pair_at_the_threshold_is_accepted():
    found = reliability.fit(np.full(100, 0.4), np.full(100, 20.0), THRESHOLD)
    assert found == Reliability(1e-3, 0.4, (20.0,), (0.0,), (100,))


def test_a_card_stays_small():
    cosine, quality, _ = simulated(300_000, 3)
    found = reliability.fit(cosine, quality, THRESHOLD)
    assert 10 < len(found.magnitude) <= 100
    assert min(found.genuine) >= 3000


@pytest.mark.parametrize(
    ("cosine", "quality", "message"),
    [
        (np.zeros(99), np.ones(99), "at least 100 pairs of one person; there are 99"),
        ([], [], "there are 0"),
        (np.zeros(200), np.ones(100), r"shapes \(200,\) and \(100,\)"),
        (np.full(200, np.nan), np.ones(200), "finite"),
        (np.zeros(200), np.full(200, np.inf), "finite"),
        (np.zeros((10, 20)), np.ones((10, 20)), "shapes"),
    ],
)
def test_what_cannot_be_fitted_is_refused(cosine, quality, message):
    with pytest.raises(DataError, match=message):
        reliability.fit(cosine, quality, THRESHOLD)


def test_expected_errors_hold_from_where_a_band_begins():
    found = Reliability(1e-3, 0.4, magnitude=(5.0, 10.0, 20.0), fnmr=(0.5, 0.1, 0.0), genuine=(100, 200, 300))
    wanted = {0.0: 0, 4.9: 0, 5.0: 0, 9.99: 0, 10.0: 1, 19.9: 1, 20.0: 2, 1e9: 2}
    for magnitude, band in wanted.items():
        assert reliability.expected_fnmr(magnitude, found) == (found.fnmr[band], found.genuine[band])


def test_the_interval_holds_the_rate():
    assert reliability.interval(0.25, 100) == pytest.approx((0.1755, 0.3430), abs=1e-4)  # R: binom.wilson(25, 100)
    assert reliability.interval(0.0, 300)[1] < 0.013


def calibrated(vectors, labels, threshold):
    """By quarter of quality: expected and observed FNMR on people that had no part in it, and its standard error."""
    fits = np.random.default_rng(0).permutation(labels.max() + 1)[labels] % 2 == 0
    known, others = (comparisons.genuine(Embeddings(vectors[side]), labels[side]) for side in (fits, ~fits))
    found = reliability.fit(known.cosine, known.quality, threshold)
    expected = np.array([reliability.expected_fnmr(q, found)[0] for q in others.quality])
    missed = others.cosine < threshold.cosine
    rng = np.random.default_rng(0)
    for part in np.array_split(np.argsort(others.quality), 4):
        _, person = np.unique(others.first[part], return_inverse=True)
        excess, pairs = np.bincount(person, missed[part] - expected[part]), np.bincount(person)
        drawn = (rng.integers(len(pairs), size=len(pairs)) for _ in range(200))
        error = np.std([excess[rows].sum() / pairs[rows].sum() for rows in drawn])
        rate = expected[part].mean()
        yield rate, missed[part].mean(), max(error, np.sqrt(rate * (1 - rate) / len(part)))


def assert_calibrated(vectors, labels, threshold):
    quarters = list(calibrated(vectors, labels, threshold))
    for expected, observed, error in quarters:
        assert abs(expected - observed) < 3 * np.sqrt(2) * error + 0.005  # both halves are of few people
    assert quarters[0][1] > 4 * quarters[-1][1]


def test_the_expected_errors_hold_for_other_people(rof, tmp_path):
    embedder = Embedder()
    faces = formats.read(rof)
    place = np.arange(len(faces)) - np.searchsorted(faces.labels, faces.labels)
    kept, embeddings = embed(embedder, faces[place < 8], tmp_path)
    assert_calibrated(embeddings.vectors, kept.labels, embedder.card.threshold(1e-3))


@pytest.mark.slow
def test_the_expected_errors_hold_on_all_real_faces(rof, lfw, tmp_path):
    embedder = Embedder()
    vectors, labels = [], []
    for folder in (rof, lfw):
        kept, embeddings = embed(embedder, formats.read(folder), tmp_path)
        assert_calibrated(embeddings.vectors, kept.labels, embedder.card.threshold(1e-3))
        vectors.append(embeddings.vectors)
        labels.append(kept.labels + (labels[0].max() + 1 if labels else 0))
    assert_calibrated(np.concatenate(vectors), np.concatenate(labels), embedder.card.threshold(1e-3))


def test_nothing_is_expected_of_a_face_that_could_not_be_judged():
    found = Reliability(1e-3, 0.4, magnitude=(10.0, 20.0), fnmr=(0.25, 0.01), genuine=(100, 900))
    rate, pairs = reliability.expected_fnmr(np.nan, found)
    assert np.isnan(rate)
    assert pairs == 0


def test_as_many_bands_as_hold_a_hundred_pairs():
    quality = np.arange(200.0)
    found = reliability.fit(np.where(quality < 100, 0.3, 0.6), quality, THRESHOLD)
    assert (found.magnitude, found.fnmr, found.genuine) == ((0.0, 100.0), (1.0, 0.0), (100, 100))


def test_the_interval_of_a_rate_is_that_of_its_errors():
    assert 29 / 100 * 100 < 29
    assert reliability.interval(29 / 100, 100) == wilson(29, 100)
