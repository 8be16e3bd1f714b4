"""What a user meets: exit codes, one sentence for what went wrong, output for people and for programs."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import magface
from magface.cli.main import COMMANDS, INNER, main
from magface.data import features

EVIL = "<img src=x onerror=alert(1)> [red]x.png"


@pytest.fixture
def magface_command(capsys):
    """Runs a command line; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut):
    """A folder of one person, ever blurrier, and a photo without a face."""
    folder = tmp_path_factory.mktemp("photos")
    for level in range(4):
        image = cv2.GaussianBlur(astronaut, (0, 0), 3 * level) if level else astronaut
        Image.fromarray(image).save(folder / f"blur{level}.png")
    Image.fromarray(astronaut).save(folder / EVIL)
    Image.fromarray(np.full((120, 90, 3), 60, np.uint8)).save(folder / "wall.png")
    return folder


@pytest.fixture
def damaged(tmp_path, photos):
    content = (photos / "blur0.png").read_bytes()
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "truncated.png").write_bytes(content[: len(content) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no photo")
    (folder / "whole.png").write_bytes(content)
    return folder


def test_version_and_help(magface_command):
    assert magface_command("--version")[:2] == (0, f"magface {magface.__version__}\n")
    code, out, _ = magface_command("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", [*COMMANDS, *INNER])
def test_help_has_an_example(magface_command, name):
    code, out, _ = magface_command(*name.split(), "--help")
    assert code == 0
    assert out.count(f"magface {name} ") > 1
    assert "\\b" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "no-such.jpg", "other.jpg"],
        ["analyze", "no-such-folder"],
        ["quality", "no-such.jpg", "--engine", "abacus"],
        ["embed", ".", "-o", "x.docx"],
        ["nonsense"],
        [],
    ],
)
def test_bad_input_is_exit_2_and_a_sentence(magface_command, arguments):
    code, out, err = magface_command(*arguments)
    assert code == 2
    assert "Traceback" not in err
    assert out + err


@pytest.mark.parametrize("form", [["--format", "json"], ["--format=json"]])
def test_json_on_stdout_says_why_nothing_was_done(magface_command, tmp_path, form):
    code, out, err = magface_command("quality", tmp_path / "none.jpg", *form)
    assert code == 2
    assert f"magface: {json.loads(out)['error']}\n" == err


@pytest.mark.parametrize(
    "arguments", [["quality"], ["quality", ".", "--no-such"], ["quality", ".", "--engine", "abacus"], ["data", "align"]]
)
def test_wrong_usage_is_json_too(magface_command, arguments):
    code, out, err = magface_command(*arguments, "--format", "json")
    assert code == 2
    assert f"Error: {json.loads(out)['error']}\n" in err


def test_failures_of_all_are_json_too(magface_command, tmp_path, damaged):
    Image.fromarray(np.full((120, 90, 3), 60, np.uint8)).save(damaged / "whole.png")
    code, out, err = magface_command("embed", damaged, "-o", tmp_path / "x.npz", "--format", "json")
    facts = json.loads(out)
    assert (code, facts["output"], len(facts["failures"])) == (2, None, 3)
    assert "no photo has a face" in err
    assert err.count("\n") == 3 + 3
    assert not (tmp_path / "x.npz").exists()


