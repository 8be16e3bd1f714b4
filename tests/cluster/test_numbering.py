import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from magface.cluster.numbering import UNKNOWN, numbered


@given(st.lists(st.integers(-2, 5), max_size=30))
def test_groups_are_numbered_by_size_then_by_first_face(labels):
    found = numbered(np.array(labels, np.int64))
    sizes = {label: labels.count(label) for label in labels if label >= 0}
    order = sorted(sizes, key=lambda label: (-sizes[label], labels.index(label)))
    assert found.tolist() == [order.index(label) if label >= 0 else UNKNOWN for label in labels]
