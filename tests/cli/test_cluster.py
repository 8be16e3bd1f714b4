"""`magface cluster` on real photos: right people, stable in batches, and every mistake is a sentence."""

import json
import os
import shutil

import numpy as np
import pytest

from magface import Recognizer
from magface.cli.main import main
from magface.report import album as albums


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["cluster", *(str(argument) for argument in arguments)])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return end.value.code or 0, output.out, output.err

    return run


def members(folder):
    """Person of the largest face of each photo; unknown ones are alone."""
    table = json.loads((folder / "people.json").read_text())
    faces = [(face, person["id"]) for person in table["people"] for face in person["faces"]]
    faces += [(face, -number) for number, face in enumerate(table["unknown"], 1)]
    largest = {}
    for face, person in faces:
        x1, y1, x2, y2 = face["box"]
        largest[face["photo"]] = max(largest.get(face["photo"], (0, 0)), ((x2 - x1) * (y2 - y1), person))
    return {photo: person for photo, (_, person) in largest.items()}


def pairs_f(found):
    names = np.array([photo.split("/")[-2] for photo in found])
    labels = np.array(list(found.values()))
    upper = np.triu_indices(len(labels), 1)
    same, right = ((x[:, None] == x[None])[upper] for x in (labels, names))
    return 2 * (same & right).sum() / (same.sum() + right.sum())


class Replay:
    """A recognizer that reads each photo once, however many albums it is asked for."""

    def __init__(self, photos):
        recognizer = Recognizer()
        self.card, self.embedder, self.detector = recognizer.card, recognizer.embedder, recognizer.detector
        self._photos = {photo.path: photo for photo in recognizer.stream(photos)}

    def stream(self, paths):
        return (self._photos[path] for path in paths)


def test_people_of_an_album_are_found_in_one_go_and_in_batches(album, tmp_path):
    photos = sorted(album.rglob("*.jpg"))
    replay = Replay(photos)
    made = albums.make(replay, photos, tmp_path / "one")
    one = members(tmp_path / "one")
    assert (made.photos, made.failures) == (459, ())
    assert 58 <= made.people <= 64
    assert pairs_f(one) > 0.98
    for seed in range(2):
        out, known = tmp_path / f"batches{seed}", {}
        draw = np.random.default_rng(seed)
        for batch in np.array_split(draw.permutation(459), draw.integers(3, 7)):
            albums.make(replay, [photos[place] for place in batch], out, albums.Wishes(photos="none"))
            now = members(out)
            assert all(now[photo] == person for photo, person in known.items() if person > 0)
            known = now
        assert pairs_f(known) > pairs_f(one) - 0.03
        albums.make(replay, [], out, rebuild=True)
        assert pairs_f(members(out)) == pytest.approx(pairs_f(one))


@pytest.fixture
def few(album, tmp_path):
    """Eight photos of two people, in a folder of their own."""
    for name in ("Bill_Clinton", "Dick_Cheney"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        for photo in sorted((album / name).iterdir())[:4]:
            shutil.copy(photo, tmp_path / "photos")
    return tmp_path / "photos"


def test_an_album_inside_the_photos_does_not_find_itself(run, few):
    run(few, "-o", few / "album", "--copy")
    code, out, _ = run(few, "-o", few / "album")
    assert code == 0
    assert "8 photos (8 known from before)" in out
    assert "2 people" in out
    run(few, "-o", few.parent / "another", "--link")
    assert (
        json.loads(run(few, few.parent / "another", "-o", few.parent / "third", "--format", "json")[1])["photos"] == 8
    )


def test_an_album_is_not_made_among_the_photos(run, few):
    (few / "more").mkdir()
    shutil.copy(next(few.glob("*.jpg")), few / "more")
    before = sorted(few.rglob("*"))
    for place in (few, few / "more"):  # with photos elsewhere too
        code, _, err = run(few, "-o", place)
        assert code == 2
        assert "choose another folder with -o" in err
    assert sorted(few.rglob("*")) == before


def test_corrections_change_the_folder_at_once(run, few, tmp_path):
    run(few, "-o", tmp_path / "album")
    code, out, _ = run("name", tmp_path / "album", "1", "Bill / \U0001f600")
    assert (code, out.splitlines()[0]) == (0, "Person 1 is now Bill / \U0001f600.")
    assert sorted(path.name for path in (tmp_path / "album/people").iterdir()) == ["Bill _ \U0001f600", "person-2"]
    link = next((tmp_path / "album/people/person-2").iterdir())
    assert run("split", tmp_path / "album", "2", link)[0] == 0
    assert (tmp_path / "album/people/person-3").is_dir()
    done = json.loads(run("merge", tmp_path / "album", "2", "3", "--format", "json")[1])
    assert [(each["id"], each["faces"]) for each in done["people"]] == [(1, 4), (2, 4)]
    assert run("undo", tmp_path / "album")[0] == 0
    assert (tmp_path / "album/people/person-3").is_dir()
    assert run("move", tmp_path / "album", "Dick_Cheney_0001.jpg", "--to", "3")[0] == 0
    assert run("-o", tmp_path / "album")[0] == 0
    assert (tmp_path / "album/people/person-3").is_dir()


def test_a_photo_that_cannot_be_read_is_exit_1(run, few, tmp_path):
    (few / "torn.jpg").write_bytes(b"no photo")
    code, out, err = run(few, "-o", tmp_path / "album")
    assert code == 1
    assert "torn.jpg" in err
    assert "1 of 9 photos could not be read" in err
    assert "2 people" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no-such-folder", "-o", "x"], "does not exist"),
        (["-o", "x"], "there is no photo to group"),
        (["-o", "x", "--json", "--copy"], "--json goes without folders"),
        (["-o", "x", "--copy", "--link"], "copied or linked"),
        (["-o", "x", "--threshold", "high"], "'high' is neither"),
        (["-o", "x", "--threshold", "1.5"], "between -1 and 1"),
        (["-o", "x", "--min-score", "101"], "--min-score"),
        (["-o", "x", "--algorithm", "magic"], "magic"),
        (["."], "output"),
        (["name", "x", "1", "Ann"], "there is no album in x; make one first"),
        (["undo", "x"], "there is no album in x"),
        (["move", "x", "a.jpg"], "--to"),
    ],
)
def test_mistakes_are_sentences_and_exit_2(run, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert sentence in " ".join(err.split())
    assert not any(tmp_path.iterdir())


def test_a_folder_called_like_an_inner_command_is_a_folder(run, few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few.rename(tmp_path / "merge")
    assert run("./merge", "-o", "album")[0] == 0


def test_stopping_keeps_what_is_done(run, few, tmp_path, monkeypatch):
    stream = Recognizer.stream

    def stopped(self, paths):
        for number, photo in enumerate(stream(self, paths)):
            if number == 3:
                raise KeyboardInterrupt
            yield photo

    with monkeypatch.context() as patch:
        patch.setattr(Recognizer, "stream", stopped)
        code, _, err = run(few, "-o", tmp_path / "album")
    assert code == 130
    assert "the same command goes on" in err
    made = json.loads(run(few, "-o", tmp_path / "album", "--format", "json")[1])
    assert (made["read_now"], made["people"]) == (5, 2)
    assert not [path for path in os.listdir(tmp_path / "album") if path == "journal"]  # noqa: PTH208
