"""The metrics of many cases as tables: result.xlsx (liver, liver_statistics), result.csv and summary.json."""

import io
import json
import math

import numpy as np
import pandas

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import one_line
from utilities.base.log import log
from utilities.base.machine import describe_machine
from utilities.evaluation.calculate_metrics import count_voxels, metrics_against

FIRST = ['dice', 'jaccard', 'voe', 'fnr', 'fpr', 'assd', 'rmsd', 'msd', 'time']  # the reference's columns, then ours


def score(name, label, before, after, spacing, tolerance):
    """A row: metrics of the final mask, and with the suffix _before those of the mask it was made from.

    Without a label (None) the row holds the name and the volume in mL alone. overlap and sizes serve the global Dice.
    """
    row = {'case': name}
    if label is None:
        row['volume_ml'] = np.count_nonzero(after) * math.prod(spacing) / 1000
        return row
    final, first = metrics_against(label, (after, before), spacing, tolerance)
    row.update(final)
    row.update({f'{key}_before': value for key, value in first.items()})
    in_label, in_after, row['intersection'] = count_voxels(label, after)
    row['sizes'] = in_label + in_after
    row['label_volume_ml'] = in_label * math.prod(spacing) / 1000
    return row


def write_tables(folder, name, rows, parameters, failures, **more):
    """Write name.xlsx, name.csv and summary (name with 'result' replaced) into folder; returns the table and the summary's dict.

    more: what else the summary tells.
    """
    table = pandas.DataFrame(rows).set_index('case').rename(in_cell)
    scored = 'dice' in table
    sizes = table.pop('sizes').sum() if scored else 0
    intersection = table.pop('intersection').sum() if scored else 0
    first = [column for column in FIRST if column in table]
    table = table[first + [column for column in table if column not in first]]
    with np.errstate(invalid='ignore'):  # an empty mask is infinitely far away
        statistics = table.agg(['mean', 'std', 'min', 'max'])
    workbook = io.BytesIO()  # in memory first: on a full disk zipfile would tell more than the one line
    with pandas.ExcelWriter(workbook, engine='openpyxl') as file:
        table.to_excel(file, sheet_name='liver')
        statistics.to_excel(file, sheet_name='liver_statistics')
    with atomic_write(folder / f'{name}.xlsx') as part:
        part.write_bytes(workbook.getbuffer())
    with atomic_write(folder / f'{name}.csv') as part:
        table.to_csv(part)
    summary = {
        'cases': len(table),
        'scored': int(table['dice'].notna().sum()) if scored else 0,
        'global_dice': float(2 * intersection / sizes) if sizes else None,
        'mean': json.loads(statistics.loc['mean'].to_json()),
        'failed': dict(failures),
        'parameters': parameters,
        'made_on': describe_machine(),
        **more,
    }
    with atomic_write(folder / f'{name.replace("result", "summary")}.json') as part:
        part.write_text(json.dumps(summary, indent=1))
    return table, summary


def in_cell(name):
    """A name as text for a cell: on one line, and not taken for a formula by a spreadsheet."""
    return "'" * name.startswith(('=', '+', '-', '@', '\t', '\r')) + one_line(name)


def print_tables(table, summary):
    """The metrics a reader looks at first, before and after, one row a case."""
    if not summary['scored']:
        log.info('no labels: predicted, not scored')
        return
    columns = [c for key in ('dice', 'assd', 'hd95', 'surface_dice') for c in (f'{key}_before', key)]
    shown = table[[*columns, 'volume_ml', 'time']]
    log.info(pandas.concat([shown, shown.agg(['mean'])]).to_string(float_format=lambda v: f'{v:.3f}'))
    log.info(
        f'global Dice: {summary["global_dice"]:.4f}' if summary['global_dice'] is not None else 'global Dice: no liver'
    )
