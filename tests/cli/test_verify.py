"""What verify says beside its decision, with cards that were made for the test."""

import dataclasses
import json

import cv2
import pytest
from PIL import Image

from magface.cli.main import main
from magface.models import card, default
from magface.models.card import Bands, Comparison, Reliability, ScoreThreshold, Threshold
from magface.quality import qmagface
from magface.recognizer import Recognizer

SHIPPED = card.read(default.path())[0]
PLAIN = dataclasses.replace(
    SHIPPED, thresholds=(Threshold(1e-3, 0.4, 1000),), reliability=(), bands=(), comparison=None
)


@pytest.fixture(scope="module")
def pair(astronaut, tmp_path_factory):
    """A clear and a blurred photo, their cosine, and the lower magnitude."""
    folder = tmp_path_factory.mktemp("photos")
    paths = folder / "clear.png", folder / "blurred.png"
    for path, image in zip(paths, (astronaut, cv2.GaussianBlur(astronaut, (0, 0), 3)), strict=True):
        Image.fromarray(image).save(path)
    result = Recognizer().verify(*paths)
    return paths, result.cosine, min(result.a.magnitude, result.b.magnitude)


@pytest.fixture
def verify(pair, tmp_path, capsys):
    def run(found, *options):
        model = tmp_path / "model.onnx"
        model.write_bytes(card.attach(default.path().read_bytes(), found))
        with pytest.raises(SystemExit) as end:
            main(["verify", *map(str, pair[0]), "--model", str(model), *map(str, options)])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


def test_it_says_how_often_such_a_pair_is_missed(verify, pair):
    _, _, quality = pair
    errors = Reliability(1e-3, 0.4, (quality - 1, quality + 1), (0.04, 0.0), (25, 900))
    found = dataclasses.replace(PLAIN, reliability=(dataclasses.replace(errors, fmr=1e-2, cosine=0.3), errors))
    sentence = "At cosine 0.400 a pair of one person of this quality is missed in 4.0 % of cases (1 of 25 pairs; "
    assert f"{sentence}95 % interval 0.7 to 19.5 %)." in verify(found)[1]
    facts = json.loads(verify(found, "--format", "json")[1])["expected_fnmr"]
    assert (facts["cosine"], facts["rate"], facts["pairs"], facts["below"]) == (0.4, 0.04, 25, False)
    assert facts["interval"] == pytest.approx([0.0071, 0.1954], abs=1e-3)


def test_below_what_was_measured_it_says_at_least(verify, pair):
    errors = Reliability(1e-3, 0.4, (pair[2] + 1,), (0.5,), (100,))
    found = dataclasses.replace(PLAIN, reliability=(errors,))
    assert "is missed in at least 50.0 % of cases" in verify(found)[1]
    assert json.loads(verify(found, "--format", "json")[1])["expected_fnmr"]["below"] is True


@pytest.mark.parametrize(
    "errors", [(), (Reliability(1e-2, 0.4, (0.0,), (0.5,), (9,)),), (Reliability(1e-3, 0.41, (0.0,), (0.5,), (9,)),)]
)
def test_errors_of_another_threshold_are_not_told(verify, errors):
    found = dataclasses.replace(PLAIN, reliability=errors)
    assert "is missed" not in verify(found)[1]
    assert json.loads(verify(found, "--format", "json")[1])["expected_fnmr"] is None


def test_a_plain_card_decides_by_its_threshold_alone(verify, pair):
    code, out, _ = verify(PLAIN)
    assert (code, out.count("match:")) == (0 if pair[1] >= 0.4 else 1, 1)
    facts = json.loads(verify(PLAIN, "--format", "json")[1])
    assert (facts["decided_by"], list(facts["decisions"])) == ("cosine", ["cosine"])
    for by in ("band", "quality"):
        code, _, err = verify(PLAIN, "--by", by)
        assert code == 2
        assert f"the model does not decide by {by} at FMR 0.001; measure it with magface quality calibrate." in err


def test_the_threshold_of_the_band_counts_where_it_is_asked_for(verify, pair):
    _, cosine, quality = pair
    found = dataclasses.replace(
        PLAIN,
        thresholds=(Threshold(1e-3, cosine - 0.1, 1000),),
        bands=(Bands(1e-3, (0.0, quality - 1, quality + 1), (0.9, cosine + 0.05, 0.1), (7, 8, 9)),),
    )
    code, out, _ = verify(found)
    assert code == 0
    other = f"no match: cosine {cosine:.3f} < {cosine + 0.05:.3f}"
    assert f"By the threshold for this quality: {other}\n" in out
    code, out, _ = verify(found, "--by", "band")
    assert code == 1
    assert out.startswith(f"{other}\n")
    assert "measured on 8 comparisons of different people" in out
    assert f"By one threshold for all: match: cosine {cosine:.3f} >= {cosine - 0.1:.3f}\n" in out
    code, out, _ = verify(found, "--by", "band", "--format", "json")
    facts = json.loads(out)
    assert (code, facts["match"], facts["decided_by"]) == (1, False, "band")
    assert facts["decisions"]["band"] == {
        "value": facts["cosine"],
        "threshold": cosine + 0.05,
        "impostors": 8,
        "match": False,
    }


def test_the_quality_aware_score_counts_where_it_is_asked_for(verify, pair):
    _, cosine, quality = pair
    constants = Comparison(alpha=0.2, beta=0.1)
    score = float(qmagface.score(cosine, quality, constants))
    assert score < cosine
    for threshold, code in ((score - 0.01, 0), (score + 0.01, 1)):
        known = dataclasses.replace(constants, thresholds=(ScoreThreshold(1e-3, threshold, 55),))
        found = dataclasses.replace(PLAIN, comparison=known)
        assert verify(found)[0] == (0 if cosine >= 0.4 else 1)
        ended, out, _ = verify(found, "--by", "quality")
        assert ended == code
        word, sign = ("match", ">=") if code == 0 else ("no match", "<")
        assert out.startswith(f"{word}: score {score:.3f} {sign} {threshold:.3f}\n")
        assert "measured on 55 comparisons of different people" in out
        decision = json.loads(verify(found, "--format", "json")[1])["decisions"]["quality"]
        assert decision["value"] == pytest.approx(score, abs=1e-4)
        assert decision["match"] == (code == 0)


def test_constants_without_thresholds_decide_nothing(verify):
    found = dataclasses.replace(PLAIN, comparison=Comparison(0.2, 0.1))
    assert "quality-aware" not in verify(found)[1]
    assert verify(found, "--by", "quality")[0] == 2
