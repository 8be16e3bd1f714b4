import numpy as np
import pytest

from magface.errors import DataError
from magface.gallery.index.nearest import Nearest
from magface.gallery.index.rows import Block


def block(ids, rows, alive=None):
    ids = np.array(ids, np.int64)
    return Block(ids, np.array(rows, np.float32), np.ones(len(ids), bool) if alive is None else np.array(alive))


PROBE = np.array([[1, 0]], np.float32)


def test_errors_of_quick_cosines_do_not_reach_the_result():
    rows = [[0.8, 0.6], [0.81, np.sqrt(1 - 0.81**2)], [0, 1]]
    nearest = Nearest(PROBE, 1, slack=0.02)
    nearest.show(block([1, 2, 3], rows), np.array([[0.815, 0.80, 0.0]], np.float32))
    assert nearest.hits().people.tolist() == [[2]]
    assert nearest.hits().cosine == pytest.approx(0.81)


def test_equal_rows_in_other_blocks_come_by_their_ids():
    nearest = Nearest(PROBE, 2, slack=1e-6)
    for id in (9, 4, 7):
        nearest.show(block([id], [[0.6, 0.8]]), np.array([[0.6]], np.float32))
    assert nearest.hits().people.tolist() == [[4, 7]]


def test_a_number_that_is_none_hides_nobody():
    nearest = Nearest(PROBE, 1, slack=1e-6)
    nearest.show(block([1], [[0, 1]]), np.array([[0.0]], np.float32))
    nearest.show(block([2, 3], [[np.nan, 1], [1, 0]]), np.array([[np.nan, 1.0]], np.float32))
    assert nearest.hits().people.tolist() == [[3]]


@pytest.mark.parametrize("bad", [[3, 0], [np.inf, 0], [0.9, 0]])
def test_a_row_that_is_no_direction_is_damage(bad):
    nearest = Nearest(PROBE, 1, slack=1e-6)
    with pytest.raises(DataError, match="damaged"):
        nearest.show(block([1, 2], [bad, [0, 1]]), np.array([[bad[0], 0.0]], np.float32))


def test_a_row_that_another_process_wiped_out_is_nobody():
    nearest = Nearest(PROBE, 2, slack=1e-6)
    nearest.show(block([1, 2], [[0, 0], [-1, 0]]), np.array([[0.0, -1.0]], np.float32))
    assert nearest.hits().people.tolist() == [[2, -1]]
    assert nearest.hits().cosine.tolist() == [[-1, -np.inf]]
