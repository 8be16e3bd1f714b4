from hypothesis import given
from hypothesis import strategies as st

from magface.text import printable


@given(st.text())
def test_any_text_becomes_one_line_that_can_be_shown(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert shown == text or not text.isprintable()
