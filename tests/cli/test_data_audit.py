"""`magface data audit` as a user meets it: errors planted among real faces, tables that training takes."""

import csv
import inspect
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from magface.cli.data_audit import audit
from magface.cli.main import main
from magface.data import formats, image_folder
from magface.data.audit import COPY
from magface.errors import ImageError


@pytest.fixture
def command(capsys, tmp_path):
    """Runs a command line; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["data", "audit", *map(str, arguments), "--cache", str(tmp_path / "cache")])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def planted(lfw, tmp_path):
    """Twelve people of LFW with 5 images; two labels are wrong, two images are copies, one person has two names."""
    people = [f for f in sorted(lfw.iterdir()) if len(list(f.iterdir())) >= 5][:12]
    root = tmp_path / "people"
    for folder in people:
        (root / folder.name).mkdir(parents=True)
        for number, path in enumerate(sorted(folder.iterdir())[:5]):
            shutil.copy(path, root / folder.name / f"{number}.jpg")
    a, b, c, d, e = (folder.name for folder in people[:5])
    wrong = [f"{a}/of_another.jpg", f"{b}/of_another.jpg"]
    shutil.move(root / b / "0.jpg", root / wrong[0])
    shutil.move(root / a / "0.jpg", root / wrong[1])
    shutil.copy(root / c / "1.jpg", root / c / "again.jpg")
    stream = io.BytesIO()
    Image.open(root / d / "2.jpg").save(stream, "JPEG", quality=60)
    (root / d / "smaller.jpg").write_bytes(stream.getvalue())
    (root / "Alias").mkdir()
    for number in (0, 1):
        shutil.move(root / e / f"{number}.jpg", root / "Alias")
    return root, {"wrong": wrong, "exact": [f"{c}/1.jpg", f"{c}/again.jpg"], "near": f"{d}/smaller.jpg", "e": e}


def test_planted_errors_are_found(command, planted, tmp_path):
    root, errors = planted
    code, out, _ = command(root, "-o", tmp_path / "out", "--format", "json")
    facts = json.loads(out)
    assert code == 0
    assert sorted(image["name"] for image in facts["outliers"]) == errors["wrong"]
    assert {image["nearest"] for image in facts["outliers"]} == {name.split("/")[0] for name in errors["wrong"]}
    assert [sorted(names) for names in facts["exact_copies"]] == [errors["exact"]]
    assert errors["near"] in {pair[side] for pair in facts["near_copies"] for side in ("first", "second")}
    assert [{pair["first"], pair["second"]} for pair in facts["same_person"]] == [{"Alias", errors["e"]}]
    assert facts["magnitude"]["percentiles"]["0"] > 5
    assert sum(facts["magnitude"]["counts"]) == facts["images"] == 62


def test_tables_are_what_training_takes(command, planted, tmp_path):
    root, errors = planted
    command(root, "-o", tmp_path / "out")
    faces = formats.read(root, tmp_path / "out" / "suspect.tsv")
    plain = formats.read(root)
    assert faces.failures == ()
    assert (faces.names, faces.people) == (plain.names, plain.people)
    assert [faces.names[row] for row in np.flatnonzero(faces.suspect)] == errors["wrong"]
    duplicates = rows(tmp_path / "out" / "duplicates.tsv")
    assert [(row["kind"], row["same_person"]) for row in duplicates[:2]] == [("exact", "True"), ("near", "True")]
    [pair] = rows(tmp_path / "out" / "same_person.tsv")
    assert {pair["first"], pair["second"]} == {"Alias", errors["e"]}


def test_a_folder_with_names_of_its_own_is_told_by_its_files(command, planted, tmp_path):
    """A conversion keeps names that its files do not have; the table leads to the files."""
    root, _ = planted
    given = formats.read(root)
    image_folder.write(tmp_path / "copy", type(given).of([r for r in given.records() if r.person == "Alias"]))
    command(tmp_path / "copy", "-o", tmp_path / "out")
    marked = formats.read(tmp_path / "copy", tmp_path / "out" / "suspect.tsv")
    assert marked.failures == ()
    assert marked.names == formats.read(tmp_path / "copy").names


def test_text_is_short_and_unreadable_images_are_counted(command, planted, tmp_path):
    root, _ = planted
    (root / "Alias" / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    code, out, err = command(root)
    assert code == 1
    assert "62 images of 13 people" in out
    assert "2 outliers" in out
    assert "1 images that cannot be read" in out
    assert "torn.jpg" in err
    assert all(line.isprintable() for line in out.splitlines())


def test_bad_input_is_a_sentence(command, tmp_path):
    code, _, err = command(tmp_path / "none")
    assert (code, "does not exist" in err) == (2, True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    assert command(tmp_path)[0] == 2
    with pytest.raises(ImageError):
        formats.read(tmp_path).read(0)


def test_the_threshold_of_copies_is_the_one_that_was_measured():
    assert inspect.signature(audit).parameters["copy"].default == COPY
