"""The metrics of many cases as tables: result.xlsx (sheets liver and liver_statistics), result.csv and summary.json."""

import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import one_line
from utilities.base.log import log
from utilities.base.machine import describe_machine
from utilities.evaluation.calculate_metrics import count_voxels, metrics_against

# The columns of the reference's table; all other columns follow them.
FIRST_COLUMNS = ['dice', 'jaccard', 'voe', 'fnr', 'fpr', 'assd', 'rmsd', 'msd', 'time']
PRINTED_METRICS = 'dice', 'assd', 'hd95', 'surface_dice'
FORMULA_STARTS = '=', '+', '-', '@', '\t', '\r'  # a spreadsheet reads a text with such a start as a formula


def score(
    name: str,
    label: np.ndarray | None,
    before: np.ndarray,
    after: np.ndarray,
    spacing: Sequence[float],
    tolerance: float,
) -> dict:
    """Return a case's row of the table.

    Args:
        name: name of the case.
        label: (z, y, x), non-zero is liver; None if the case has no label.
        before: the mask before the last step of processing, (z, y, x).
        after: the final mask, (z, y, x).
        spacing: (x, y, z) in mm.
        tolerance: tolerance of the surface Dice, in mm.

    Returns:
        The metrics of `after`, and with the suffix _before those of `before`. `intersection` and `sizes` are voxel
        counts from which `write_tables` computes the global Dice. Without a label, the name and the volume in mL alone.
    """
    row = {'case': name}
    if label is None:
        row['volume_ml'] = np.count_nonzero(after) * math.prod(spacing) / 1000
        return row
    metrics_after, metrics_before = metrics_against(label, (after, before), spacing, tolerance)
    row.update(metrics_after)
    row.update({f'{metric}_before': value for metric, value in metrics_before.items()})
    in_label, in_mask, row['intersection'] = count_voxels(label, after)
    row['sizes'] = in_label + in_mask
    row['label_volume_ml'] = in_label * math.prod(spacing) / 1000
    return row


def write_tables(
    folder: Path,
    name: str,
    rows: Sequence[dict],
    parameters: dict,
    failures: Iterable[tuple[str, str]],
    **details: object,
) -> tuple[pandas.DataFrame, dict]:
    """Write the tables of a run into a folder, and return the table and the summary.

    Args:
        folder: an existing folder.
        name: file name of the tables without its ending; it contains 'result', which the summary's name replaces by
            'summary'.
        rows: one row of `score` per case, with its time added.
        parameters: the effective parameters, for the summary.
        failures: (case, reason) of the cases that failed, for the summary.
        details: further entries of the summary.
    """
    table, global_dice = make_table(rows)
    with np.errstate(invalid='ignore'):  # the surface distances of an empty mask are infinite
        statistics = table.agg(['mean', 'std', 'min', 'max'])
    summary = {
        'cases': len(table),
        'scored': int(table['dice'].notna().sum()) if 'dice' in table else 0,
        'global_dice': global_dice,
        'mean': json.loads(statistics.loc['mean'].to_json()),
        'failed': dict(failures),
        'parameters': parameters,
        'made_on': describe_machine(),
        **details,
    }
    write_workbook(folder / f'{name}.xlsx', {'liver': table, 'liver_statistics': statistics})
    with atomic_write(folder / f'{name}.csv') as path:
        table.to_csv(path)
    with atomic_write(folder / f'{name.replace("result", "summary")}.json') as path:
        path.write_text(json.dumps(summary, indent=1))
    return table, summary


def make_table(rows: Sequence[dict]) -> tuple[pandas.DataFrame, float | None]:
    """Return the rows as a table by case, and the global Dice: twice all intersections over all sizes.

    The global Dice is None if no case has a label, or if all masks and labels are empty.
    """
    table = pandas.DataFrame(rows).set_index('case').rename(in_cell)
    global_dice = None
    if 'dice' in table:
        sizes, intersection = table.pop('sizes').sum(), table.pop('intersection').sum()
        global_dice = float(2 * intersection / sizes) if sizes else None
    first = [column for column in FIRST_COLUMNS if column in table]
    others = [column for column in table if column not in first]
    return table[first + others], global_dice


def write_workbook(path: Path, sheets: dict[str, pandas.DataFrame]) -> None:
    """Write tables as the sheets of an Excel file."""
    # The workbook is made in memory, because zipfile prints a traceback of its own if the disk is full.
    workbook = io.BytesIO()
    with pandas.ExcelWriter(workbook, engine='openpyxl') as writer:
        for sheet_name, table in sheets.items():
            table.to_excel(writer, sheet_name=sheet_name)
    with atomic_write(path) as temporary_path:
        temporary_path.write_bytes(workbook.getbuffer())


def in_cell(name: str) -> str:
    """Return a name as the text of a table cell: on one line, with a leading ' where it would be read as a formula."""
    text = one_line(name)
    return f"'{text}" if name.startswith(FORMULA_STARTS) else text


def print_tables(table: pandas.DataFrame, summary: dict) -> None:
    """Log the main metrics of every case before and after the last step of processing, their means, the global Dice."""
    if not summary['scored']:
        log.info('no labels: predicted, not scored')
        return
    columns = [column for metric in PRINTED_METRICS for column in (f'{metric}_before', metric)]
    printed = table[[*columns, 'volume_ml', 'time']]
    log.info(pandas.concat([printed, printed.agg(['mean'])]).to_string(float_format=lambda value: f'{value:.3f}'))
    global_dice = summary['global_dice']
    log.info('global Dice: no liver' if global_dice is None else f'global Dice: {global_dice:.4f}')
