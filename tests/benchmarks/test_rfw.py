"""Four groups, as they are published."""

import shutil

import numpy as np
import pytest

from magface.benchmarks import rfw, verification
from magface.benchmarks.result import Measure, Result
from magface.errors import DataError


@pytest.fixture
def races(album_of_crops, tmp_path):
    """Each group has three people with three crops; in African two of them look alike."""
    root = tmp_path / "test"
    for number, group in enumerate(rfw.GROUPS):
        people = dict(zip(("Ann", "Bob", "Cid"), (f"m.0{number}{letter}" for letter in "abc"), strict=True))
        for name, person in people.items():
            (root / "data" / group / person).mkdir(parents=True)
            source = "Ann" if (group, name) == ("African", "Bob") else name
            for image in (1, 2, 3):
                file = root / "data" / group / person / f"{person}_{image:04d}.png"
                shutil.copy(album_of_crops / source / f"{source}_{image:04d}.png", file)
        a, b, c = people.values()
        lines = [f"{a}\t1\t2", f"{c}\t1\t3", f"{a}\t1\t{c}\t1", f"{a}\t2\t{b}\t2"] * 2
        (root / "txts" / group).mkdir(parents=True)
        (root / "txts" / group / f"{group}_pairs.txt").write_text("\n".join(lines))
    return root


def test_groups_and_how_far_they_lie_apart(embedder, races, tmp_path):
    found = rfw.evaluate(embedder, races, cache=tmp_path / "cache")
    accuracy = [found[f"{group}: accuracy"] for group in rfw.GROUPS]
    assert accuracy[1:] == [1, 1, 1]
    assert accuracy[0] < 1
    assert found["mean: accuracy"] == pytest.approx(np.mean(accuracy))
    assert found["std: accuracy"] == pytest.approx(np.std(accuracy, ddof=1))
    assert found["range: accuracy"] == pytest.approx(1 - accuracy[0])
    assert found["mean: EER"] == pytest.approx(found["African: EER"] / 4)
    assert "mean: TAR@FMR=0.001" not in {measure.name for measure in found.measures}
    assert (found.counts["genuine pairs"], found.counts["images"]) == (16, 4 * 5)
    assert set(found.curves) == set(rfw.GROUPS)
    alone = verification.evaluate(
        embedder,
        races / "data",
        pairs=races / "txts" / "African" / "African_pairs.txt",
        cache=tmp_path / "cache",
    )
    assert alone["accuracy"] == accuracy[0]


def test_the_range_is_from_the_lowest_to_the_highest():
    values = dict(zip(rfw.GROUPS, (0.9, 0.95, 0.8, 0.85), strict=True))
    found = {group: Result("", "", (Measure("accuracy", value),), {}) for group, value in values.items()}
    mean, std, span = (measure.value for measure in rfw._apart("accuracy", found))
    assert (mean, std, span) == pytest.approx((0.875, np.std([*values.values()], ddof=1), 0.15))


def test_lists_lie_in_beside_or_as_published(embedder, races, tmp_path):
    for root in (races.parent, races / "data"):
        assert rfw.evaluate(embedder, root, cache=tmp_path / "cache")["Asian: AUC"] == 1


def test_a_group_that_lacks_something_is_refused(embedder, races, tmp_path):
    (races / "txts" / "Asian" / "Asian_pairs.txt").unlink()
    with pytest.raises(DataError, match="Asian_pairs"):
        rfw.evaluate(embedder, races, cache=tmp_path / "cache")
    shutil.rmtree(races / "data" / "African")
    with pytest.raises(DataError, match="no image in a folder African"):
        rfw.evaluate(embedder, races, cache=tmp_path / "cache")
    shutil.rmtree(races / "txts")
    with pytest.raises(DataError, match="no folder txts"):
        rfw.evaluate(embedder, races, cache=tmp_path / "cache")
