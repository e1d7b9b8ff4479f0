"""manifest.json in an output folder: which files we made, from what, with which settings.

So finished work is recognised, work with other settings is replaced, and files that are not ours are never touched.
"""
import json
from pathlib import Path

from utilities.errors import InputError
from utilities.volume import whole_file


def fingerprint(path):
    """Size and time of a file, by which a changed input is noticed."""
    return [str(Path(path).resolve()), Path(path).stat().st_size, Path(path).stat().st_mtime_ns]


class Manifest:
    """Cases made in `folder` with `settings` (a dict of plain values).

    Raises InputError if the folder holds anything and no manifest: it is not ours. Cases of other settings are
    removed, file by file, as far as the manifest lists them.
    """

    def __init__(self, folder, settings, parameter):
        self.folder, self.file = Path(folder), Path(folder) / 'manifest.json'
        self.settings, self.cases = settings, {}
        if self.file.exists():
            try:
                stored = json.loads(self.file.read_text())
                cases = stored['cases']
            except (ValueError, KeyError, TypeError):
                raise InputError(f'{self.file}: is damaged; remove it and its folder, or set {parameter}') from None
            if stored.get('settings') == json.loads(json.dumps(settings)):
                self.cases = cases
            else:
                for case in cases.values():
                    for name in case['files']:
                        (self.folder / name).unlink(missing_ok=True)
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError(f'{self.folder}: holds files that this script did not make; set {parameter} to a new folder')
        self.save()

    def done(self, name, inputs):
        """Was this case made from these very files, and is all of it still there?"""
        case = self.cases.get(name)
        return bool(case) and case['inputs'] == [fingerprint(p) for p in inputs] and all(
            (self.folder / f).exists() for f in case['files'])

    def add(self, name, inputs, files):
        self.cases[name] = {'inputs': [fingerprint(p) for p in inputs], 'files': files}
        self.save()

    def save(self):
        with whole_file(self.file) as part:
            part.write_text(json.dumps({'settings': self.settings, 'cases': self.cases}, indent=1))
