import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from magface.cli.main import main
from magface.data import formats, image_folder


@pytest.fixture
def magface_data(capsys):
    """Runs `magface data`; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["data", *map(str, arguments)])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


@pytest.fixture
def root(tmp_path):
    """A folder of nine crops of three people."""
    for number in range(9):
        stream = io.BytesIO()
        Image.new("RGB", (112, 112), (20 * number, 50, 90)).save(stream, "JPEG")
        path = tmp_path / "faces" / f"p{number % 3}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    return tmp_path / "faces"


def contents(path):
    faces = formats.read(path)
    return {name: (faces.encoded(row), faces.people[faces.labels[row]]) for row, name in enumerate(faces.names)}


def test_the_group_lists_its_commands(magface_data):
    code, out, _ = magface_data("--help")
    assert code == 0
    assert "  convert  Write a set of faces in another form" in out
    assert all(f"\n  {name} " in out for name in ("convert", "align", "audit"))
    code, out, _ = magface_data("convert", "-h")
    assert code == 0
    assert "\n    rec         NAME.rec" in out


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("out", "folder"),
        ("out.list", "list"),
        ("rec/train.rec", "rec"),
        ("out-{00..02}.tar", "webdataset"),
        ("out.parquet", "parquet"),
        ("out.d", "webdataset"),
    ],
)
def test_convert(magface_data, root, tmp_path, name, form):
    given = ["--to", form] if name == "out.d" else []
    code, out, err = magface_data("convert", root, tmp_path / name, *given, "--format", "json")
    assert (code, err) == (0, "")
    facts = {"path": str(tmp_path / name), "form": form, "images": 9, "people": 3, "failures": []}
    assert json.loads(out) == facts
    assert contents(tmp_path / name) == contents(root)


def test_what_cannot_be_read_is_counted(magface_data, root, tmp_path):
    (root / "p0/0.jpg").write_bytes(b"")
    (root / "p4").mkdir()
    (root / "p4/1.jpg").touch()
    table = tmp_path / "t.tsv"
    table.write_text("path\np0/0.jpg\np4/1.jpg\np1/1.jpg\np1/gone.jpg\n")
    code, out, err = magface_data("convert", root, tmp_path / "out", "--table", table)
    assert code == 1
    assert out == f"{tmp_path}/out: 1 images of 1 people.\n"
    assert err.splitlines()[-1] == "magface: 3 problems with the set; 1 images were used."
    assert len(err.splitlines()) == 4
    assert image_folder.read(tmp_path / "out").names == ("p1/1.jpg",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none", "out"], "does not exist"),
        (["faces", "faces"], "exists"),
        (["faces", "out.jpg"], r"--to folder|list"),
        (["faces", "out", "--root", "faces"], "no list"),
        (["faces", "out.bin"], "--pairs"),
        (["faces", "out", "--pairs", "pairs.txt"], "belongs to a .bin"),
        (["a.bin", "out"], "--pairs"),
        (["a.bin", "out", "--pairs", "a.bin"], "exists"),
        (["a.bin", "out", "--table", "a.bin"], "--table"),
        (["faces", "out", "--to", "zip"], "zip"),
    ],
)
def test_mistakes(magface_data, root, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.bin").write_bytes(pickle.dumps(([b"1", b"2"], [True])))
    before = sorted(tmp_path.rglob("*"))
    code, out, err = magface_data("convert", *arguments)
    assert code == 2
    assert said in err
    assert not out
    assert sorted(tmp_path.rglob("*")) == before


def test_pairs_go_with_a_bin(magface_data, root, tmp_path):
    listed = tmp_path / "pairs.txt"
    listed.write_text("p0/0.jpg\tp0/3.jpg\t1\np0/0.jpg\tp1/1.jpg\t0\n")
    assert magface_data("convert", root, tmp_path / "a.bin", "--pairs", listed)[0] == 0
    assert magface_data("convert", tmp_path / "a.bin", tmp_path / "out", "--pairs", tmp_path / "found.txt")[0] == 0
    assert magface_data("convert", tmp_path / "out", tmp_path / "b.bin", "--pairs", tmp_path / "found.txt")[0] == 0
    assert magface_data("convert", tmp_path / "b.bin", tmp_path / "c.bin")[0] == 0
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes() == (tmp_path / "c.bin").read_bytes()
    first, second, same, _ = (tmp_path / "found.txt").read_text().splitlines()[0].split("\t")
    assert (first, second, same) == ("0000000.jpg", "0000001.jpg", "1")


def test_a_verification_set_as_published(magface_data, data, tmp_path):
    code, out, _ = magface_data("convert", data / "small_lfw.bin", tmp_path / "a.tar", "--pairs", tmp_path / "p.txt")
    assert (code, out) == (0, f"{tmp_path}/a.tar: 20 images of 1 people.\n")
    assert len((tmp_path / "p.txt").read_text().splitlines()) == 10


def test_a_killed_run_goes_on(root, tmp_path):
    for number in range(3000):
        os.link(root / f"p{number % 3}/{number % 3}.jpg", root / f"p{number % 3}/more{number}.jpg")
    command = [sys.executable, "-m", "magface.cli.main", "data", "convert", root, tmp_path / "out"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while run.poll() is None and not list(tmp_path.glob("out/p2/*.jpg")):
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "out/faces.tsv").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert contents(tmp_path / "out") == contents(root)
    assert not list((tmp_path / "out").rglob(".*"))
