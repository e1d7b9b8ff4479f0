"""Look for what is wrong with a data set, before hours are spent on it.

In:   train_ct_path/volume-N.*, train_seg_path/segmentation-N.*, and the same of test where that folder is there
Out:  check_path (csv), a row a case, and the same table on the screen; exit status 1 if a case cannot be used

    python data_prepare/check_dataset.py --train_ct_path=DIR --train_seg_path=DIR
"""

import math
import sys
from collections import Counter
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas

from data_prepare.liver_slices import liver_slices
from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError, one_line
from utilities.base.log import log, log_to_file
from utilities.evaluation.tables import in_cell
from utilities.image.preprocess import z_factor
from utilities.image.resample import zoom
from utilities.run import run_cases, script
from utilities.run.script import run_script
from utilities.volumes.cases import find_cases, list_volumes
from utilities.volumes.checks import check_header, check_hu, check_label, orientation
from utilities.volumes.headers import stem
from utilities.volumes.read_write import read_header, read_volume

COLUMNS = ['case', 'group', 'slices', 'pixels', 'spacing', 'HU min', 'HU max', 'liver mL', 'status', 'findings']
BYTES = 6  # of memory for a voxel of a CT, at most; see benchmarks/benchmark.py


def main(para):
    found = {'train': find_cases(para.train_ct_path, 'train_ct_path', para.train_seg_path, para.spacing_override)}
    if Path(para.test_ct_path).is_dir():
        found['test'] = find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override)
    workers, rows = run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES), []
    for group in found:
        looked_at, failures = run_cases.run_cases(
            partial(look, group=group, para=para), found[group], f'check of {group}', workers=workers
        )
        rows += looked_at
        rows += [{'case': name, 'group': group, 'errors': [why], 'warnings': []} for name, why in failures]
    rows += [
        {'case': stem(path), 'errors': [f'{path}: a label without CT'], 'warnings': []}
        for path in labels_alone(found, para)
    ]
    rows += [
        {'case': name, 'errors': [], 'warnings': ['is in spacing_override, but there is no such case']}
        for name in sorted(para.spacing_override.keys() - {row['case'] for row in rows})
    ]
    compare_orientations(rows)

    for row in rows:
        row['status'] = 'error' if row['errors'] else 'warning' if row['warnings'] else 'ok'
        row['findings'] = '; '.join(one_line(finding) for finding in [*row['errors'], *row['warnings']])
        row['case'] = in_cell(row['case'])
    table = pandas.DataFrame(rows).reindex(columns=COLUMNS).astype({'slices': 'Int64'})
    with atomic_write(para.check_path) as part:
        table.to_csv(part, index=False, float_format='%g')
    log_to_file(Path(para.check_path).with_suffix('.log'))
    log.info(table.to_string(index=False, na_rep='', float_format='{:g}'.format))
    count = Counter(row['status'] for row in rows)
    log.info(f'{count["ok"]} ok, {count["warning"]} with warnings, {count["error"]} with errors')
    failed = [(row['case'], row['findings']) for row in rows if row['errors']]
    return script.report_results(len(rows), failed, para.check_path, 'python data_prepare/get_training_set.py')


def look(case, group, para):
    """Row of a case: figures as far as its files can be read, and lists of errors and warnings."""
    row = {'case': case.name, 'group': group, 'errors': [], 'warnings': []}
    try:
        row['warnings'] += check_header(case, group == 'train', para.grid_tolerance)
    except InputError as error:
        row['errors'].append(str(error))
    try:
        shape, geometry = read_header(case.ct, case.spacing)
        row.update(
            slices=shape[0],
            pixels=f'{shape[2]} x {shape[1]}',
            spacing=' x '.join(f'{s:.3g}' for s in geometry.spacing),
            orientation=orientation(geometry),
        )
        ct, _ = read_volume(case.ct, case.spacing)
        row.update({'HU min': ct.min().item(), 'HU max': ct.max().item()})
        del ct
        errors, warnings = check_hu(row['HU min'], row['HU max'])
        row['errors'] += errors
        row['warnings'] += warnings
        if case.label:
            label, label_geometry = read_volume(case.label, case.spacing)
            errors, warnings, liver = check_label(label)
            row['liver mL'] = round(liver.sum() * math.prod(label_geometry.spacing) / 1000)
            row['errors'] += [f'{case.label}: {error}' for error in errors]
            row['warnings'] += warnings
            if group == 'train' and liver.any():
                row['errors'] += too_few_slices(liver, label_geometry.spacing[2], para)
    except InputError as error:
        if str(error) not in row['errors']:
            row['errors'].append(str(error))
    return row


def too_few_slices(liver, thickness, para):
    """A list of one error if get_training_set.py would be left with fewer slices than `size`; liver: voxels of each slice."""
    held = (liver > 0).astype('uint8')[:, None, None]
    factor = z_factor(len(held), thickness, para.slice_thickness)
    first, last = liver_slices(zoom(held, (factor, 1, 1), 0), para.expand_slice)
    if last - first >= para.size:
        return []
    return [
        f'wanted {para.size} slices of {para.slice_thickness:g} mm around the liver, got {last - first}; lower size, or raise '
        'expand_slice'
    ]


def labels_alone(found, para):
    """Paths in the label folders that are neither a label nor a CT of a case; found: {group: cases}."""
    folders = dict.fromkeys(Path(getattr(para, f'{group}_seg_path')) for group in found)
    used = {path.resolve() for group in found.values() for case in group for path in case.files}
    return [
        path
        for folder in folders
        if folder.is_dir()
        for path in list_volumes(folder).values()
        if path.resolve() not in used
    ]


def compare_orientations(rows):
    """Warn of the cases whose axes run other ways than those of most."""
    (most, count), *_ = Counter(row.get('orientation') for row in rows).most_common(1)
    for row in rows:
        if count > len(rows) / 2 and row.get('orientation', most) != most:
            row['warnings'].append(f'x, y and z run to {row["orientation"]}, in most other cases to {most}')


if __name__ == '__main__':
    run_script(main, __doc__)
