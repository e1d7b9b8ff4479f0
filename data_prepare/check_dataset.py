"""Look for what is wrong with a data set, before hours are spent on it.

In:   train_ct_path/volume-N.*, train_seg_path/segmentation-N.*, and the same of the test cases if test_ct_path exists
Out:  check_path (csv), a row for each case, and the same table on the screen; the exit status is 1 if a case cannot be
      used

    python data_prepare/check_dataset.py --train_ct_path=DIR --train_seg_path=DIR
"""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import numpy as np
import pandas

from data_prepare.liver_slices import liver_slices, too_few_slices_message
from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError, one_line
from utilities.base.log import log, log_to_file
from utilities.evaluation.tables import in_cell
from utilities.image.preprocess import z_factor
from utilities.image.resample import zoom
from utilities.run import run_cases, script
from utilities.run.script import run_script
from utilities.volumes.cases import Case, find_cases, list_volumes
from utilities.volumes.checks import check_header, check_hu, check_label, orientation
from utilities.volumes.formats import stem
from utilities.volumes.read_write import read_header, read_volume

COLUMNS = ['case', 'group', 'slices', 'pixels', 'spacing', 'HU min', 'HU max', 'liver mL', 'status', 'findings']
BYTES = 6  # of memory for each voxel of a CT, at most; measured by the benchmark


def main(para: SimpleNamespace) -> int:
    train = find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path, para.spacing_override)
    test, label_folders = [], [para.train_seg_path]
    if Path(para.test_ct_path).is_dir():
        test = find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override)
        label_folders.append(para.test_seg_path)
    rows = check_cases(train, 'train', para)
    if test:
        rows += check_cases(test, 'test', para)
    rows += rows_of_unused_labels(label_folders, [*train, *test])
    rows += rows_of_unused_overrides(para.spacing_override, rows)
    compare_orientations(rows)
    for row in rows:
        add_status(row)
    write_table(rows, para.check_path)
    failures = [(row['case'], row['findings']) for row in rows if row['errors']]
    return script.report_results(len(rows), failures, para.check_path, 'python data_prepare/get_training_set.py')


def new_row(name: str, **values) -> dict:
    """Return a row of the table without findings; `errors` and `warnings` are lists of sentences."""
    return {'case': name, 'errors': [], 'warnings': [], **values}


def check_cases(cases: Sequence[Case], group: str, para: SimpleNamespace) -> list[dict]:
    """Return the row of every case of a group, 'train' or 'test'."""
    check = partial(
        check_case,
        group=group,
        size=para.size,
        expand_slice=para.expand_slice,
        slice_thickness=para.slice_thickness,
        grid_tolerance=para.grid_tolerance,
    )
    workers = run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES)
    rows, failures = run_cases.run_cases(check, cases, f'check of {group}', workers=workers)
    return rows + [new_row(name, group=group, errors=[reason]) for name, reason in failures]


def check_case(
    case: Case, group: str, size: int, expand_slice: int, slice_thickness: float, grid_tolerance: float
) -> dict:
    """Return the row of a case, with figures as far as its files can be read.

    Args:
        case: the CT and its label.
        group: 'train' or 'test'; a training case needs a label and enough slices around the liver.
        size, expand_slice, slice_thickness, grid_tolerance: the parameters with these names.
    """
    row = new_row(case.name, group=group)
    try:
        row['warnings'] += check_header(case, group == 'train', grid_tolerance)
    except InputError as error:
        row['errors'].append(str(error))
    try:
        add_ct_figures(row, case)
        if case.label:
            liver, thickness = add_label_figures(row, case)
            if group == 'train' and liver.any():
                row['errors'] += check_slices(liver > 0, thickness, size, expand_slice, slice_thickness)
    except InputError as error:
        if str(error) not in row['errors']:
            row['errors'].append(str(error))
    return row


