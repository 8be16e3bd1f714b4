import numpy as np
import pytest

from magface.gallery import index
from magface.gallery.records import Settings
from magface.geometry import direction


@pytest.fixture(scope="session")
def crowd():
    """20,500 people, and other faces of 400 of them: impostors of 0.1 around 0.1, genuine pairs of 0.1 around 0.68."""
    rng = np.random.default_rng(0)
    spread = np.exp(-np.arange(128) / 100)

    def faces(centres):
        cosine = np.clip(rng.normal(0.83, 0.06, (len(centres), 1)), 0.4, 0.98)
        other = rng.normal(size=centres.shape) * spread
        other = direction(other - (other * centres).sum(axis=1, keepdims=True) * centres)
        return (cosine * centres + np.sqrt(1 - cosine**2) * other).astype(np.float32)

    centres = direction(rng.normal(size=(20_500, 128)) * spread + 0.5 * np.eye(128)[0] * np.linalg.norm(spread))
    people = faces(centres)
    shown = rng.choice(len(people), 400, replace=False)
    return people, faces(centres[shown]), shown


@pytest.fixture(scope="session")
def learned(crowd, tmp_path_factory):
    """File of an approximate index of the crowd, of a store named a."""
    pytest.importorskip("faiss")
    path = tmp_path_factory.mktemp("learned") / "index"
    made = index.build(np.arange(len(crowd[0])), crowd[0], Settings(index="approximate"))
    index.save(made, path, "a", 1)
    return path
