import cv2
import numpy as np
import pytest

from magface.align import TEMPLATE
from magface.benchmarks import methods
from magface.data.degradations import NAMES
from magface.embedder import Embedder
from magface.errors import DataError, ModelError
from magface.images import read
from magface.models import default
from magface.quality.pose import pose
from magface.types import Face


@pytest.fixture(scope="module")
def crops(astronaut):
    face = cv2.resize(astronaut[20:230, 120:330], (112, 112), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    return [face, NAMES["gaussian_blur"](face, 0.6, rng), NAMES["patch"](face, 0.6, rng), np.zeros_like(face)]


@pytest.fixture(scope="module")
def built(embedder):
    return {method.name: method for method in methods.build(methods.NAMES, embedder)}


def test_every_name_is_a_method_in_reading_order(built):
    assert tuple(built) == methods.NAMES
    assert len(set(methods.NAMES)) == len(methods.NAMES)
    assert methods.NAMES[0] == "magnitude"


@pytest.mark.parametrize("name", methods.NAMES)
def test_a_method_gives_one_number_a_face_in_order(built, crops, name):
    found = built[name](iter(crops))
    assert found.shape == (4,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert built[name](crops[::-1]) == pytest.approx(found[::-1], rel=1e-3, abs=1e-5)
    assert built[name]([]).shape == (0,)


@pytest.mark.parametrize("name", ["magnitude", "sharpness (Laplacian)", "BRISQUE", "perturbation"])
def test_a_blurred_face_is_worse(built, crops, name):
    clear, blurred = built[name](crops[:2])
    assert blurred < clear


def test_the_magnitude_is_that_of_the_embedder(built, embedder, crops):
    assert built["magnitude"](crops) == pytest.approx(embedder.embed(np.stack(crops)).magnitude, rel=1e-4)


@pytest.mark.parametrize(("name", "lowest"), [("face size", 0), ("pose", -180), ("detector score", 0)])
def test_without_a_face_the_lowest_value(built, crops, name, lowest):
    found = built[name](crops)
    assert found[3] == lowest
    assert found[0] > lowest


def test_what_the_detector_says_of_the_surest_face(crops):
    class Two:
        name = "two"

        def detect(self, images):
            first = Face(np.array([10, 20, 110, 60], np.float32), TEMPLATE, 0.9)
            return [[first, Face(np.zeros(4, np.float32), TEMPLATE, 0.2)] for _ in images]

    found = {name: methods.Detected(name, Two())(crops[:1])[0] for name in methods.DETECTED}
    assert found["face size"] == pytest.approx(np.sqrt(100 * 40))
    assert found["detector score"] == pytest.approx(0.9)
    assert found["pose"] == pytest.approx(-pose(TEMPLATE).turned)


def test_rivals_have_the_names_of_their_cards(embedder, crops):
    first, second, third = methods.build(["magnitude"], embedder, beside=[Embedder(threads=1), default.path()])
    assert (first.name, second.name) == ("magnitude", embedder.card.name)
    assert third.name == f"{embedder.card.name} {embedder.fingerprint[:8]}"
    assert second(crops) == pytest.approx(first(crops), rel=1e-4)


def test_an_unknown_name_is_refused_with_the_nearest(embedder):
    with pytest.raises(DataError, match="'beauty'; there are magnitude, brightness"):
        methods.build(["beauty"], embedder)
    with pytest.raises(DataError, match=r"did you mean 'brightness'\? There are magnitude"):
        methods.build(["brightnes"], embedder)


def test_a_rival_that_is_no_model_is_refused(embedder, tmp_path):
    with pytest.raises(ModelError, match="no model file"):
        methods.build(["contrast"], embedder, beside=[tmp_path / "none.onnx"])


@pytest.mark.parametrize("name", ["magnitude", "detector score", "SER-FIQ", "perturbation"])
def test_real_masks_lower_what_judges_the_face(built, rof, name):
    paths = (sorted(rof.rglob("neutral_*.jpg"))[::100], sorted(rof.rglob("masked_*.jpg"))[::10])
    neutral, masked = (built[name](map(read, group)) for group in paths)
    assert min(len(neutral), len(masked)) >= 12
    assert neutral.mean() - masked.mean() > 0.5 * np.concatenate([neutral, masked]).std()
