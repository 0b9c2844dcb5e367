"""Escape texts for a terminal: control characters in a name are shown, not obeyed."""

from __future__ import annotations

_SPACES = "\u00a0\u202f\u3000"
"""Spaces of ordinary texts (French, Japanese) that Python does not call printable."""


def printable(text: str, keep: str = "") -> str:
    r"""
    Show what a terminal would obey, or hide, as an escape: `\x1b`, `\n`, `\u202e`.

    Names in a history, of files and of tables are other people's words: one
    with a line break forges a line, one with an escape sequence writes where
    it likes, one with a bidirectional control reads as another. What Python
    calls not printable (`str.isprintable`) is escaped, lone surrogates, which
    cannot be encoded, among them.

    Args:
        text: What is to be printed.
        keep: Characters that are let through anyway: the line breaks of
            a text that this program has laid out itself.
    """
    if text.isprintable():
        return text
    keep += _SPACES
    shown = (each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text)
    return "".join(shown)


_SAFE = frozenset("%+,-./0123456789:=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")


def quote(word: str) -> str:
    """Quote a word of a command that a person will type, as `shlex.quote` does."""
    # Not with `shlex`: the current user may have no access to Python's files to import it.
    if word and _SAFE.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"
