"""What a user can mend: scripts print these as one line and leave with exit status 1."""

import errno


class InputError(ValueError):
    """A file, folder or parameter is not as the program needs it. The message says which, what was wanted, what was found."""


def one_line(text):
    """`text` as a string for one line of a terminal or a cell: what is not printable (line ends, control characters, lone surrogates)
    is escaped as in Python."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in str(text))


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
