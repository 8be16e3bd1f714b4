"""`magface data align` as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from magface.cli.main import main
from magface.data import image_folder


@pytest.fixture
def command(capsys):
    """Runs a command line; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["data", "align", *map(str, arguments)])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


@pytest.fixture
def photos(tmp_path, astronaut):
    root = tmp_path / "photos"
    for name in ("eileen/1.png", "eileen/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(astronaut).save(root / name)
    return root


def test_photos_become_crops_and_only_once(command, photos, tmp_path):
    out = tmp_path / "crops"
    code, text, err = command(photos, "-o", out)
    assert (code, err) == (0, "")
    assert text == f"2 photos, 0 without a face\n2 crops in {out}\n"
    assert image_folder.read(out).checked().people == ("eileen",)
    code, text, _ = command(photos, "-o", out, "--format", "json")
    assert json.loads(text) == {
        **{"output": str(out), "photos": 2, "read_now": 0, "crops": 2},
        **{"without_face": [], "failures": []},
    }


def test_exit_codes_say_what_is_missing(command, photos, tmp_path):
    Image.fromarray(np.full((90, 90, 3), 60, np.uint8)).save(photos / "wall.png")
    assert command(photos, "-o", tmp_path / "a", "--face", "all")[0] == 0
    (photos / "torn.png").write_bytes(b"\x89PNG torn")
    code, text, err = command(photos, "-o", tmp_path / "b", "--format", "json")
    facts = json.loads(text)
    assert (code, facts["crops"], facts["without_face"]) == (1, 2, ["wall.png"])
    assert facts["failures"][0][0] == "torn.png"
    assert "1 of 4 photos could not be read" in err
    for path in photos.glob("eileen/*"):
        path.unlink()
    assert command(photos, "-o", tmp_path / "c")[0] == 2


def test_the_photos_are_not_written_over(command, photos, tmp_path):
    code, _, err = command(photos, "-o", photos / "../photos")
    assert (code, "another folder" in err) == (2, True)
    assert command(tmp_path / "none", "-o", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_kill_keeps_what_is_done(command, photos, tmp_path, astronaut):
    for number in range(60):
        os.link(photos / "eileen/1.png", photos / f"eileen/x{number}.png")
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time\nfrom magface.detect import YuNet\n\nclass Slow:\n    name, yunet = 'slow', YuNet()\n\n"
        "    def detect(self, images):\n        time.sleep(0.2)\n        return self.yunet.detect(images)\n\n\n"
        "def detector():\n    return Slow()\n"
    )
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, "-m", "magface", "data", "align", photos, "-o", out, "--detector", slow],
        stderr=subprocess.PIPE,
    )
    while len(list(out.glob("eileen/[!.]*.png"))) < 3 and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate()
    assert (run.returncode, b"goes on from there" in err) == (130, True)
    faces = image_folder.read(out, out / "faces.tsv").checked()
    assert 3 <= len(faces) < 62
    assert faces.failures == ()
