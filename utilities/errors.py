"""What a user can mend: scripts print these as one line and leave with exit status 1."""


class InputError(ValueError):
    """A file, folder or parameter is not as the program needs it. The message says which, what was wanted, what was found."""
