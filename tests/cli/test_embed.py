"""The form of the command that fills a folder; that which writes a file is in test_main."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from magface.cli.main import main
from magface.data import features
from magface.recognizer import Recognizer


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
    folder = tmp_path_factory.mktemp("photos")
    for level in range(3):
        image = cv2.GaussianBlur(astronaut, (0, 0), 3 * level) if level else astronaut
        Image.fromarray(image).save(folder / f"blur{level}.png")
    Image.fromarray(np.concatenate([astronaut, astronaut[:, ::-1]], axis=1)).save(folder / "two.png")
    Image.fromarray(np.full((120, 90, 3), 60, np.uint8)).save(folder / "wall.png")
    return folder


def test_a_folder_has_what_the_file_has_and_is_filled_once(magface_command, photos, tmp_path):
    (tmp_path / "list.txt").write_text(f"{photos}/wall.png\n")
    command = ["embed", *sorted(photos.glob("[bt]*")), "--list", tmp_path / "list.txt", "-o", tmp_path / "faces"]
    code, out, err = magface_command(*command, "--shard-size", 2, "--processes", 2)
    assert (code, out) == (0, f"5 faces of 5 photos in {tmp_path}/faces, 3 shards\n")
    assert err == "magface: no face in 1 of 5 photos.\n"
    code, out, _ = magface_command(*command, "--format", "json")
    facts = json.loads(out)
    assert (code, facts["read_now"], facts["faces"], facts["photos_without_face"]) == (0, 0, 5, 1)
    assert (facts["embedding_size"], facts["failures"]) == (128, [])
    magface_command("embed", photos, "-o", tmp_path / "faces.npz")
    names, embeddings = features.read(tmp_path / "faces")
    wanted_names, wanted = features.read(tmp_path / "faces.npz")
    assert names == wanted_names
    assert embeddings.model == wanted.model == facts["model"]
    np.testing.assert_allclose(embeddings.vectors, wanted.vectors, atol=1e-3)


def test_photos_that_cannot_be_read_are_exit_code_1(magface_command, photos, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    content = (photos / "blur0.png").read_bytes()
    for number in range(12):
        (damaged / f"{number:02}.png").write_bytes(content[: 900 * number])
    code, out, err = magface_command("embed", damaged, "-o", tmp_path / "none")
    assert code == 2
    (damaged / "whole.png").write_bytes(content)
    code, out, err = magface_command("embed", damaged, "-o", tmp_path / "out")
    assert (code, out) == (1, f"1 faces of 13 photos in {tmp_path}/out, 1 shard\n")
    lines = err.splitlines()
    assert len(lines) == 10 + 1
    assert "00.png is empty" in lines[0]
    assert lines[-1] == f"magface: 12 of 13 photos could not be read; {tmp_path}/out/_photos names all."


def test_aligned_crops(magface_command, photos, tmp_path):
    (tmp_path / "crops").mkdir()
    [face] = Recognizer().faces(photos / "blur0.png")
    Image.fromarray(face.crop).save(tmp_path / "crops" / "a.png")
    code, _, _ = magface_command("embed", tmp_path / "crops", "--aligned", "-o", tmp_path / "out")
    assert code == 0
    np.testing.assert_allclose(features.read(tmp_path / "out")[1].vectors[0], face.embedding, atol=1e-3)
    code, _, err = magface_command("embed", tmp_path / "crops", "-o", tmp_path / "out")
    assert code == 2
    assert "holds embeddings of another detector (none, as for aligned crops)" in err


def test_options_of_a_folder_with_a_file_are_refused(magface_command, photos, tmp_path):
    for option in (["--processes", 2], ["--shard-size", 9], ["--list", "x"], ["--ray", "local"]):
        code, _, err = magface_command("embed", photos, "-o", tmp_path / "x.npz", *option)
        assert code == 2
        assert "need a folder" in err
    code, _, err = magface_command("embed", "-o", tmp_path / "x")
    assert code == 2
    assert "there is no photo to read" in err
    code, _, err = magface_command("embed", photos, "-o", tmp_path / "x.docx")
    assert code == 2
    assert "or have none for a folder" in err
    (tmp_path / "file").touch()
    code, _, err = magface_command("embed", photos, "-o", tmp_path / "file")
    assert code == 2
    assert err.endswith("is no folder; choose another name with -o.\n")


def test_without_ray_it_says_what_to_install(photos, tmp_path):
    code = "import sys; sys.modules['ray'] = None; from magface.cli.main import main; main(sys.argv[1:])"
    arguments = ["embed", str(photos), "-o", str(tmp_path / "out"), "--ray", "local"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "magface: this command needs ray; pip install 'magface[ray]'.\n"
    assert not (tmp_path / "out").exists()
