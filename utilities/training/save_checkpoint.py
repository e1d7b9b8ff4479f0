"""Write weights and training states to disk."""

import io

import torch

from utilities.base.atomic_write import atomic_write


def save_checkpoint(path, content):
    """Write what torch.save can write, whole or not at all. The same content gives the same bytes. Raises OSError."""
    # in memory first: torch tells a full disk by a RuntimeError of its own, and puts the file's name into the file
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as part:
        part.write_bytes(buffer.getbuffer())