@pytest.fixture
def odd(tmp_path, photos):
    """A folder with names that are hard to print: not Unicode, two lines, commands to the terminal."""
    folder = tmp_path / "odd"
    folder.mkdir()
    content = (photos / "blur0.png").read_bytes()
    names = (b"not\xffunicode.png", b"two\nlines.png", b"\x1b[31mred.png")
    try:
        for name in names:
            (folder / os.fsdecode(name)).write_bytes(content)
            (folder / os.fsdecode(b"cut" + name)).write_bytes(content[:999])
    except OSError:
        pytest.skip("needs a file system that takes any name")
    return folder


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_odd_names_are_printed_on_any_terminal(odd, form):
    run = subprocess.run(
        [sys.executable, "-m", "magface.cli.main", "quality", odd, "--format", form],
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 1
    errors = run.stderr.decode("ascii").splitlines()
    assert len(errors) == 3 + 1
    assert all(line.startswith("magface: ") and line.isprintable() for line in errors)
    assert run.stdout.decode("ascii").count("red.png") == 1


def test_analyze_takes_odd_names(magface_command, odd, tmp_path):
    code, out, _ = magface_command("analyze", odd, "-o", tmp_path / "out", "--format", "json")
    facts = json.loads(out)
    assert (code, facts["photos"], facts["faces"], len(facts["failures"])) == (1, 6, 3, 3)
    assert "not\\xffunicode.png" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_embed_refuses_a_place_before_the_work(magface_command, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("magface.cli.reading.read", lambda *_: pytest.fail("worked in vain"))
    (tmp_path / "x.npz").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "x.npz", tmp_path / "file" / "y.npz"):
        code, _, err = magface_command("embed", photos, "-o", place)
        assert code == 2
        assert err.startswith("magface: cannot use ")
        assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("form", ["text", "json"])
def test_full_or_closed_output_is_no_traceback(photos, form):
    pair = photos / "blur0.png", photos / "blur1.png"
    command = [sys.executable, "-m", "magface.cli.main", "verify", *map(str, pair), "--format", form]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "No space left" in run.stderr
    run = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("suffix", ["parquet", "list"])
def test_embed_refuses_names_before_the_work(magface_command, odd, tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("magface.cli.reading.read", lambda *_: pytest.fail("worked in vain"))
    code, _, err = magface_command("embed", odd, "-o", tmp_path / f"x.{suffix}")
    assert code == 2
    assert "write .npz instead" in err


def test_model_that_is_none_is_refused(magface_command, photos, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    code, _, err = magface_command(
        "verify", photos / "blur0.png", photos / "blur0.png", "--model", tmp_path / "bad.onnx"
    )
    assert code == 2
    assert err.startswith("magface: ")
    assert err.count("\n") == 1


def test_verify_match(magface_command, photos):
    code, out, _ = magface_command("verify", photos / "blur0.png", photos / "blur1.png")
    assert code == 0
    assert out.startswith("match: cosine 0.")
    assert "false match rate of 0.001" in out


def test_verify_json_and_weak_picture(magface_command, photos):
    code, out, _ = magface_command("verify", photos / "blur0.png", photos / "blur3.png", "--format", "json")
    facts = json.loads(out)
    assert code == (0 if facts["match"] else 1)
    assert facts["score"] == facts["b"]["score"] < facts["a"]["score"]
    assert facts["impostors"] > 0
    _, out, _ = magface_command("verify", photos / "blur0.png", photos / "blur3.png")
    assert ("Caution: B is a weak picture" in out) == facts["weak"]


def test_verify_says_which_of_several_faces(magface_command, photos, tmp_path, astronaut):
    pair = np.full((512, 800, 3), 128, np.uint8)
    pair[:, :512] = astronaut
    pair[100:356, 530:786] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    Image.fromarray(pair).save(tmp_path / "pair.png")
    code, out, _ = magface_command("verify", tmp_path / "pair.png", photos / "blur0.png")
    assert code == 0
    assert "2 faces in A: compared number 1 from the left, the largest" in out
    code, out, _ = magface_command("verify", tmp_path / "pair.png", photos / "blur0.png", "--face-a", 2)
    assert code == 0
    assert "faces in A" not in out
    code, _, err = magface_command("verify", tmp_path / "pair.png", photos / "blur0.png", "--face-a", 3)
    assert code == 2
    assert "has no face 3; it has 2" in err


def test_verify_without_a_face_is_exit_2(magface_command, photos):
    code, out, err = magface_command("verify", photos / "wall.png", photos / "blur0.png")
    assert (code, out) == (2, "")
    assert "no face was found in" in err


def test_quality_is_sorted_in_all_formats(magface_command, photos):
    code, out, err = magface_command("quality", photos, "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert "no face in 1 of 6 photos" in err
    scores = [row["score"] for row in rows]
    assert len(rows) == 5
    assert scores == sorted(scores, reverse=True)
    by_name = {row["photo"].rsplit("/", 1)[1]: row["score"] for row in rows}
    assert by_name["blur0.png"] > by_name["blur2.png"] > by_name["blur3.png"]
    table = list(csv.DictReader(io.StringIO(magface_command("quality", photos, "--format", "csv")[1])))
    assert [float(row["score"]) for row in table] == scores
    lines = magface_command("quality", photos)[1].splitlines()
    assert len([line for line in lines if not line.startswith(" " * 7)]) == 6  # others say why
    assert any(line.endswith(EVIL) for line in lines)


def test_some_or_all_unreadable_photos_decide_the_exit_code(magface_command, damaged):
    code, out, err = magface_command("quality", damaged, "--format", "json")
    assert code == 1
    assert len(json.loads(out)) == 1
    assert "3 of 4 photos could not be read" in err
    (damaged / "whole.png").unlink()
    code, _, err = magface_command("quality", damaged)
    assert code == 2
    assert "3 of 3" in err


@pytest.mark.parametrize("suffix", ["npz", "parquet", "txt"])
def test_embed_writes_what_can_be_read(magface_command, photos, tmp_path, suffix):
    output = tmp_path / f"faces.{suffix}"
    code, out, _ = magface_command("embed", photos, "-o", output)
    assert code == 0
    assert "5 faces of 6 photos" in out
    names, embeddings = features.read(output)
    rows = json.loads(magface_command("quality", photos, "--format", "json")[1])
    wanted = {row["photo"]: row["magnitude"] for row in rows}
    assert dict(zip(names, embeddings.magnitude.tolist(), strict=True)) == pytest.approx(wanted, abs=1e-3)


def test_output_that_cannot_be_written_is_a_sentence(magface_command, photos, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = magface_command("embed", photos / "blur0.png", "-o", tmp_path / "file" / "x.npz")
    assert code == 2
    assert "check the path" in err
    assert err.count("\n") == 1


def test_embed_aligned_and_nothing_to_embed(magface_command, photos, tmp_path):
    [face] = magface.Recognizer().faces(photos / "blur0.png")
    (tmp_path / "crops").mkdir()
    Image.fromarray(face.crop).save(tmp_path / "crops" / "a.png")
    code, _, _ = magface_command("embed", tmp_path / "crops", "--aligned", "-o", tmp_path / "f.npz")
    assert code == 0
    np.testing.assert_allclose(features.read(tmp_path / "f.npz")[1].vectors[0], face.embedding, atol=1e-3)
    code, _, err = magface_command("embed", photos / "blur0.png", "--aligned", "-o", tmp_path / "g.npz")
    assert code == 2
    assert "112x112" in err
    code, _, err = magface_command("embed", photos / "wall.png", "-o", tmp_path / "h.npz")
    assert code == 2
    assert "no photo has a face" in err
    assert not (tmp_path / "h.npz").exists()


def test_analyze_writes_everything_and_goes_on(magface_command, photos, tmp_path):
    out_folder = tmp_path / "out"
    code, out, _ = magface_command("analyze", photos, "-o", out_folder, "--format", "json")
    first = json.loads(out)
    assert code == 0
    assert (first["photos"], first["read_now"], first["faces"]) == (6, 6, 5)
    assert len(first["without_face"]) == 1
    assert sorted(path.name for path in out_folder.iterdir()) == [
        ".lock",
        "crops",
        "faces.parquet",
        "photos.parquet",
        "report.html",
    ]
    table = parquet.read_table(out_folder / "faces.parquet")
    assert table.schema.metadata[b"magface.detector"] == b"yunet"
    assert len(table.schema.metadata[b"magface.model"]) == 64
    assert table.schema.field("embedding").type.list_size == 128
    assert set(table["crop"].to_pylist()) == {path.name for path in (out_folder / "crops").iterdir()}
    assert min(table["person"].to_pylist()) == 1
    before = {path.name: path.read_bytes() for path in out_folder.glob("*.*")}

    code, out, _ = magface_command("analyze", photos, "-o", out_folder)
    assert code == 0
    assert "6 photos (6 known from before), 1 without a face" in out
    assert {path.name: path.read_bytes() for path in out_folder.glob("*.*")} == before


def test_analyze_again_reads_the_new_and_drops_the_gone(magface_command, photos, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("blur0.png", "blur1.png"):
        (folder / name).write_bytes((photos / name).read_bytes())
    magface_command("analyze", folder, "-o", folder / "report")
    (folder / "blur0.png").unlink()
    (folder / "blur2.png").write_bytes((photos / "blur2.png").read_bytes())
    _, out, _ = magface_command("analyze", folder, "-o", folder / "report", "--format", "json")
    again = json.loads(out)
    assert (again["photos"], again["read_now"]) == (2, 1)
    names = parquet.read_table(folder / "report" / "faces.parquet")["photo"].to_pylist()
    assert [name.rsplit("/", 1)[1] for name in names] == ["blur1.png", "blur2.png"]


def test_analyze_reports_every_damaged_file(magface_command, damaged, tmp_path):
    code, out, err = magface_command("analyze", damaged, "-o", tmp_path / "out", "--format", "json")
    found = json.loads(out)
    assert code == 1
    assert len(found["failures"]) == 3
    assert found["faces"] == 1
    assert "3 of 4 photos could not be read" in err
    assert "not readable" in (tmp_path / "out" / "report.html").read_text()


def test_analyze_into_a_place_that_cannot_be_written(magface_command, photos, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = magface_command("analyze", photos, "-o", tmp_path / "file")
    assert code == 2
    assert "cannot write to" in err


def test_album_is_grouped_by_person(magface_command, album, tmp_path):
    from magface.metrics.clustering import pairwise

    people = sorted(album.rglob("*_0001.jpg"))[:12]
    folders = [path.parent for path in people]
    code, _, _ = magface_command("analyze", *folders, "-o", tmp_path / "out")
    assert code == 0
    table = parquet.read_table(tmp_path / "out" / "faces.parquet").to_pydict()
    middle = {}
    for row, name in enumerate(table["photo"]):  # the person that the photo is of stands in its middle
        off = abs(table["x1"][row] + table["x2"][row] - 250)
        middle[name] = min(middle.get(name, (off, row)), (off, row))
    rows = [row for _, row in middle.values()]
    truth = [table["photo"][row].rsplit("/", 2)[1] for row in rows]
    assert pairwise(truth, [table["person"][row] for row in rows]).f >= 0.97


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_analysis_goes_on_where_it_was(magface_command, tmp_path, astronaut, stop):
    folder, output = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    content = io.BytesIO()
    Image.fromarray(astronaut).save(content, "JPEG")
    for number in range(400):
        (folder / f"{number}.jpg").write_bytes(content.getvalue() + b"%d" % number)
    command = [sys.executable, "-m", "magface.cli.main", "analyze", str(folder), "-o", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(output.glob("journal/[0-9]*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, stop)
        _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    assert process.returncode == (-9 if stop == signal.SIGKILL else 130)
    code, out, _ = magface_command("analyze", folder, "-o", output, "--format", "json")
    done = json.loads(out)
    assert code == 0
    assert done["faces"] == 400
    assert 0 < done["read_now"] < 400
    assert [path.name for path in output.rglob(".*")] == [".lock"]


@pytest.mark.parametrize("command", ["embed", "quality", "verify"])
def test_a_stopped_command_says_so(photos, tmp_path, command):
    detector = tmp_path / "own.py"
    detector.write_text(
        "import os, signal\n"
        "class Stopper:\n"
        "    name = 'own'\n"
        "    def detect(self, images):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        return [[] for _ in images]\n"
        "detector = Stopper\n"
    )
    arguments = [*[str(photos / "blur0.png")] * 2, "--detector", str(detector), "--format", "json"]
    arguments += ["-o", str(tmp_path / "a.npz")] if command == "embed" else []
    done = subprocess.run(
        [sys.executable, "-m", "magface.cli.main", command, *arguments], capture_output=True, text=True
    )
    assert done.stderr == "magface: stopped; there is no result yet: run the same command again.\n"
    assert (done.returncode, json.loads(done.stdout)) == (130, {"error": "stopped before it was done."})
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


@pytest.mark.parametrize("library", ["openvino", "cv2"])
def test_stopped_while_a_library_is_imported(photos, tmp_path, library):
    (tmp_path / f"{library}.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(10)\n"
        "except KeyboardInterrupt as error:\n"
        "    raise ImportError('initialization failed') from error\n"  # as compiled libraries do
    )
    command = [sys.executable, "-m", "magface.cli.main", "quality", str(photos / "blur0.png")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stderr == "magface: stopped; there is no result yet: run the same command again.\n"
    assert done.returncode == 130


@pytest.mark.parametrize(
    "arguments",
    [["quality", ""], ["embed", "", "-o", "a.npz"], ["analyze", ".", "-o", ""], ["embed", ".", "--output="]],
)
def test_an_empty_name_is_not_the_current_folder(magface_command, arguments):
    code, out, err = magface_command(*arguments)
    assert (code, out) == (2, "")
    assert err == "magface: an argument is empty; name a file or folder, or . for the current one.\n"


def test_a_reader_that_goes_away_is_no_error(photos):
    command = f"'{sys.executable}' -m magface.cli.main quality '{photos}' | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_analyze_without_any_face_or_any_photo(magface_command, photos, tmp_path):
    code, out, _ = magface_command("analyze", photos / "wall.png", "-o", tmp_path / "out")
    assert code == 0
    assert "0 faces: 0 people seen again" in out
    assert parquet.read_table(tmp_path / "out" / "faces.parquet").num_rows == 0
    (tmp_path / "none").mkdir()
    code, _, err = magface_command("analyze", tmp_path / "none", "-o", tmp_path / "other")
    assert code == 2
    assert "there is no photo to analyze" in err
    assert not (tmp_path / "other").exists()


def test_analyze_with_another_detector_reads_all_again_and_says_so(magface_command, photos, tmp_path):
    detector = tmp_path / "own.py"
    detector.write_text(
        "from magface.detect import YuNet\n"
        "def detector():\n"
        "    found = YuNet()\n"
        "    found.name = 'own'\n"
        "    return found\n"
    )
    magface_command("analyze", photos / "blur0.png", "-o", tmp_path / "out")
    code, out, _ = magface_command("analyze", photos / "blur0.png", "-o", tmp_path / "out", "--detector", detector)
    assert code == 0
    assert "results of another model or detector" in out
    table = parquet.read_table(tmp_path / "out" / "faces.parquet")
    assert table.schema.metadata[b"magface.detector"] == b"own"


@pytest.mark.parametrize("arguments", ["finetune --data people -o runs/1", "export sface -o sface.onnx"])
def test_training_without_torch_says_what_to_install(arguments):
    code = "import sys; sys.modules['torch'] = None; from magface.cli.main import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *arguments.split()], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "magface: this command needs torch; pip install 'magface[train]'.\n"
