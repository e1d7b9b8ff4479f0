"""Sort names as a person would: volume-2 before volume-10."""

import re


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key for sorted() that compares the numbers within names by their value."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', name)]
