"""`magface gallery`: photos in, people found, what is wrong said, and what is removed gone."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from magface import Recognizer
from magface.cli.gallery import gallery as commands
from magface.cli.main import main
from magface.gallery import open_gallery


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs `magface gallery` in a folder of its own; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAGFACE_GALLERY_KEY", raising=False)
    monkeypatch.setenv("MAGFACE_GALLERY", "")

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["gallery", *(str(argument) for argument in arguments)])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


@pytest.fixture
def people(tmp_path, astronaut):
    """Two folders of people: one with two photos of the astronaut, one with a photo without a face."""
    for name, image in {
        "Eileen/1.png": astronaut,
        "Eileen/2.png": astronaut[:, ::-1],
        "Eileen/blurred.png": cv2.GaussianBlur(astronaut, (0, 0), 9),
        "Nobody/wall.png": np.full((200, 200, 3), 80, np.uint8),
    }.items():
        path = tmp_path / "people" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "people"


def told(output):
    return json.loads(output)


def test_people_are_enrolled_found_and_removed(run, people, tmp_path):
    code, out, err = run("enroll", people, "--label", "staff", "--format", "json")
    facts = told(out)
    assert (code, facts["added"], facts["gallery"]["people"]) == (1, 2, 1)
    [[refused, why]] = facts["refused"]
    assert refused.endswith("blurred.png")
    assert why in err
    assert "no face was found" in facts["unusable"][0][1]
    assert (tmp_path / "faces.db").is_file()

    code, out, _ = run("enroll", people, "--format", "json")
    assert (told(out)["added"], told(out)["already_there"]) == (0, 2)

    code, out, _ = run("search", people / "Eileen" / "2.png", "--format", "json", "--label", "staff")
    [found] = told(out)
    assert (code, found["identified"], found["matches"][0]["labels"]) == (0, "Eileen", ["staff"])
    assert found["decision"]["people"] == 1
    assert found["decision"]["threshold"] <= found["matches"][0]["cosine"]
    code, out, err = run("search", people / "Eileen" / "2.png", "--label", "visitors")
    assert "nobody" in out
    assert err == "magface: nobody in the gallery has the label visitors.\n"

    assert run("verify", "Eileen", people / "Eileen" / "1.png")[0] == 0
    code, out, _ = run("people", "Eileen", "--format", "json")
    faces = told(out)
    assert [face["source"] for face in faces] == [str(people / "Eileen" / f"{n}.png") for n in (1, 2)]
    code, out, err = run("remove", "--face", faces[0]["face"], "--yes", "--format", "json")
    assert (code, told(out)["traces_gone"], err) == (0, True, "")
    assert run("remove", "Eileen", "--yes")[0] == 0
    assert told(run("info", "--format", "json")[1])["counts"] == {"people": 0, "faces": 0, "marked": 0}
    assert b"Eileen" not in b"".join(path.read_bytes() for path in tmp_path.glob("faces.db*"))


def test_one_person_is_named_and_the_place_may_stand_first(run, people, tmp_path):
    assert run("--uri", tmp_path / "a.db", "enroll", people / "Eileen" / "1.png", "--person", "Ann")[0] == 0
    assert not (tmp_path / "faces.db").exists()
    assert "    1 face   quality" in run("people", "--uri", tmp_path / "a.db")[1]


def test_names_and_labels_are_put_right(run, people):
    run("enroll", people / "Eileen" / "1.png", "--person", "Ann")
    run("enroll", people / "Eileen" / "2.png", "--person", "Bob")
    code, out, _ = run("audit")
    assert (code, "Ann and Bob" in out) == (0, True)
    assert told(run("audit", "--format", "json")[1])["same"][0]["people"] == ["Ann", "Bob"]
    assert run("rename", "Bob", "Ben")[0] == 0
    assert run("label", "Ben", "--add", "door", "--add", "night")[1] == "Ben: door, night\n"
    assert run("label", "Ben", "--drop", "door")[1] == "Ben: night\n"
    assert run("merge", "Ann", "Ben")[0] == 0
    [one, _] = told(run("people", "Ann", "--format", "json")[1])
    assert run("move", one["face"], "Cid")[0] == 0
    everybody = told(run("people", "--format", "json")[1])
    assert [(each["person"], each["faces"], each["labels"]) for each in everybody] == [
        ("Ann", 1, ["night"]),
        ("Cid", 1, []),
    ]


def test_the_policy_decides_who_is_enrolled(run, people):
    run("enroll", people / "Eileen" / "1.png", "--person", "Ann")
    assert told(run("policy", "--refuse", 100, "--mark", 100, "--format", "json")[1])["refuse"] == 100
    code, _, err = run("enroll", people / "Eileen" / "2.png", "--person", "Bob")
    assert (code, "below 100" in err) == (2, True)
    code, _, err = run("policy", "--refuse", 90, "--mark", 10)
    assert (code, "refused below" in err) == (2, True)


def test_a_search_that_cannot_be_is_refused_before_photos_are_read(run, people, tmp_path, monkeypatch):
    run("enroll", people / "Eileen" / "1.png", "--person", "Ann")
    with open_gallery("faces.db") as gallery, gallery.store.writing() as transaction:
        other = dataclasses.replace(gallery.card, sha256="0" * 64)
        transaction.set_card(other)
    monkeypatch.setattr("magface.cli.reading.read", lambda *_: pytest.fail("read in vain"))
    code, _, err = run("search", people)
    assert (code, "use that model" in err) == (2, True)
    with open_gallery("faces.db") as gallery, gallery.store.writing() as transaction:
        transaction.set_card(dataclasses.replace(other, sha256=Recognizer().embedder.fingerprint))
    for fpir in ("0", "1", "nan"):
        code, _, err = run("search", people, "--fpir", fpir)
        assert (code, "between 0 and 1" in err) == (2, True)


def test_settings_are_chosen_once(run):
    assert run("create", "--precision", "f16", "--no-crops", "--uri", "b.db")[0] == 0
    facts = told(run("info", "--uri", "b.db", "--format", "json")[1])
    assert (facts["settings"]["precision"], facts["settings"]["crops"]) == ("f16", False)
    code, _, err = run("create", "--uri", "b.db")
    assert (code, "already" in err) == (2, True)


def test_a_gallery_goes_through_a_file(run, people, tmp_path):
    run("enroll", people / "Eileen", "--person", "Ann", "--label", "staff")
    assert told(run("export", "out.parquet", "--format", "json")[1])["faces"] == 2
    assert told(run("import", "out.parquet", "--uri", "c.db", "--format", "json")[1])["added"] == 2
    assert told(run("import", "out.parquet", "--uri", "c.db", "--format", "json")[1])["added"] == 0
    with open_gallery(tmp_path / "faces.db") as one, open_gallery(tmp_path / "c.db") as other:
        assert np.array_equal(one.person("Ann").template, other.person("Ann").template)
        assert other.person("Ann").labels == ("staff",)


def test_a_key_in_the_environment_encrypts(run, people, monkeypatch, tmp_path):
    pytest.importorskip("sqlcipher3")
    monkeypatch.setenv("MAGFACE_GALLERY_KEY", "open sesame")
    run("enroll", people / "Eileen" / "1.png", "--person", "Ann")
    assert not (tmp_path / "faces.db").read_bytes().startswith(b"SQLite")
    assert "Ann" in run("people")[1]
    for key in ("wrong", ""):
        monkeypatch.setenv("MAGFACE_GALLERY_KEY", key)
        code, out, err = run("people")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "sesame" not in err


@pytest.mark.parametrize("command", [each.__name__.rstrip("_") for each in commands])
def test_help_of_each_command_has_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"  magface gallery {command}" in out.partition("Example")[2]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["search", "people/Eileen/1.png"], "no gallery"),
        (["info", "--uri", "people"], "people"),
        (["enroll", "people/Eileen/1.png"], "--person"),
        (["enroll", "people/Eileen", "people/Nobody"], "Give the folder above"),
        (["enroll", "people/Eileen/1.png", "--person", " "], "characters"),
        (["enroll", "gone"], "gone"),
        (["remove"], "name people"),
        (["people", "Ann", "--label", "staff"], "or a label"),
        (["verify", "Ann", "people/Eileen/1.png"], "no gallery"),
        (["export", "x.parquet"], "no gallery"),
        (["import", "people/Eileen/1.png"], "1.png"),
        (["enroll", "people", "--uri", "ftp://x"], "ftp"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, people, tmp_path, arguments, word):
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert word in err
    assert not (tmp_path / "faces.db").exists()


def test_a_file_that_is_no_gallery_is_left_as_it_is(run, tmp_path):
    (tmp_path / "faces.db").write_bytes(b"my diary" * 1000)
    code, _, err = run("info")
    assert (code, err.count("\n")) == (2, 1)
    assert (tmp_path / "faces.db").read_bytes() == b"my diary" * 1000


def test_a_full_disk_is_said_and_the_same_command_goes_on(people, tmp_path):
    command = [sys.executable, "-m", "magface", "gallery", "enroll", people / "Eileen" / "1.png", "--person", "Ann"]
    command += ["--uri", tmp_path / "faces.db"]
    limited = ["bash", "-c", 'ulimit -f 20; exec "$0" "$@"', *command]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n"), "disk" in done.stderr) == (2, 1, True)
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert faces_in(tmp_path / "faces.db") == 1


def test_nothing_is_removed_without_a_yes(run, people, monkeypatch):
    run("enroll", people / "Eileen" / "1.png", "--person", "Ann")
    code, _, err = run("remove", "Ann")
    assert (code, "--yes" in err) == (2, True)
    assert "Ann" in run("people")[1]
    code, _, err = run("remove", "Ann", "Bob", "--yes")
    assert (code, "Bob" in err) == (2, True)
    assert "Ann" in run("people")[1]


def test_a_calibration_needs_people(run, people):
    run("enroll", people / "Eileen" / "1.png", "--person", "Ann")
    code, _, err = run("calibrate")
    assert (code, "people" in err) == (2, True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_enrolment_keeps_what_is_done_and_goes_on(people, tmp_path, stop):
    for number in range(600):
        shutil.copy(people / "Eileen" / "1.png", people / "Eileen" / f"copy{number}.png")
    command = [sys.executable, "-m", "magface", "gallery", "enroll", people, "--format", "json"]
    environment = {**os.environ, "MAGFACE_GALLERY": str(tmp_path / "faces.db")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and faces_in(tmp_path / "faces.db") == 0:
        time.sleep(0.2)
    process.send_signal(stop)
    _, err = process.communicate(timeout=120)
    kept = faces_in(tmp_path / "faces.db")
    assert kept > 0
    if process.returncode != 1:  # it may have been done by then
        assert process.returncode == 130
        assert err == b"magface: stopped; what is enrolled stays: the same command goes on from there.\n"


def faces_in(path):
    if not path.exists():
        return 0
    with open_gallery(path) as gallery:
        return gallery.info().counts.faces


def test_an_album_is_enrolled_and_searched(run, album, tmp_path):
    """Enrolled with the first photos of ten people; the others are found, and strangers are not."""
    names = sorted(path.name for path in album.iterdir())[:20]
    for name in names[:10]:
        for photo in sorted((album / name).iterdir())[:2]:
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, tmp_path / "in" / name)
    run("enroll", tmp_path / "in")
    probes = [photo for name in names for photo in sorted((album / name).iterdir())[2:4]]
    _, out, _ = run("search", *probes, "--format", "json", "--fpir", "0.01")
    best = {}
    for face in told(out):
        photo = face["photo"].partition("#")[0]
        best.setdefault(photo, []).append(face["identified"])
    right = sum(path.parent.name in best[str(path)] for path in probes if path.parent.name in names[:10])
    wrong = sum(any(who not in (None, path.parent.name) for who in best[str(path)]) for path in probes)
    assert right >= 17
    assert wrong <= 1
