"""`magface quality`: verdicts, what is wrong, and a gate for a camera."""

import csv
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from magface.cli.main import main
from magface.quality.components import RANGES
from magface.recognizer import Recognizer


@pytest.fixture
def quality(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["quality", *(str(argument) for argument in arguments)])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut):
    """Good, blurred and dark portraits, one without a face, and one that is no photo."""
    folder = tmp_path_factory.mktemp("gate")
    images = {
        "good": astronaut,
        "blurred": cv2.GaussianBlur(astronaut, (0, 0), 9),
        "wall": np.full((120, 90, 3), 60, np.uint8),
    }
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    return folder


def test_json_tells_verdict_measures_and_causes(quality, photos):
    code, out, _ = quality(photos / "good.png", photos / "blurred.png", "--format", "json")
    good, blurred = json.loads(out)
    assert code == 0
    assert (good["verdict"], good["why"]) == ("accept", [])
    assert list(good["components"]) == [name for name in RANGES if not name.endswith("covered")]
    assert all(each["fine"] for each in good["components"].values())
    assert blurred["verdict"] in ("review", "retake")
    assert blurred["why"][0].startswith("blurred: sharpness ")
    assert list(blurred["components"]) == list(RANGES)
    assert blurred["components"]["sharpness"] == {
        "value": pytest.approx(0, abs=6),
        "unit": "% of contrast",
        "low": 6,
        "high": None,
        "fine": False,
    }


def test_table_says_why_under_the_face_within_the_terminal(quality, photos, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    code, out, _ = quality(photos / "good.png", photos / "blurred.png")
    header, good, blurred, *why = out.splitlines()
    assert code == 0
    assert header.split() == ["score", "percentile", "magnitude", "verdict", "photo"]
    assert good.split()[3] == "accept"
    assert good.endswith("good.png")
    assert blurred.split()[3] in ("review", "retake")
    assert why[0].strip().startswith("blurred: sharpness")
    assert max(map(len, why)) <= 70


def test_csv_has_every_measure_as_a_column(quality, photos):
    code, out, _ = quality(photos / "good.png", photos / "blurred.png", "--format", "csv")
    good, blurred = csv.DictReader(io.StringIO(out))
    assert code == 0
    assert {name.replace(" ", "_") for name in RANGES} <= set(good)
    assert float(good["sharpness"]) > float(blurred["sharpness"])
    assert (good["why"], good["mouth_covered"]) == ("", "")
    assert 0 <= float(blurred["mouth_covered"]) <= 1


@pytest.mark.parametrize(
    ("options", "wanted"), [((), "accept"), (("--accept", 99.9), "review"), (("--retake", 99.9), "retake")]
)
def test_thresholds_are_the_users(quality, photos, options, wanted):
    _, out, _ = quality(photos / "good.png", *options, "--format", "json")
    assert json.loads(out)[0]["verdict"] == wanted


@pytest.mark.parametrize(
    ("names", "code"),
    [(["good"], 0), (["blurred"], 1), (["good", "blurred"], 1), (["good", "wall"], 1), (["wall"], 1)],
)
def test_the_gate_opens_only_when_every_photo_has_a_good_face(quality, photos, names, code):
    found, out, err = quality(*(photos / f"{name}.png" for name in names), "--min-score", 60, "--format", "json")
    assert found == code
    assert len(json.loads(out)) == len([name for name in names if name != "wall"])
    assert ("score below 60: " in err) == ("blurred" in names)
    assert ("no face in 1 of" in err) == ("wall" in names)
    if "blurred" in names:
        assert f"{photos / 'blurred.png'} (" in err
        assert str(photos / "good.png") not in err


def test_a_photo_that_cannot_be_read_does_not_pass(quality, photos):
    assert quality(photos / "good.png", photos / "torn.jpg", "--min-score", 60)[0] == 1
    assert quality(photos / "torn.jpg", "--min-score", 60)[0] == 2
    assert quality(photos / "none.jpg", "--min-score", 60)[0] == 2


def test_limits_in_the_wrong_order_are_a_sentence(quality, photos):
    code, out, err = quality(photos / "good.png", "--accept", 30, "--retake", 60)
    assert (code, out) == (2, "")
    assert "taken again below a score of 60" in err
    assert err.count("\n") == 1


def test_crops_are_judged_too(quality, tmp_path, photos):
    recognizer = Recognizer()
    for name in ("good", "blurred"):
        [face] = recognizer.faces(photos / f"{name}.png")
        Image.fromarray(face.crop).save(tmp_path / f"{name}.png")
    code, out, _ = quality(tmp_path, "--aligned", "--format", "json")
    good, blurred = json.loads(out)
    assert code == 0
    assert good["photo"].endswith("good.png")
    assert not {"yaw", "size"} & set(blurred["components"])
    assert blurred["why"][0].startswith("blurred")
