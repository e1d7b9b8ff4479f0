"""Turn figures into PNG files."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError

DPI = 100  # pixels per inch of every figure


class NothingToDraw(InputError):
    """The data of a figure do not exist."""


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as a PNG file, whole or not at all."""
    with atomic_write(path) as part:
        part.write_bytes(encode_png(figure))


def encode_png(figure: Figure) -> bytes:
    """Encode a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format='png')
    return buffer.getvalue()
