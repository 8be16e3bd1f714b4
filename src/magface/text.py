"""Text of others, made harmless to show."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text on one line: a name of a file may hold line breaks, commands to the terminal, or what is not Unicode.

    Example:
        >>> printable("a\n\x1b[31mb.jpg")
        'a\\n\\x1b[31mb.jpg'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
