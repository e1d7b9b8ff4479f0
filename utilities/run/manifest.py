"""Records of finished cases in the folder manifest/ of an output folder.

A record (manifest/NAME.json) tells which files were made for a case, from which inputs and with which settings. So a
run recognises finished cases, also after a run that was killed, and never replaces or removes files of other origin.

Keys of a record:
    settings: the settings of the case, a dict.
    inputs: what the case was made from: fingerprints of files, and plain values.
    files: name in the output folder -> signature of the file; the signature is null until the case is finished.
    row: the case's row of the table of results, or null.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from utilities.base import distributed
from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError
from utilities.base.folder_lock import lock_folder


class Manifest:
    """The records of the cases in an output folder, which is locked until this process ends.

    Files of a case with other settings stay until new ones replace them. Under torchrun the main process checks the
    folder.

    Args:
        folder: the output folder; created if it is missing.
        settings: plain values on which the results depend.
        parameter: the name of the parameter that holds the folder, for messages.

    Raises InputError if another run has locked the folder, and if the folder holds files but no records: then this
    project did not make it.
    """

    def __init__(self, folder: Path | str, settings: dict, parameter: str) -> None:
        self.folder, self.records_folder = Path(folder), Path(folder) / 'manifest'
        self.settings, self.parameter = as_json_value(settings), parameter
        self.inputs_before = {}  # name of a case -> the fingerprints of its inputs at find_finished()
        if distributed.is_main_process() and not self.records_folder.is_dir() and holds_files(self.folder):
            raise InputError(
                f'{self.folder}: holds files that this script did not make (there is no folder manifest in it); '
                f'set {parameter} to a new folder'
            )
        lock_folder(self.folder, parameter)
        if distributed.is_main_process():
            self.records_folder.mkdir(exist_ok=True)

    def __getstate__(self) -> dict:
        """Return what is sent to a worker, which takes the fingerprints of its cases itself."""
        return {**vars(self), 'inputs_before': {}}

    def find_finished(self, name: str, inputs: Sequence) -> dict | None:
        """Return the record of a case that is finished and up to date, else None.

        That means it was made with these settings from these inputs, and all its files are unchanged.
        inputs: paths of files, compared by fingerprint, and plain values.
        """
        self.inputs_before[name] = fingerprints(inputs)
        record = read_record(self.record_path(name))
        if record is None or not has_all_files(self.folder, record):
            return None
        if (record['settings'], record['inputs']) != (self.settings, self.inputs_before[name]):
            return None
        if any(was_changed(self.folder / file, signature) for file, signature in record['files'].items()):
            return None
        return record

    def begin_case(self, name: str, files: Sequence[str]) -> None:
        """Record the names of the files that will be written for a case, before the first is written.

        So they are known to be ours if the run is killed. files: names inside the output folder.
        Raises InputError if one of them exists that no record of this case lists, or that was changed since, perhaps by
        hand: other people's work is not replaced.
        """
        own_files = {}
        if record := read_record(self.record_path(name)):
            own_files = record['files']
        elif self.record_path(name).exists():  # A damaged record shows that this script made the files.
            own_files = dict.fromkeys(files)
        for file in files:
            path = self.folder / file
            if path.exists() and (file not in own_files or was_changed(path, own_files[file])):
                reason = 'was changed after this script made it' if file in own_files else 'this script did not make it'
                raise InputError(f'{path}: {reason}; move it away, or set {self.parameter} to a new folder')
        self.write_record(name, inputs=[], files=dict.fromkeys([*own_files, *files]), row=None)

    def finish_case(self, name: str, inputs: Sequence, files: Sequence[str], row: dict | None = None) -> dict:
        """Record that a case is finished, and return the record.

        The inputs are recorded as they were at find_finished(), so that the next run notices a file that changed while
        the case was computed.

        Args:
            name: of the case.
            inputs: as in find_finished().
            files: the names of its files inside the output folder.
            row: its row of the table of results.
        """
        inputs = self.inputs_before.pop(name, None) or fingerprints(inputs)
        signatures = {file: file_signature(self.folder / file) for file in files}
        return self.write_record(name, inputs=inputs, files=signatures, row=row)

    def prune(self, names: Collection[str]) -> tuple[list[str], list[tuple[str, str]]]:
        """Remove the files and records of all cases except `names`.

        Returns the names of the cases that were removed, and (name, reason) of those that could not be removed.
        """
        removed, failures = [], []
        for path in record_paths(self.folder):
            name = path.name.removesuffix('.json')
            if name in names:
                continue
            try:
                self.remove_case(path)
                removed.append(name)
            except (ValueError, OSError) as error:
                failures.append((name, str(error)))
        return removed, failures

    def remove_case(self, path: Path) -> None:
        """Remove the files that a record lists, and the record.

        Raises InputError if the record is damaged, or a file was changed.
        """
        record = read_record(path)
        if record is None:
            raise InputError(f'{path}: is damaged, so its files are not known; remove it and the files of its case')
        for file, signature in record['files'].items():
            if (self.folder / file).exists() and was_changed(self.folder / file, signature):
                raise InputError(
                    f'{self.folder / file}: was changed after this script made it, and is not removed; move it away'
                )
        for file in record['files']:
            (self.folder / file).unlink(missing_ok=True)
        path.unlink()

    def is_current(self, name: str) -> bool:
        """Return whether a case is finished and was made with these settings; its inputs are not compared."""
        record = read_record(self.record_path(name))
        return bool(record) and record['settings'] == self.settings and has_all_files(self.folder, record)

    def write_record(self, name: str, inputs: Sequence, files: dict[str, list | None], row: dict | None) -> dict:
        """Write the record of a case, and return it as it will be read."""
        record = as_json_value({'settings': self.settings, 'inputs': inputs, 'files': files, 'row': row})
        with atomic_write(self.record_path(name)) as part:
            part.write_text(json.dumps(record, indent=1))
        return record

    def record_path(self, name: str) -> Path:
        """Return the path of the record of a case."""
        return self.records_folder / f'{name}.json'


def holds_files(folder: Path) -> bool:
    """Return whether a folder exists and holds anything but a lock."""
    return folder.is_dir() and any(path.name != '.lock' for path in folder.iterdir())


def record_paths(folder: Path) -> list[Path]:
    """Return the paths of all records of an output folder, sorted."""
    return sorted((folder / 'manifest').glob('[!.]*.json'))


def settings_of_cases(folder: Path | str) -> list[dict | None]:
    """Return the different settings with which the cases of an output folder were made.

    There are several if a run that replaces older cases was stopped before its end. A case that is not finished, or
    whose record is damaged, counts as settings None. A folder without records gives [].
    """
    folder, different_settings = Path(folder), []
    for path in record_paths(folder):
        record = read_record(path)
        settings = record['settings'] if record and has_all_files(folder, record) else None
        if settings not in different_settings:
            different_settings.append(settings)
    return different_settings


def read_record(path: Path) -> dict | None:
    """Return the record of a case; None if there is none, and if it is damaged."""
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        return record if is_valid_record(record) else None
    except (FileNotFoundError, ValueError, AttributeError, TypeError, RecursionError):
        return None


def is_valid_record(record: dict) -> bool:
    """Return whether a record has all keys, and lists only files inside the output folder.

    A value of a wrong type may raise AttributeError or TypeError.
    """
    if record.keys() != {'settings', 'inputs', 'files', 'row'}:
        return False
    if record['row'] is not None and not isinstance(record['row'], dict):
        return False
    for file, signature in record['files'].items():
        if Path(file).is_absolute() or '..' in Path(file).parts:
            return False
        if signature is not None and len(signature) != 2:  # size and modification time
            return False
    return True


def has_all_files(folder: Path, record: dict) -> bool:
    """Return whether a case was finished, and all its files exist in their recorded size.

    Their times may differ, since the folder may have been copied.
    """
    for file, signature in record['files'].items():
        path = folder / file
        if signature is None or not path.is_file() or path.stat().st_size != signature[0]:
            return False
    return True


def was_changed(path: Path, signature: list | None) -> bool:
    """Return whether a file differs from its recorded signature. Without a signature it was not finished: False."""
    return signature is not None and file_signature(path) != signature


def file_signature(path: Path | str) -> list[int]:
    """Return the size and the modification time of a file, by which a change is noticed."""
    status = Path(path).stat()
    return [status.st_size, status.st_mtime_ns]


def fingerprint(path: Path | str) -> list:
    """Return what identifies an input file: its absolute path, its size and its modification time."""
    return [str(Path(path).resolve()), *file_signature(path)]


def fingerprints(inputs: Sequence) -> list:
    """Return the inputs as they are recorded: the fingerprints of paths, and all other values."""
    return as_json_value([fingerprint(value) if isinstance(value, Path) else value for value in inputs])


def as_json_value(value: Any) -> Any:
    """Return a value as it comes back from a JSON file: tuples become lists, numbers of NumPy become Python's."""
    return json.loads(json.dumps(value, default=lambda number: number.item()))
