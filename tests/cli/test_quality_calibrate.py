import dataclasses
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from magface.cli.main import main
from magface.cli.quality_calibrate import Part, _joined, _populations
from magface.embedder import Embedder
from magface.models import card, default
from magface.quality import calibration, comparisons, reliability

SHIPPED = card.read(default.path())[0]


@pytest.fixture(scope="module")
def people(astronaut, tmp_path_factory):
    """Pieces of a portrait, ever blurrier: thirty people, five crops each."""
    folder = tmp_path_factory.mktemp("some") / "people"
    rng = np.random.default_rng(0)
    for person in range(30):
        (folder / f"{person:02}").mkdir(parents=True)
        y, x = rng.integers(10, 390, 2)
        for crop in range(5):
            dy, dx = rng.integers(-8, 9, 2)
            piece = cv2.GaussianBlur(astronaut[y + dy : y + dy + 112, x + dx : x + dx + 112], (0, 0), 0.5 + crop)
            Image.fromarray(piece).save(folder / f"{person:02}" / f"{crop}.png")
    return folder


@pytest.fixture(scope="module")
def embedded(people):
    embeddings, _ = Embedder().embed_files(sorted(people.rglob("*.png")))
    return embeddings, np.repeat(np.arange(30), 5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(capsys, cache):
    def run(*arguments, command=("quality", "calibrate")):
        options = ["--cache", cache] if command[-1] == "calibrate" else []
        with pytest.raises(SystemExit) as end:
            main([*command, *map(str, [*arguments, *options])])
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return run


def test_a_labelled_folder_renews_the_card_and_nothing_else(run, people, embedded, tmp_path):
    output = tmp_path / "mine.onnx"
    code, out, _ = run(people, "-o", output, "--format", "json")
    assert code == 0
    found, fingerprint = card.read(output)
    assert fingerprint == SHIPPED.sha256
    assert card.attach(output.read_bytes(), SHIPPED) == card.attach(default.path().read_bytes(), SHIPPED)

    embeddings, labels = embedded
    assert found.population == "150 faces of 30 people in people"
    assert found.magnitude_percentiles == pytest.approx(calibration.percentiles(embeddings.magnitude), rel=1e-5)
    genuine, impostor = comparisons.genuine(embeddings, labels), comparisons.impostor(embeddings, labels)
    assert [t.impostors for t in found.thresholds] == [150 * 149 // 2 - 30 * 10] * 3
    for threshold, wanted in zip(found.thresholds, calibration.thresholds(impostor.cosine), strict=True):
        assert threshold.cosine == pytest.approx(wanted.cosine, abs=1e-5)
    assert found.cluster_threshold == found.threshold(1e-3).cosine
    for threshold, errors in zip(found.thresholds, found.reliability, strict=True):
        assert errors == reliability.fit(genuine.cosine, genuine.quality, threshold)
        assert sum(errors.genuine) == 300
    assert [each.fmr for each in found.bands] == [1e-2]
    kept = {field.name for field in dataclasses.fields(found)} - set(json.loads(out)["after"]) - {"population"}
    assert {name: getattr(found, name) for name in kept} == {name: getattr(SHIPPED, name) for name in kept}

    facts = json.loads(out)
    assert (facts["output"], facts["model"], facts["faces"], facts["failures"]) == (str(output), fingerprint, 150, 0)
    assert facts["before"]["quality"] == dataclasses.asdict(SHIPPED.quality)
    assert facts["after"]["quality"] == dataclasses.asdict(found.quality)
    assert set(facts["notes"]) <= set(Part)
    assert facts["notes"]["comparison"]


def test_what_was_measured_is_shown_beside_what_was_before(run, people, tmp_path):
    code, out, err = run(people, "-o", tmp_path / "mine.onnx")
    assert (code, err) == (0, "")
    shown = " ".join(out.split())
    assert "magnitude of score 50" in shown
    assert f"{SHIPPED.quality.a0:.2f}" in shown
    assert "150 faces of 30 people in people" in shown
    assert "missed pairs of one person at FMR 0.001, by the worse picture" in shown
    assert "comparison: " in shown
    assert shown.endswith("mine.onnx")


def test_photos_of_unknown_people_change_the_scale_alone(run, people, embedded, tmp_path):
    output = tmp_path / "mine.onnx"
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in people.rglob("*.png"):
        (flat / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    assert run(flat, "--unlabelled", "-o", output)[0] == 0
    found = card.read(output)[0]
    assert found.magnitude_percentiles[50] == pytest.approx(np.median(embedded[0].magnitude), rel=1e-5)
    assert found.quality != SHIPPED.quality
    scale = {"magnitude_percentiles": SHIPPED.magnitude_percentiles, "quality": SHIPPED.quality}
    assert dataclasses.replace(found, **scale, population=SHIPPED.population) == SHIPPED
    assert "scale: 150 faces in flat" in found.population.splitlines()


def test_parts_stay_where_they_are_told_to(run, people, embedded, tmp_path):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    keep = ["--keep", "scale", "--keep", "thresholds", "--keep", "bands"]
    assert run(people, *keep, "-o", first)[0] == 0
    found = card.read(first)[0]
    for name in ("magnitude_percentiles", "quality", "thresholds", "cluster_threshold", "bands"):
        assert getattr(found, name) == getattr(SHIPPED, name)
    assert [each.cosine for each in found.reliability] == [each.cosine for each in SHIPPED.thresholds]
    assert "reliability, comparison: 150 faces of 30 people in people" in found.population.splitlines()

    assert run(people, "--fmr", 0.1, "--model", first, "-o", second)[0] == 0
    again = card.read(second)[0]
    assert [each.fmr for each in again.thresholds] == [0.1]
    assert again.cluster_threshold == again.thresholds[0].cosine
    assert [(each.fmr, each.cosine) for each in again.reliability] == [(0.1, again.thresholds[0].cosine)]
    assert again.population == "150 faces of 30 people in people"


def test_the_file_may_be_its_own_source(run, people, tmp_path):
    output = tmp_path / "mine.onnx"
    output.write_bytes(default.path().read_bytes())
    assert run(people, "--model", output, "-o", output)[0] == 0
    assert card.read(output)[0].population == "150 faces of 30 people in people"


def test_too_few_faces_give_reasons_instead_of_numbers(run, people, tmp_path):
    output, few = tmp_path / "mine.onnx", tmp_path / "few"
    for person in sorted(people.iterdir())[:6]:
        (few / person.name).mkdir(parents=True)
        for path in sorted(person.iterdir())[::2]:
            (few / person.name / path.name).write_bytes(path.read_bytes())
    code, out, _ = run(few, "-o", output, "--format", "json")
    assert code == 0
    found, notes = card.read(output)[0], json.loads(out)["notes"]
    assert [each.fmr for each in found.thresholds] == [1e-2]
    assert (found.reliability, found.bands, found.comparison) == ((), (), None)
    assert "there are 18: take more pictures" in notes["reliability"]
    assert "135 comparisons of different people are too few" in notes["bands"]
    assert notes["comparison"]


def test_photos_are_aligned(run, astronaut, tmp_path):
    folder, output = tmp_path / "photos", tmp_path / "mine.onnx"
    for person in range(4):
        (folder / str(person)).mkdir(parents=True)
        for photo in range(2):
            image = cv2.GaussianBlur(astronaut, (0, 0), 1 + person + photo)
            Image.fromarray(image).save(folder / str(person) / f"{photo}.jpg")
    (folder / "0" / "wall.jpg").write_bytes((folder / "0" / "0.jpg").read_bytes()[:50])
    Image.fromarray(np.full((90, 120, 3), 60, np.uint8)).save(folder / "1" / "wall.png")
    code, out, err = run(folder, "--fmr", 0.1, "-o", output, "--format", "json")
    assert code == 1
    assert "2 images are missing; the first: " in err
    assert (json.loads(out)["faces"], json.loads(out)["failures"]) == (8, 2)
    assert card.read(output)[0].population == "8 faces of 4 people in photos"


def test_people_who_trained_a_model_are_left_out(run, people, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('backbone = "magsface"\n[data]\nvalidation = 0.5\nvalidation_seed = 3\n')
    output = tmp_path / "mine.onnx"
    from magface.data import formats

    _, held = formats.read(people).split(0.5, 3)
    code, out, _ = run(people, "--held-out", recipe, "--fmr", 0.01, "-o", output, "--format", "json")
    assert code == 0
    assert json.loads(out)["faces"] == len(held) < 150
    wanted = f"{len(held)} faces of {len(held.people)} people in people, kept out of training by mine.toml"
    assert card.read(output)[0].population == wanted


def test_suspect_crops_are_left_out(run, people, tmp_path):
    table = tmp_path / "table.tsv"
    names = sorted(path.relative_to(people).as_posix() for path in people.rglob("*.png"))
    rows = [f"{name}\t{name.split('/')[0]}\t{int(name.endswith('4.png'))}" for name in names]
    table.write_text("\n".join(["path\tidentity\tsuspect", *rows]) + "\n")
    output = tmp_path / "mine.onnx"
    assert run(people, "--table", table, "-o", output)[0] == 0
    assert card.read(output)[0].population == "120 faces of 30 people in people"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unlabelled", "--fmr", "0.1"], "--unlabelled measures the scale alone"),
        (["--unlabelled", "--keep", "bands"], "--unlabelled measures the scale alone"),
        ([f"--keep={part}" for part in Part], "leaves nothing to measure"),
        (["--keep", "thresholds", "--fmr", "0.1"], "leave out --fmr"),
        (["--keep", "reliability"], "--keep thresholds too"),
        (["--fmr", "2"], "a false match rate lies between 0 and 1; 2 does not"),
        (["--fmr", "0.1", "--fmr", "0"], "a false match rate lies between 0 and 1; 0 does not"),
        (["--fmr", "nan"], "a false match rate lies between 0 and 1; nan does not"),
        (["--held-out", "no-such.toml"], "the recipe no-such.toml cannot be read"),
        (["--table", "no-such.tsv"], "no-such.tsv"),
        (["--model", "no-such.onnx"], "there is no model file"),
    ],
)
def test_what_does_not_fit_is_a_sentence_and_no_file(run, people, tmp_path, options, message):
    output = tmp_path / "mine.onnx"
    code, out, err = run(people, *options, "-o", output)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not output.exists()


def test_faces_without_names_need_the_option(run, people, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("0.png", "1.png"):
        (flat / name).write_bytes((people / "00" / name).read_bytes())
    code, _, err = run(flat, "-o", tmp_path / "mine.onnx")
    assert code == 2
    assert "sub-folder" in err
    code, _, err = run(people / "no-such", "-o", tmp_path / "mine.onnx")
    assert code == 2
    assert "no-such" in err
    code, _, err = run(people / "no-such", "--unlabelled", "-o", tmp_path / "mine.onnx")
    assert code == 2
    assert "no-such" in err
    assert not (tmp_path / "mine.onnx").exists()


def test_the_place_is_tried_before_the_work(run, people, tmp_path, monkeypatch):
    monkeypatch.setattr("magface.benchmarks.faces.embed", lambda *_, **__: pytest.fail("worked in vain"))
    (tmp_path / "file").touch()
    code, _, err = run(people, "-o", tmp_path / "file" / "mine.onnx")
    assert code == 2
    assert err.count("\n") == 1


def test_a_folder_called_calibrate_is_judged_by_its_path(run, people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calibrate").mkdir()
    (tmp_path / "calibrate" / "a.png").write_bytes((people / "00" / "0.png").read_bytes())
    code, out, _ = run("./calibrate", "--aligned", "--format", "json", command=("quality",))
    assert code == 0
    assert [row["photo"] for row in json.loads(out)] == ["calibrate/a.png"]
    code, out, _ = run("--aligned", "calibrate", "--format", "json", command=("quality",))
    assert code == 0
    assert len(json.loads(out)) == 1


def test_both_helps_can_be_read(run):
    code, out, _ = run("--help", command=("quality",))
    assert code == 0
    assert "Usage: magface quality [OPTIONS]" in out
    assert "magface quality calibrate" in out
    code, out, _ = run("--help")
    assert code == 0
    assert "Usage: magface quality calibrate [OPTIONS] {FOLDER}" in out
    assert "magface quality calibrate people/ -o mine.onnx" in out
    assert "--unlabelled" in out


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", {}),
        ("9 faces in a: b", dict.fromkeys(Part, "9 faces in a: b")),
        ("scale: x\nthresholds, bands: y: z", {"scale": "x", "thresholds": "y: z", "bands": "y: z"}),
    ],
)
def test_texts_about_parts_are_understood(text, parts):
    assert _populations(text) == parts
    assert _joined({part: parts.get(part, "") for part in Part}) == text
