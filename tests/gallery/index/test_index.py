import numpy as np
import pytest

from magface.gallery import index
from magface.gallery.index.approximate import Approximate
from magface.gallery.index.exact import Exact
from magface.gallery.records import Settings


def test_settings_choose_the_index():
    ids, directions = np.arange(3), np.eye(3, dtype=np.float32)
    assert isinstance(index.build(ids, directions, Settings()), Exact)
    assert isinstance(index.build(ids, directions, Settings(index="approximate")), Approximate)
    assert index.build(ids, directions, Settings(precision="f16")).rows.dtype == np.float16


def test_rows_are_not_copied_where_they_can_be_used_as_they_are():
    ids, directions = np.arange(3), np.eye(3, dtype=np.float32)
    assert index.build(ids, directions, Settings()).rows.base.rows is directions


def test_ids_come_in_any_order_but_once():
    made = index.build(np.array([9, 2, 5]), np.eye(3, dtype=np.float32), Settings())
    assert made.search(np.eye(3, dtype=np.float32), 1).people.ravel().tolist() == [9, 2, 5]
    for ids in ([1, 1, 2], [-1, 0, 1]):
        with pytest.raises(ValueError, match="each once"):
            index.build(np.array(ids), np.eye(3, dtype=np.float32), Settings())
