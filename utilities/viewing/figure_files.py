"""Figures as PNG files, and the tables that figures are drawn from."""

import io

import pandas

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError

DPI = 100


class NothingToDraw(InputError):
    """What a figure shows is not there."""


def save_figure(figure, path):
    """Write a figure as a PNG file, whole or not at all."""
    with atomic_write(path) as part:
        part.write_bytes(encode_png(figure))


def encode_png(figure, dpi=DPI):
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format='png')
    return buffer.getvalue()


def read_table(path, columns, numbers):
    """A csv as DataFrame. Raises InputError unless it holds these columns, and numbers in those of `numbers` that it holds."""
    try:
        table = pandas.read_csv(path)
    except ValueError as error:
        raise InputError(f'{path}: wanted a table, got {error}') from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f'{path}: wanted the columns {", ".join(columns)}, found no {", ".join(missing)}')
    text = [column for column in numbers if column in table and table[column].dtype.kind not in 'if']
    if len(table) and text:
        raise InputError(f'{path}: wanted numbers in the column {text[0]}, got {table[text[0]].iloc[0]!r:.40}')
    return table
