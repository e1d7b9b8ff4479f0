"""What a run left, as {file: its content}: byte for byte, but for what a clock says."""

import csv
import hashlib
import io
import json
from pathlib import Path

import openpyxl
import torch


def content(folder):
    """{name: digest} of all files under a folder. Left out: .lock, which names the process that holds it, logs, and
    half-written files."""
    folder = Path(folder)
    return {
        str(path.relative_to(folder)): digest(path)
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.name != '.lock' and path.suffix != '.log' and not path.name.startswith('.part-')
    }


def digest(path):
    """Of the file's bytes, or of what is in it without the times of a run, which are the only thing that may differ:

    loss.csv and the curve in last.pth: column seconds; tables: column time; the summary: mean time; records: the row's time, and the time
    at which each file was written. An .xlsx holds the time of its making and is compared cell by cell.
    """
    data = path.read_bytes()
    if path.name == 'last.pth':
        state = torch.load(io.BytesIO(data), weights_only=True)
        state['curve'] = state['curve'][:, :-1]
        data = plain_bytes(state)
    elif path.suffix == '.csv':
        data = repr(without_column(list(csv.reader(data.decode().splitlines())))).encode()
    elif path.suffix == '.xlsx':
        book = openpyxl.load_workbook(io.BytesIO(data))
        data = repr([(sheet.title, without_column([list(row) for row in sheet.values])) for sheet in book]).encode()
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


def without_column(rows):
    times = [place for place, name in enumerate(rows[0]) if name in ('seconds', 'time')] if rows else []
    return [[value for place, value in enumerate(row) if place not in times] for row in rows]


def plain_bytes(value):
    """Nested dicts, lists and tensors as bytes that are equal if and only if every bit of them is."""
    if isinstance(value, torch.Tensor):
        return (
            repr((value.dtype, tuple(value.shape))).encode()
            + value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    if isinstance(value, dict):
        return b'{' + b','.join(repr(key).encode() + b':' + plain_bytes(inner) for key, inner in value.items()) + b'}'
    if isinstance(value, (list, tuple)):
        return b'[' + b','.join(map(plain_bytes, value)) + b']'
    return repr(value).encode()


def differences(wanted, got):
    """What one content has other than another, in words; '' if nothing."""
    found = [
        f'{name} {"missing" if name not in got else "too much" if name not in wanted else "differs"}'
        for name in sorted(wanted.keys() | got.keys())
        if wanted.get(name) != got.get(name)
    ]
    return ', '.join(found[:6]) + (f' and {len(found) - 6} more' if len(found) > 6 else '')
