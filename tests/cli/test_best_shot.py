"""`magface best-shot`: the sharp part of a video wins, people are told apart, and nothing of others is touched."""

import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from magface import Recognizer, cosine
from magface.cli.main import main
from magface.report import best_shots

FPS, SECONDS, SHARP = 10, 6, range(30, 36)
HEIGHT, WIDTH = 360, 640


def write(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def moving(astronaut):
    """The portrait goes from left to right; it is sharp for half a second only."""
    small = cv2.resize(astronaut, (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA)
    for number in range(FPS * SECONDS):
        distance = max(SHARP.start - number, number - SHARP[-1], 0)
        face = cv2.GaussianBlur(small, (0, 0), 1.5 + distance / 25) if distance else small
        frame = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
        x = 4 * number
        frame[:, x : x + HEIGHT] = face
        yield frame


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["best-shot", *(str(argument) for argument in arguments)])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory, astronaut):
    return write(tmp_path_factory.mktemp("clips") / "clip.mp4", moving(astronaut))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_sharp_part_of_a_video_wins(run, clip, tmp_path, astronaut):
    code, out, err = run(clip, "-o", tmp_path / "best", "--every", 2, "--format", "json")
    facts = json.loads(out)
    [person] = facts["persons"]
    assert (code, err, facts["frames"], facts["faces"], facts["left_out"]) == (0, "", 30, 30, 0)
    assert person["seen"] == 30
    best, *others = person["shots"]
    assert best["frame"] in SHARP
    assert best["seconds"] == pytest.approx(best["frame"] / FPS)
    assert best["score"] == max(shot["score"] for shot in person["shots"])
    times = sorted(shot["seconds"] for shot in person["shots"])
    assert len(others) == 2
    assert np.diff(times).min() >= 1
    assert all(shot["frame"] not in SHARP for shot in others)
    assert files(tmp_path / "best") == [".lock", "best.json", *(f"person-1/{rank}.jpg" for rank in (1, 2, 3))]
    kept = json.loads((tmp_path / "best/best.json").read_text())
    assert kept["persons"] == facts["persons"]
    recognizer = Recognizer()
    [face], [wanted] = recognizer.faces(tmp_path / "best" / best["file"]), recognizer.faces(astronaut)
    assert cosine(face.embedding, wanted.embedding) > 0.7
    assert face.score == pytest.approx(best["score"], abs=8)
    x1, y1, x2, y2 = best["box"]
    assert 4 * best["frame"] < x1 < x2 < 4 * best["frame"] + HEIGHT
    assert 0 < y1 < y2 < HEIGHT


def test_text_says_who_and_how_fast(run, clip, tmp_path):
    code, out, _ = run(clip, "-o", tmp_path, "--fps", 2, "--count", 1)
    assert code == 0
    counted, person, place = out.splitlines()
    assert counted.startswith("12 frames, 12 faces, ")
    assert counted.endswith("frames/s")
    assert person.startswith("person 1: seen 12 times; scores ")
    assert person.endswith("at 3.0 s")
    assert place == f"Open {tmp_path}"


def test_people_of_videos_and_photos_are_told_apart(run, tmp_path, album, astronaut):
    people = sorted(path for path in album.rglob("*") if path.is_dir() and len(list(path.glob("*.jpg"))) >= 4)[:3]
    folder = tmp_path / "mixed"
    folder.mkdir()
    frames = []
    for number, person in enumerate(people):
        photos = sorted(person.glob("*.jpg"))
        (folder / f"{number}.jpg").write_bytes(photos[0].read_bytes())
        for photo in photos[1:4]:
            image = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
            image[50:300, 200:450] = np.asarray(Image.open(photo))
            frames += [image] * FPS
    write(folder / "people.mp4", frames)
    code, out, _ = run(folder, "-o", tmp_path / "best", "--min-score", 50, "--fps", 2, "--format", "json")
    facts = json.loads(out)
    assert code == 0
    truth = []
    for person in facts["persons"]:
        shots = person["shots"]
        named = {
            int(shot["frame"] // (3 * FPS)) if shot["frame"] is not None else int(shot["source"][-5]) for shot in shots
        }
        assert len(named) == 1, "a person is one person"
        truth.append(named.pop())
    assert set(truth) == {0, 1, 2}


def test_a_second_run_replaces_its_own_and_nothing_else(run, clip, tmp_path):
    run(clip, "-o", tmp_path, "--every", 5)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "person-1" / "notes.txt").write_text("mine too")
    (tmp_path / ".best-killed").mkdir()
    code, _, _ = run(clip, "-o", tmp_path, "--every", 5, "--count", 1)
    assert code == 0
    assert files(tmp_path) == [".lock", "best.json", "notes.txt", "person-1/1.jpg", "person-1/notes.txt"]
    assert not list(tmp_path.glob(".best-*"))
    code, out, _ = run(clip, "-o", tmp_path, "--every", 5, "--min-score", 100)
    assert code == 0
    assert "1 more without a picture of score 100" in out
    assert files(tmp_path) == [".lock", "best.json", "notes.txt", "person-1/notes.txt"]


