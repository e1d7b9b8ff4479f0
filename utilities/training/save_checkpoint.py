"""Write weights and training states."""

import io
from pathlib import Path
from typing import Any

import torch

from utilities.base.atomic_write import atomic_write


def save_checkpoint(path: Path | str, content: Any) -> None:
    """Write what torch.save can write, completely or not at all; equal content gives equal bytes. Raises OSError."""
    # Given a path, torch.save reports a full disk as a RuntimeError and stores the name of the file in the file.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as part:
        part.write_bytes(buffer.getbuffer())