def add_ct_figures(row: dict, case: Case) -> None:
    """Add shape, spacing, orientation and range of HU of the CT to a row. Raises InputError if it cannot be read."""
    shape, geometry = read_header(case.ct, case.spacing)
    row.update(
        slices=shape[0],
        pixels=f'{shape[2]} x {shape[1]}',
        spacing=' x '.join(f'{s:.3g}' for s in geometry.spacing),
        orientation=orientation(geometry),
    )
    ct, _ = read_volume(case.ct, case.spacing)
    row['HU min'], row['HU max'] = ct.min().item(), ct.max().item()
    errors, warnings = check_hu(row['HU min'], row['HU max'])
    row['errors'] += errors
    row['warnings'] += warnings


def add_label_figures(row: dict, case: Case) -> tuple[np.ndarray, float]:
    """Add the volume of the liver to a row, and what is wrong with the label. Raises InputError if it cannot be read.

    Returns:
        The number of liver voxels in every slice, and the slice distance in mm.
    """
    label, geometry = read_volume(case.label, case.spacing)
    errors, warnings, liver = check_label(label)
    row['liver mL'] = round(liver.sum() * math.prod(geometry.spacing) / 1000)
    row['errors'] += [f'{case.label}: {error}' for error in errors]
    row['warnings'] += warnings
    return liver, geometry.spacing[2]


def check_slices(
    with_liver: np.ndarray, thickness: float, size: int, expand_slice: int, slice_thickness: float
) -> list[str]:
    """Return a list with one error if get_training_set.py would find fewer than `size` slices around the liver.

    Args:
        with_liver: boolean, whether a slice holds liver.
        thickness: slice distance of the label, mm.
        size, expand_slice, slice_thickness: the parameters with these names.
    """
    factor = z_factor(len(with_liver), thickness, slice_thickness)
    resampled = zoom(with_liver.astype(np.uint8)[:, None, None], (factor, 1, 1), 0)
    first, stop = liver_slices(resampled, expand_slice)
    return [] if stop - first >= size else [too_few_slices_message(stop - first, size, slice_thickness)]


def rows_of_unused_labels(folders: Sequence[str], cases: Sequence[Case]) -> list[dict]:
    """Return a row with an error for every volume in the folders of the labels that belongs to no case."""
    used = {path.resolve() for case in cases for path in case.files}
    paths = [
        path
        for folder in dict.fromkeys(map(Path, folders))
        if folder.is_dir()
        for path in list_volumes(folder).values()
    ]
    return [new_row(stem(p), errors=[f'{p}: a label without CT']) for p in paths if p.resolve() not in used]


def rows_of_unused_overrides(spacing_override: dict, rows: Sequence[dict]) -> list[dict]:
    """Return a row with a warning for every name in spacing_override that is no case."""
    unused = spacing_override.keys() - {row['case'] for row in rows}
    return [new_row(name, warnings=['is in spacing_override, but there is no such case']) for name in sorted(unused)]


def compare_orientations(rows: Sequence[dict]) -> None:
    """Add a warning to every row whose axes run in other directions than those of more than half of the rows."""
    (common, count), *_ = Counter(row.get('orientation') for row in rows).most_common(1)
    if count <= len(rows) / 2:
        return
    for row in rows:
        if row.get('orientation', common) != common:
            row['warnings'].append(f'x, y and z run to {row["orientation"]}, in most other cases to {common}')


def add_status(row: dict) -> None:
    """Add the columns `status` and `findings` to a row, and make the name of the case safe for a spreadsheet."""
    row['status'] = 'error' if row['errors'] else 'warning' if row['warnings'] else 'ok'
    row['findings'] = '; '.join(one_line(finding) for finding in [*row['errors'], *row['warnings']])
    row['case'] = in_cell(row['case'])


def write_table(rows: Sequence[dict], path: str) -> None:
    """Write the rows to a csv file, and to the screen and a log file beside it."""
    table = pandas.DataFrame(rows).reindex(columns=COLUMNS).astype({'slices': 'Int64'})
    with atomic_write(path) as part:
        table.to_csv(part, index=False, float_format='%g')
    log_to_file(Path(path).with_suffix('.log'))
    log.info(table.to_string(index=False, na_rep='', float_format='{:g}'.format))
    count = Counter(row['status'] for row in rows)
    log.info(f'{count["ok"]} ok, {count["warning"]} with warnings, {count["error"]} with errors')


if __name__ == '__main__':
    run_script(main, __doc__)
