"""Read the tables of val.py and the CRF for figures and the report."""

import json
from pathlib import Path
from typing import Any

import pandas

from utilities.base.errors import InputError
from utilities.run.manifest import settings_of_cases


def read_scores(path: Path, command: str) -> pandas.DataFrame:
    """Read a result.csv: a row for each case, by its name, and only numbers in the columns.

    Raises InputError, which names the command that writes the file, if it is damaged.
    """
    try:
        table = pandas.read_csv(path, index_col='case', dtype={'case': str}, keep_default_na=False, na_values=[''])
        table = table.astype(float)
        if not table.index.is_unique or table.index.hasnans:
            raise ValueError('a case without a name, or twice')
        if ('dice' in table) != ('assd' in table):
            raise ValueError('dice without assd, or assd without dice')
    except (ValueError, TypeError) as error:
        raise InputError(f'{path}: wanted the table that {command} writes, got: {error}; run {command} again') from None
    return table


def read_result(folder: Path | str, name: str, parameter: str, command: str) -> tuple[pandas.DataFrame, dict[str, Any]]:
    """Read the table of a stage, as `read_scores` does, and its summary.

    Args:
        folder: where the stage wrote its results.
        name: name of the table without its ending, 'result' or 'result-post-processing'.
        parameter: the parameter that holds the folder, for error messages.
        command: the command that fills it, for error messages.

    Raises:
        InputError: the table or the summary is missing or damaged.
    """
    csv, json_path = Path(folder) / f'{name}.csv', Path(folder) / f'{name.replace("result", "summary")}.json'
    for path in (csv, json_path):
        if not path.is_file():
            raise InputError(f'{path}: no such file; run {command}, or set {parameter}')
    table = read_scores(csv, command)
    try:
        summary = json.loads(json_path.read_text(encoding='utf-8'))
        summary = {'failed': {}, 'parameters': {}, 'made_on': {}, **summary}
        if not all(isinstance(summary[key], dict) for key in ('failed', 'parameters', 'made_on')):
            raise ValueError('failed, parameters and made_on are no dicts')
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f'{json_path}: wanted what {command} writes, got: {error}; run {command} again') from None
    return table, summary


def sort_worst_first(table: pandas.DataFrame) -> list[str]:
    """Return the cases of a table by rising Dice; cases without Dice stand at the end, in the order of the table."""
    return list(table.reindex(columns=['dice']).sort_values('dice', kind='stable').index)


def name_crf(crf_path: Path | str) -> str:
    """Return '2D CRF' or '3D CRF', from the records in `crf_path`; 'CRF' if there are no records or both kinds."""
    dimensions = [settings.get('dimensions') for settings in settings_of_cases(crf_path) if isinstance(settings, dict)]
    return f'{dimensions[0]}D CRF' if dimensions in ([2], [3]) else 'CRF'
