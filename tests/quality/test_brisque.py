"""Against the authors' formulas written again with SciPy, and numbers of other programs."""

import numpy as np
import pytest
from scipy import ndimage, special

from magface.quality import brisque

SHAPES = np.arange(0.2, 10.0005, 0.001)


@pytest.fixture(scope="module")
def camera():
    from skimage import data

    return data.camera().astype(np.float64)


def window():
    y, x = np.mgrid[-3:4, -3:4]
    bell = np.exp(-(x**2 + y**2) / (2 * (7 / 6) ** 2))
    return bell / bell.sum()


def transcribed(image):
    around = ndimage.convolve(image, window(), mode="constant")
    spread = np.sqrt(np.abs(ndimage.convolve(image**2, window(), mode="constant") - around**2))
    field = (image - around) / (spread + 1)
    ratios = special.gamma(1 / SHAPES) * special.gamma(3 / SHAPES) / special.gamma(2 / SHAPES) ** 2
    moment = np.mean(field**2) / np.mean(np.abs(field)) ** 2
    found = [SHAPES[np.argmin(np.abs(moment - ratios))], np.mean(field**2)]
    for shift in [(0, 1), (1, 0), (1, 1), (-1, 1)]:
        product = field * np.roll(field, shift, axis=(0, 1))
        left, right = np.sqrt(np.mean(product[product < 0] ** 2)), np.sqrt(np.mean(product[product > 0] ** 2))
        g = left / right
        r = np.mean(np.abs(product)) ** 2 / np.mean(product**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
        alpha = SHAPES[np.argmin((1 / ratios - r) ** 2)]
        eta = (right - left) * special.gamma(2 / alpha) / np.sqrt(special.gamma(1 / alpha) * special.gamma(3 / alpha))
        found += [alpha, eta, left**2, right**2]
    return found


def halved(image):
    """Bicubic, a = -0.5, with antialiasing: pixel i of the half is at 2 i + 0.5 of the whole."""

    def cubic(x):
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0

    padded = np.pad(image, 4, mode="symmetric")
    kernel = np.array([cubic((tap - 0.5) / 2) / 2 for tap in range(-3, 5)])
    for _ in range(2):
        count = (padded.shape[0] - 8) // 2
        padded = np.stack([kernel @ padded[2 * i + 1 : 2 * i + 9] for i in range(count)]).T
    return padded


@pytest.mark.parametrize("size", [(512, 512), (112, 112), (60, 90)])
def test_features_are_those_of_the_formulas(camera, size):
    image = camera[: size[0], 100 : 100 + size[1]]
    expected = [*transcribed(image), *transcribed(halved(image))]
    assert brisque.features(image.astype(np.float32)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_features_beside_those_of_the_package(camera):
    """`BRISQUE().calculate_brisque_features(camera / 255)` of brisque 0.2.0, which fits by root finding."""
    expected = [1.5868, 0.2830, 0.5586, -0.0095, 0.1180, 0.1069, 0.5580, 0.0181, 0.0994, 0.1201]
    expected += [0.5563, -0.0469, 0.1377, 0.0840, 0.5547, -0.0487, 0.1385, 0.0827]
    assert brisque.features(camera.astype(np.float32))[:18] == pytest.approx(expected, rel=0.02, abs=1e-3)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0, 128.42527342822618),
        (0.25, -1.7783963738695832),
        (0.5, 14.352117400321703),
        (1, 136.91711412505285),
        (np.random.default_rng(0).random(36), 142.08706490399047),
    ],
)
def test_the_regression_is_that_of_libsvm(share, expected):
    """`BRISQUE().calculate_image_quality_score(min_ + share * (max_ - min_))` of brisque 0.2.0, by LIBSVM 3.37."""
    with np.load(brisque._WEIGHTS, allow_pickle=False) as file:
        low, high = file["low"], file["high"]
    assert brisque.predict(low + share * (high - low)) == pytest.approx(expected, abs=2e-3)


def test_the_score_of_a_known_photo(camera):
    """-13.70844: published for this photo by another program that follows the authors' MATLAB code."""
    assert brisque.predict(brisque.features(camera.astype(np.float32))) == pytest.approx(-13.70844, abs=1e-4)


@pytest.mark.parametrize("level", [0, 1, 200])
def test_an_even_picture_does_not_depend_on_rounding(level):
    flat = np.full((112, 112), level, np.float32)
    assert np.isfinite(brisque.features(flat)).all()
    assert not brisque.normalised(flat.astype(np.float64))[3:-3, 3:-3].any()
