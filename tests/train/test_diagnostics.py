import numpy as np
import pytest

from magface.losses.adaface import AdaFace
from magface.losses.magface import MagFace
from magface.losses.self_tuning import SelfTuning
from magface.train.diagnostics import diagnose

RNG = np.random.default_rng(0)
COSINE, MAGNITUDE = RNG.uniform(-1, 1, 200).astype(np.float32), RNG.uniform(1, 200, 200).astype(np.float32)
DEGRADED = np.arange(200) % 3 == 0


@pytest.mark.parametrize("margin", [MagFace(), SelfTuning()])
def test_range_and_margin_of_the_unclamped_magnitude(margin):
    found = diagnose(COSINE, MAGNITUDE, DEGRADED, margin)
    assert found["outside"] == pytest.approx(np.mean([not 10 <= a <= 110 for a in MAGNITUDE]))
    margins = [0.45 + 0.35 * (min(max(a, 10), 110) - 10) / 100 for a in MAGNITUDE]
    assert found["margin"] == pytest.approx(np.mean(margins), rel=1e-5)
    assert found["magnitude_p95"] == pytest.approx(np.percentile(MAGNITUDE, 95))
    assert found["magnitude_degraded"] == pytest.approx(MAGNITUDE[DEGRADED].mean())
    assert found["correlation"] == pytest.approx(np.corrcoef(COSINE, MAGNITUDE)[0, 1])


def test_what_cannot_be_told_is_left_out():
    found = diagnose(np.full(3, 0.5), np.array([1.0, 2.0, 3.0]), np.zeros(3, bool), AdaFace())
    assert not {"outside", "margin", "correlation", "magnitude_degraded"} & found.keys()
    assert found["magnitude_clean"] == 2