def test_pictures_of_others_are_not_touched(run, clip, tmp_path):
    (tmp_path / "person-1").mkdir()
    (tmp_path / "person-1" / "1.jpg").write_text("mine")
    code, out, err = run(clip, "-o", tmp_path)
    assert (code, out) == (2, "")
    assert "that this command did not write" in err
    assert files(tmp_path) == ["person-1/1.jpg"]


def test_a_run_that_fails_leaves_the_old_pictures(run, clip, tmp_path, monkeypatch):
    run(clip, "-o", tmp_path, "--every", 10)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def fail(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(best_shots.verdict, "assess", fail)
    code, _, err = run(clip, "-o", tmp_path, "--every", 5)
    assert code == 2
    assert "cannot write to" in err
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    assert not list(tmp_path.glob(".best-*"))


def test_a_video_that_changes_under_the_reading_is_a_sentence(run, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(best_shots.Video, "at", lambda self, indexes: iter(()))
    code, _, err = run(clip, "-o", tmp_path, "--every", 10)
    assert code == 2
    assert "changed while it was read; run again" in err


def test_what_cannot_be_read_is_named_and_the_rest_is_done(run, clip, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "clip.mp4").write_bytes(clip.read_bytes())
    (folder / "torn.mp4").write_bytes(clip.read_bytes()[:5000])
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff torn")
    code, out, err = run(folder, "-o", tmp_path / "best", "--every", 10, "--format", "json")
    facts = json.loads(out)
    assert code == 1
    assert len(facts["persons"]) == 1
    assert len(facts["failures"]) == 3
    assert "torn.mp4 is damaged, incomplete" in err
    assert "3 of 4" in err
    (folder / "clip.mp4").unlink()
    assert run(folder, "-o", tmp_path / "best")[0] == 2


def test_a_video_without_a_face(run, tmp_path):
    path = write(tmp_path / "wall.mp4", [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 20)
    code, out, _ = run(path, "-o", tmp_path / "best")
    assert code == 0
    assert "10 frames, 0 faces" in out
    assert "No face is good enough" in out
    assert json.loads((tmp_path / "best/best.json").read_text())["persons"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4"], "does not exist"),
        (["."], "there is no video or photo"),
        (["clip.mp4", "--fps", 2, "--every", 3], "not both"),
    ],
)
def test_bad_input_is_a_sentence(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments, "-o", tmp_path / "best")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "best").exists()


def test_a_video_that_breaks_off_gives_what_it_has(run, tmp_path, astronaut):
    small = cv2.resize(astronaut, (320, 320), interpolation=cv2.INTER_AREA)[..., ::-1]
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (320, 320))
    for _ in range(40):
        writer.write(small)
    writer.release()
    whole = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    code, out, err = run(tmp_path / "half.avi", "-o", tmp_path / "best")
    assert code == 1
    assert "person 1" in out
    assert "ends after" in err
    assert (tmp_path / "best" / "person-1" / "1.jpg").exists()


@pytest.mark.parametrize("content", [b"hello", bytes(range(256)) * 100])
def test_what_only_has_the_name_of_a_video_is_called_one(run, tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    code, out, err = run(tmp_path / "clip.mp4", "-o", tmp_path / "best")
    assert (code, out) == (2, "")
    assert "not a video" in err
