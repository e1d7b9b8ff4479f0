"""The row of a case, compared with numpy; names of cases that are safe in tables."""

import csv
import json

import numpy as np
import openpyxl
import pytest

from utilities.evaluation.calculate_metrics import calculate_metrics
from utilities.evaluation.tables import score, write_tables


def random_masks():
    rng = np.random.default_rng(0)
    return [(rng.random((6, 7, 8)) < share).astype(np.uint8) for share in (0.5, 0.4, 0.6)]


def test_row_with_a_label():
    label, before, after = random_masks()
    row = score('volume-1.nii', label, before, after, (0.7, 0.8, 2.0), 1.5)
    metrics_after, metrics_before = (calculate_metrics(label, mask, (0.7, 0.8, 2.0), 1.5) for mask in (after, before))
    wanted = {
        'case': 'volume-1.nii',
        **metrics_after,
        **{f'{name}_before': value for name, value in metrics_before.items()},
    }
    wanted.update(
        intersection=(label & after).sum(),
        sizes=int(label.sum()) + int(after.sum()),
        label_volume_ml=label.sum() * (0.7 * 0.8 * 2.0) / 1000,
    )
    assert row == wanted and list(row) == list(wanted)


def test_row_without_a_label():
    _, before, after = random_masks()
    row = score('volume-1.nii', None, before, after, (0.7, 0.8, 2.0), 1.5)
    assert row == {'case': 'volume-1.nii', 'volume_ml': pytest.approx(after.sum() * 0.7 * 0.8 * 2 / 1000)}


NAMES = [
    '=HYPERLINK("a").nii',
    '+1.nii',
    '-1.nii',
    '@SUM(A1).nii',
    '\t=1.nii',
    '\r=1.nii',
    '\x07bell.nii',
    'two\nlines, "quoted".nii',
    '\udcff.nii',
    'volume-1.nii',
    '=1\n.nii',
]


def test_no_case_name_becomes_a_formula_or_breaks_a_table(tmp_path):
    label, before, after = random_masks()
    rows = [score(name, label, before, after, (1, 1, 1), 1) for name in NAMES]
    write_tables(tmp_path, 'result', rows, {}, [('=1', 'why')])
    with open(tmp_path / 'result.csv', newline='') as file:
        in_csv = [row[0] for row in csv.reader(file)][1:]
    cells = [row[0] for row in openpyxl.load_workbook(tmp_path / 'result.xlsx')['liver'].iter_rows(min_row=2)]
    assert in_csv == [cell.value for cell in cells] and all(cell.data_type == 's' for cell in cells)
    assert len(set(in_csv)) == len(NAMES) and not any(
        name.startswith(tuple('=+-@\t\r')) or '\n' in name for name in in_csv
    )
    assert in_csv[0] == "'" + NAMES[0] and in_csv[9] == 'volume-1.nii'
    assert json.loads((tmp_path / 'summary.json').read_text())['failed'] == {'=1': 'why'}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['result.csv', 'result.xlsx', 'summary.json']
