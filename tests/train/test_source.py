from dataclasses import replace

import numpy as np
import pytest

from magface.train.config import Augmentation, Degradation, Optimization, Recipe
from magface.train.ranks import Ranks
from magface.train.source import Source

RECIPE = Recipe(
    augmentation=Augmentation(crop=0.5),
    degradation=Degradation(share=0.25),
    optimization=Optimization(batch=32, accumulate=2),
)


def made(faces, tmp_path, recipe=RECIPE, rank=0, world=1):
    return Source(recipe, faces, None, Ranks(rank, world), tmp_path / "unreadable.tsv")


@pytest.mark.parametrize("step", [0, 4, 7])
def test_ranks_share_the_batch_of_one_process_face_by_face(toy_faces, tmp_path, step):
    alone = made(toy_faces, tmp_path).parts(step)
    shared = [made(toy_faces, tmp_path, rank=rank, world=3).parts(step) for rank in range(3)]
    for number, part in enumerate(alone):
        theirs = [parts[number] for parts in shared]
        assert sum(their.portion for their in theirs) == pytest.approx(1)
        assert {their.share for their in theirs} == {part.share}
        for name in ("rows", "degraded", "inputs"):
            whole = np.empty_like(getattr(part, name))
            for rank, their in enumerate(theirs):
                whole[rank::3] = getattr(their, name)
            np.testing.assert_array_equal(whole, getattr(part, name))
    assert sum(part.share for part in alone) == pytest.approx(1)


def test_a_step_is_the_same_whenever_it_is_made_and_another_seed_makes_another(toy_faces, tmp_path):
    one, two = made(toy_faces, tmp_path), made(toy_faces, tmp_path)
    two.parts(0)
    np.testing.assert_array_equal(one.parts(3)[0].inputs, two.parts(3)[0].inputs)
    other = made(toy_faces, tmp_path, replace(RECIPE, seed=1)).parts(3)[0]
    assert one.parts(3)[0].names != other.names


def test_the_share_of_degraded_faces_is_kept_and_clean_ones_are_clean(toy_faces, tmp_path):
    plain = replace(RECIPE, augmentation=Augmentation(flip=0.0), optimization=Optimization(batch=32))
    source = made(toy_faces, tmp_path, plain)
    [part] = source.parts(0)
    assert part.degraded.sum() == pytest.approx(len(part.rows) / 4, abs=1)
    for row, degraded, crop in zip(part.rows, part.degraded, part.inputs, strict=True):
        assert degraded or (crop == toy_faces.read(row)).all()
