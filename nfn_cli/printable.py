"""printable.py: how a name found in a file may be shown on one line of a terminal. Knows strings only."""

from __future__ import annotations


def printable(text: object, limit: int = 160) -> str:
    r"""One safe line for any text found in a file: control, bidi and other unprintable characters are escaped.

    Names stay data everywhere else; only messages go through here. Longer texts are cut in the middle, so that both
    the beginning and the end of a path stay visible.

    >>> printable("fc1\x1b[31m")
    'fc1\\x1b[31m'
    """
    line = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )
    if len(line) <= limit:
        return line
    head = (limit - 1) * 2 // 3
    return f"{line[:head]}…{line[head + 1 - limit :]}"
