"""Errors that a user can correct: scripts print them as one line and exit with status 1."""

import errno

DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # no space, quota exceeded, file too large


class InputError(ValueError):
    """A file, folder or parameter is not what the program needs.

    The message says which one, what was wanted, and what was found.
    """


def one_line(text: object) -> str:
    """Return `text` as a string that fits into one line of a terminal or one cell of a table.

    Characters that are not printable (line ends, control characters, lone surrogates) are escaped as in Python.
    """
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in str(text))
