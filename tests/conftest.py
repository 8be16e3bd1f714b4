"""Where the real faces are, one thread, and models that several tests share."""

import contextlib
import os
import tarfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

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
