"""manifest/ in an output folder: a record of each finished case, which files we made, from what, with which settings.

So finished work is recognised, also after a run that was killed, and files that are not ours are never touched.
"""

import json
from pathlib import Path

from utilities.base import distributed
from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError
from utilities.base.folder_lock import lock_folder


class Manifest:
    """Cases made in `folder` with `settings` (a dict of plain values). The folder is claimed until this process ends.

    Cases of other settings stay until theirs are ready to replace them. Raises InputError, which names the parameter that holds the folder,
    if another run is at work in it, and if it holds anything and no records: then it is not ours. Under torchrun the first rank looks.
    """

    def __init__(self, folder, settings, parameter):
        self.folder, self.records = Path(folder), Path(folder) / 'manifest'
        self.settings, self.parameter, self.seen = plain(settings), parameter, {}
        if not distributed.is_main_process():
            lock_folder(self.folder, parameter)
            return
        if (
            self.folder.is_dir()
            and not self.records.is_dir()
            and any(path.name != '.lock' for path in self.folder.iterdir())
        ):
            raise InputError(
                f'{self.folder}: holds files that this script did not make (there is no folder manifest in it); '
                f'set {parameter} to a new folder'
            )
        lock_folder(self.folder, parameter)
        self.records.mkdir(exist_ok=True)

    def __getstate__(self):
        return {**vars(self), 'seen': {}}  # a worker looks at its cases itself

    def done(self, name, inputs):
        """The record of a case, if it was made with these settings from these very inputs and all of it is still there; else None.

        inputs: paths, by which a changed file is noticed, and plain values.
        """
        self.seen[name] = fingerprints(inputs)
        record = read_record(self.file(name))
        if (
            record
            and is_whole(self.folder, record)
            and (record['settings'], record['inputs']) == (self.settings, self.seen[name])
            and all(state(self.folder / file) == kept for file, kept in record['files'].items())
        ):
            return record
        return None

    def start(self, name, files):
        """Before the first of a case's files is written: record their names (inside the folder), so that they are known to be ours.

        Raises InputError if one is there that no record of this case lists, or that was changed since, by hand perhaps: somebody
        else's work is not replaced.
        """
        record = read_record(self.file(name))
        # a damaged record is ours as well
        ours = record['files'] if record else dict.fromkeys(files) if self.file(name).exists() else {}
        for file in files:
            if (self.folder / file).exists() and (file not in ours or changed(self.folder / file, ours[file])):
                why = 'was changed after this script made it' if file in ours else 'this script did not make it'
                raise InputError(f'{self.folder / file}: {why}; move it away, or set {self.parameter} to a new folder')
        self.write(
            name, {'settings': self.settings, 'inputs': [], 'files': dict.fromkeys([*ours, *files]), 'row': None}
        )

    def add(self, name, inputs, files, row=None):
        """Record a finished case, and return the record: `files` by their names inside the folder, `row` of the table a dict or None.

        The inputs are recorded as `done` saw them, so that one that changed meanwhile is noticed by the next run.
        """
        inputs = self.seen.pop(name, None) or fingerprints(inputs)
        files = {file: state(self.folder / file) for file in files}
        return self.write(name, {'settings': self.settings, 'inputs': inputs, 'files': files, 'row': row})

    def prune(self, names):
        """Remove the files and records of all cases but `names`. Returns their names, and (name, reason) of those that stay."""
        removed, failures = [], []
        for path in sorted(self.records.glob('[!.]*.json')):
            name = path.name.removesuffix('.json')
            if name in names:
                continue
            try:
                record = read_record(path)
                if record is None:
                    raise InputError(
                        f'{path}: is damaged, so what belongs to it is not known; remove it and the files of its case'
                    )
                for file, kept in record['files'].items():
                    if (self.folder / file).exists() and changed(self.folder / file, kept):
                        raise InputError(
                            f'{self.folder / file}: was changed after this script made it, and is not removed; move it away'
                        )
                for file in record['files']:
                    (self.folder / file).unlink(missing_ok=True)
                path.unlink()
                removed.append(name)
            except (ValueError, OSError) as error:
                failures.append((name, str(error)))
        return removed, failures

    def is_current(self, name):
        """Is what there is of a case whole, and made with these settings, from whatever inputs?"""
        record = read_record(self.file(name))
        return bool(record) and record['settings'] == self.settings and is_whole(self.folder, record)

    def write(self, name, record):
        record = plain(record)
        with atomic_write(self.file(name)) as part:
            part.write_text(json.dumps(record, indent=1))
        return record

    def file(self, name):
        return self.records / f'{name}.json'


def settings_of_cases(folder):
    """The distinct settings with which the cases of a folder were made: one, unless a run that replaces them was stopped on its way.

    A case that was started and not finished, or whose record is damaged, counts as one of settings None. No records: an empty list.
    """
    folder, found = Path(folder), []
    for path in sorted((folder / 'manifest').glob('[!.]*.json')):
        record = read_record(path)
        settings = record['settings'] if record and is_whole(folder, record) else None
        if settings not in found:
            found.append(settings)
    return found


def read_record(path):
    """The record of a case; None where there is none, and where it is damaged."""
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        intact = (
            record.keys() == {'settings', 'inputs', 'files', 'row'}
            and (record['row'] is None or isinstance(record['row'], dict))
            and all(
                not Path(file).is_absolute() and '..' not in Path(file).parts and (kept is None or len(kept) == 2)
                for file, kept in record['files'].items()
            )
        )
    except (FileNotFoundError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    return record if intact else None


def is_whole(folder, record):
    """Was the case finished, and are its files still there in full size? Their times may be others: a folder may have been copied."""
    return all(
        kept and (folder / file).is_file() and (folder / file).stat().st_size == kept[0]
        for file, kept in record['files'].items()
    )


def changed(path, kept):
    """Is a file another than its record says? None: it was not finished."""
    return kept is not None and state(path) != kept


def state(path):
    """Size and time of a file, by which a change is noticed."""
    status = Path(path).stat()
    return [status.st_size, status.st_mtime_ns]


def fingerprint(path):
    return [str(Path(path).resolve()), *state(path)]


def fingerprints(inputs):
    return plain([fingerprint(value) if isinstance(value, Path) else value for value in inputs])


def plain(value):
    """As it comes back from JSON; numbers of numpy become Python's."""
    return json.loads(json.dumps(value, default=lambda number: number.item()))
