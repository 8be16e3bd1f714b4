"""Five hundred damaged files: each one is reported, none is lost, and the exit code says so."""

import io
import json
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "tif": "TIFF", "bmp": "BMP"}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, astronaut):
    """A folder of 500 files, of which `cut*` and `no*` cannot be read and `good*` can."""
    folder = tmp_path_factory.mktemp("damaged")
    draw = random.Random(0)
    portrait = Image.fromarray(astronaut).crop((100, 0, 356, 256))
    whole = {}
    for ending, kind in KINDS.items():
        file = io.BytesIO()
        portrait.save(file, kind)
        whole[ending] = file.getvalue()

    def write(name, content):
        (folder / name).write_bytes(content)

    for number in range(200):
        ending = draw.choice(list(KINDS))
        content = whole[ending]
        write(f"cut{number}.{ending}", content[: draw.randrange(len(content) // 2)])
    for number in range(200):
        ending = draw.choice(list(KINDS))
        content = bytearray(whole[ending])
        for _ in range(draw.choice([1, 10, 100])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        write(f"flipped{number}.{ending}", content)
    for number in range(40):
        write(f"noise{number}.{draw.choice(list(KINDS))}", draw.randbytes(2000))
    for number in range(40):
        write(f"good-under-another-name{number}.{draw.choice(list(KINDS))}", draw.choice(list(whole.values())))
    for number in range(10):
        write(f"no-content{number}.jpg", b"")
        header = bytearray(whole["bmp"])
        header[18:26] = struct.pack("<ii", 30_000 + number, 30_000)
        write(f"no-memory-is-enough{number}.bmp", header)
    return folder


@pytest.mark.parametrize("command", ["analyze", "embed"])
def test_every_damaged_file_is_reported(damaged, tmp_path, command):
    output = tmp_path / ("out" if command == "analyze" else "out.parquet")
    run = subprocess.run(
        [sys.executable, "-m", "magface.cli.main", command, damaged, "-o", output, "--format", "json"],
        capture_output=True,
        text=True,
    )
    facts = json.loads(run.stdout)
    failed = {name.rsplit("/", 1)[-1] for name, _ in facts["failures"]}
    empty = {name.rsplit("/", 1)[-1] for name in facts["without_face"]}
    table = parquet.read_table(output / "faces.parquet" if command == "analyze" else output)
    names = table["photo" if command == "analyze" else "path"].to_pylist()
    seen = {name.rsplit("/", 1)[-1].split("#")[0] for name in names}

    everything = {path.name for path in damaged.iterdir()}
    assert run.returncode == 1
    assert len(everything) == facts["photos"] == 500
    assert len(failed) + len(empty) + len(seen) == 500
    assert failed | empty | seen == everything
    assert {name for name in everything if name.startswith(("cut", "no"))} <= failed
    assert {name for name in everything if name.startswith("good")} <= seen
    assert np.isfinite(np.stack(table["embedding"].to_numpy())).all()
    lines = [line for line in run.stderr.splitlines() if "no face in" not in line]
    assert len(lines) == len(failed) + 1
    assert all(line.startswith("magface: ") for line in lines)
