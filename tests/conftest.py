"""Where the real faces are, one thread, and models that several tests share."""

import contextlib
import os
import tarfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

DATA = Path(os.environ.get("MAGFACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
CACHE = Path(os.environ.get("MAGFACE_TEST_CACHE", Path.home() / ".cache" / "magface-tests"))


def extracted(name: str) -> Path:
    """Folder of an archive of the data set, extracted once beside other caches; skips the test without the data."""
    archive = DATA / f"{name}.tar"
    if not archive.exists():
        pytest.skip(f"needs {archive.name} of the research data (set MAGFACE_DATA)")
    folder = CACHE / f"{name}-{archive.stat().st_size}"
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}")
        with tarfile.open(archive) as tar:
            tar.extractall(part, filter="data")
        with contextlib.suppress(OSError):  # another worker was faster
            part.rename(folder)
    return folder


@pytest.fixture(scope="session")
def data():
    """Folder of the research data; skips without it."""
    if not DATA.exists():
        pytest.skip("needs the research data (set MAGFACE_DATA)")
    return DATA


@pytest.fixture(scope="session")
def album():
    return extracted("album_raw")


@pytest.fixture(scope="session")
def photos():
    return extracted("photos_raw")


@pytest.fixture(scope="session")
def lfw():
    return extracted("lfw_aligned")


@pytest.fixture(scope="session")
def rof():
    return extracted("rof_dev")


@pytest.fixture(scope="session")
def toy():
    return extracted("magface_toy")


@pytest.fixture(scope="session")
def train_faces():
    return extracted("train")


@pytest.fixture(scope="session")
def astronaut():
    """(512, 512, 3) uint8 RGB: the public-domain portrait of Eileen Collins that scikit-image carries."""
    from skimage import data as samples

    return samples.astronaut()


@pytest.fixture(scope="session")
def write_ijb():
    """Writes the lists of an IJB set: images `(name, template, medium)`, pairs, two galleries and probes."""

    def write(root, images, pairs=(), galleries=((), ()), probes=(), subset="ijbc", landmarks=None, score=0.9):
        points = " ".join(f"{value:.3f}" for value in (np.arange(10) if landmarks is None else landmarks.ravel()))
        lists = {
            "face_tid_mid.txt": [f"{name} {template} {medium}" for name, template, medium in images],
            "name_5pts_score.txt": [f"{name} {points} {score}" for name, _, _ in images],
            "template_pair_label.txt": [f"{a} {b} {same}" for a, b, same in pairs],
        }
        tables = zip(("S1", "S2") if subset == "ijbb" else ("G1", "G2"), galleries, strict=True)
        for name, rows in [*((f"gallery_{name}", rows) for name, rows in tables), ("probe_mixed", probes)]:
            lists[f"1N_{name}.csv"] = ["TEMPLATE_ID,SUBJECT_ID", *(f"{template},{person}" for template, person in rows)]
        (root / "meta").mkdir(parents=True, exist_ok=True)
        for name, lines in lists.items():
            (root / "meta" / f"{subset}_{name}").write_text("".join(f"{line}\n" for line in lines))
        return root

    return write
