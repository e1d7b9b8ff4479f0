"""Compare what two runs left, byte for byte except for times."""

import csv
import hashlib
import io
import json
from pathlib import Path

import openpyxl
import torch


def content(folder: Path | str) -> dict[str, str]:
    """Return {name: digest} of all files under a folder.

    Logs and half-written files are left out, and .lock, which names the process that locks the folder.
    """
    folder = Path(folder)
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.name != '.lock' and path.suffix != '.log' and not path.name.startswith('.part-')
    }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of its content without the times of the run, which are all that may differ.

    Left out are: the column `seconds` of loss.csv and of the curve in last.pth, the column `time` of tables, the mean
    time of a summary, and in a record the time of its row and the times of its files. An .xlsx holds the time when it
    was made, so its cells are compared.
    """
    data = path.read_bytes()
    if path.name == 'last.pth':
        state = torch.load(io.BytesIO(data), weights_only=True)
        state['curve'] = state['curve'][:, :-1]
        data = to_bytes(state)
    elif path.suffix == '.csv':
        data = repr(without_times(list(csv.reader(data.decode().splitlines())))).encode()
    elif path.suffix == '.xlsx':
        book = openpyxl.load_workbook(io.BytesIO(data))
        data = repr([(sheet.title, without_times([list(row) for row in sheet.values])) for sheet in book]).encode()
    elif path.name.startswith('summary'):
        summary = json.loads(data)
        summary['mean'].pop('time')
        data = json.dumps(summary).encode()
    elif path.parent.name == 'manifest':
        record = json.loads(data)
        (record.get('row') or {}).pop('time', None)
        record['files'] = {name: state and state[0] for name, state in record['files'].items()}
        data = json.dumps(record).encode()
    return hashlib.sha256(data).hexdigest()


def without_times(rows: list[list]) -> list[list]:
    """Return the rows of a table, the first of them the header, without the columns `seconds` and `time`."""
    columns = [index for index, name in enumerate(rows[0]) if name not in ('seconds', 'time')] if rows else []
    return [[row[index] for index in columns if index < len(row)] for row in rows]


def to_bytes(value: object) -> bytes:
    """Return nested dicts, lists and tensors as bytes that are equal if and only if every bit of them is."""
    if isinstance(value, torch.Tensor):
        voxels = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return repr((value.dtype, tuple(value.shape))).encode() + voxels
    if isinstance(value, dict):
        return b'{' + b','.join(repr(key).encode() + b':' + to_bytes(inner) for key, inner in value.items()) + b'}'
    if isinstance(value, (list, tuple)):
        return b'[' + b','.join(map(to_bytes, value)) + b']'
    return repr(value).encode()


def differences(wanted: dict[str, str], got: dict[str, str]) -> str:
    """Return in words how one content differs from another; '' if it does not."""
    found = []
    for name in sorted(wanted.keys() | got.keys()):
        if name not in got:
            found.append(f'{name} missing')
        elif name not in wanted:
            found.append(f'{name} too much')
        elif wanted[name] != got[name]:
            found.append(f'{name} differs')
    more = f' and {len(found) - 6} more' if len(found) > 6 else ''
    return ', '.join(found[:6]) + more
