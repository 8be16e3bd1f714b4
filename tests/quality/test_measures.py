import cv2
import numpy as np
import pytest

from magface.data.degradations import NAMES
from magface.quality import brisque, measures
from magface.quality.measures import MEASURES

SIDE = 112


@pytest.fixture(scope="module")
def face(astronaut):
    return cv2.resize(astronaut[20:230, 120:330], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def grey(luma):
    return np.repeat(np.asarray(luma, np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_flat_picture(level):
    flat = grey(np.full((SIDE, SIDE), level))
    assert measures.brightness(flat) == level
    for name in ("contrast", "sharpness (Laplacian)", "sharpness (Tenengrad)", "JPEG blockiness"):
        assert MEASURES[name](flat) == 0


def test_a_checkerboard():
    board = grey(255 * (np.indices((SIDE, SIDE)).sum(axis=0) % 2))
    assert measures.brightness(board) == 127.5
    assert measures.contrast(board) == 127.5
    assert measures.laplacian(board) == (4 * 255) ** 2
    assert measures.tenengrad(board) == 0  # the Sobel kernel looks two pixels apart
    assert measures.exposure(board) == -1


def test_a_ramp():
    ramp = grey(np.broadcast_to(2 * np.arange(SIDE), (SIDE, SIDE)))
    assert measures.tenengrad(ramp) == pytest.approx((8 * 2) ** 2 * (SIDE - 2) / SIDE)  # 0 at the mirrored edges
    assert measures.laplacian(ramp) == pytest.approx(2 * 4**2 / SIDE)  # 4 and -4 there, 0 elsewhere
    assert measures.contrast(ramp) == pytest.approx(2 * np.sqrt((SIDE**2 - 1) / 12))


def test_clipped_shares_are_counted_with_their_limits():
    luma = np.full((SIDE, SIDE), 100)
    luma[0, :30], luma[1, :40], luma[2, :50], luma[3, :60] = 25, 26, 246, 247
    assert measures.underexposed(grey(luma)) == pytest.approx(30 / SIDE**2)
    assert measures.overexposed(grey(luma)) == pytest.approx(60 / SIDE**2)
    assert measures.exposure(grey(luma)) == pytest.approx(-90 / SIDE**2)


def compressed(astronaut, quality):
    part = np.ascontiguousarray(astronaut[40:168, 150:278, ::-1])
    return cv2.imdecode(cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize("down", range(8))
def test_jpeg_of_low_quality_is_blockier_wherever_its_grid_lies(astronaut, down):
    low, middle, high = (compressed(astronaut, quality) for quality in (10, 40, 95))
    for right in range(8):
        window = (slice(down, down + SIDE), slice(right, right + SIDE))
        found = [measures.blockiness(np.ascontiguousarray(image[window])) for image in (low, middle, high)]
        assert found == sorted(found)
        assert found[0] < 2 * found[1] < 0


def test_blockiness_counted_pixel_by_pixel(face):
    luma = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(float)

    def along(luma):
        steps = [sum(abs(row[x + 1] - row[x]) for row in luma) / SIDE for x in range(SIDE - 1)]
        grids = []
        for phase in range(8):
            edges = [x for x in range(1, SIDE - 2) if x % 8 == (phase + 1) % 8]
            grids.append(np.mean([steps[x] - (steps[x - 1] + steps[x + 1]) / 2 for x in edges]))
        return (max(grids) - np.median(grids)) / np.mean(steps)

    assert measures.blockiness(face) == pytest.approx(-(along(luma) + along(luma.T)) / 2, rel=1e-4)


def test_a_photo_scaled_after_compression_has_no_grid_left(astronaut):
    low = compressed(astronaut, 10)
    scaled = cv2.resize(np.ascontiguousarray(low), (150, 150), interpolation=cv2.INTER_LINEAR)
    assert measures.blockiness(scaled[:SIDE, :SIDE]) > 0.5 * measures.blockiness(
        np.ascontiguousarray(low[:SIDE, :SIDE])
    )


@pytest.mark.parametrize(
    ("measure", "degradation"),
    [
        (measures.brightness, "darkness"),
        (measures.exposure, "darkness"),
        (measures.exposure, "overexposure"),
        (measures.exposure, "truncation"),
        (measures.contrast, "low_contrast"),
        (measures.laplacian, "gaussian_blur"),
        (measures.tenengrad, "gaussian_blur"),
        (measures.laplacian, "downsampling"),
        (measures.tenengrad, "motion_blur"),
        (measures.blockiness, "jpeg"),
        (brisque.score, "gaussian_blur"),
        (brisque.score, "jpeg"),
        (brisque.score, "gaussian_noise"),
        (brisque.score, "downsampling"),
    ],
)
def test_a_measure_falls_under_what_it_is_to_notice(face, measure, degradation):
    found = [measure(NAMES[degradation](face, strength, np.random.default_rng(1))) for strength in (0.0, 0.4, 0.8)]
    assert found[0] > found[1] > found[2]


def test_every_measure_gives_a_finite_number_for_any_picture(face):
    rng = np.random.default_rng(0)
    pictures = [face, *(grey(np.full((SIDE, SIDE), level)) for level in (0, 3, 255))]
    pictures += [rng.integers(0, 256, face.shape, np.uint8), face * (np.arange(SIDE) < 2)[:, None].astype(np.uint8)]
    for measure in (*MEASURES.values(), brisque.score):
        assert all(type(measure(picture)) is float and np.isfinite(measure(picture)) for picture in pictures)
