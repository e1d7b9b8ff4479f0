"""Render report.html: the results of val.py and the CRF as one page that needs no network and no other file."""

import base64
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas
from PIL import Image
from plotly.offline import get_plotlyjs

from utilities.base.errors import one_line
from utilities.viewing.case_figures import COLOURS
from utilities.viewing.result_tables import sort_worst_first

COLUMNS = [
    ('dice', 'Dice', 3),
    ('surface_dice', 'surface Dice', 3),
    ('assd', 'ASSD mm', 2),
    ('hd95', 'HD95 mm', 2),
    ('volume_ml', 'volume mL', 0),
    ('time', 'time s', 1),
]  # of result.csv: name, heading, digits

StageResult = tuple[pandas.DataFrame, dict[str, Any]]  # table and summary, as result_tables.read_result returns them


@dataclass(frozen=True)
class PageCase:
    """A case of the page.

    name: as in the tables. picture: JPEG, or None. note: a text in place of the picture, or ''. surfaces: {name of a
    mask: what pack_surface returns, or None for an empty mask}; empty if no surfaces are shown.
    """

    name: str
    picture: bytes | None
    note: str
    surfaces: dict[str, dict[str, Any] | None]


def render_page(
    title: str, results: dict[str, StageResult], cases: list[PageCase], curves: list[tuple[str, bytes]]
) -> bytes:
    """Render the page.

    Args:
        title: heading of the page.
        results: {name of the stage: its table and summary}, val.py first.
        cases: in the order in which they are shown.
        curves: (title, PNG) of each figure.
    """
    code = (Path(__file__).parent / 'report_page.js').read_text(encoding='utf-8')
    plotly = get_plotlyjs() if any(case.surfaces for case in cases) else ''
    first_table, _ = next(iter(results.values()))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent, encoding='utf-8'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data_url=encode_data_url, one_line=one_line)
    text = environment.get_template('report_page.html').render(
        title=title,
        results=results,
        cases=cases,
        curves=curves,
        overview={stage: summarise(*result) for stage, result in results.items()},
        columns=COLUMNS,
        colours=COLOURS,
        surface_names=[name for name in COLOURS if any(name in case.surfaces for case in cases)],
        label_volumes=first_table.reindex(columns=['label_volume_ml']),
        format_cell=format_cell,
        code=code,
        plotly=plotly,
        script_hashes=[hash_script(script) for script in (code, plotly)],
        parameters=collect_by_stage(results, 'parameters'),
        made_on=collect_by_stage(results, 'made_on'),
    )
    return text.encode('utf-8', 'backslashreplace')


def summarise(table: pandas.DataFrame, summary: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of cases and of scored cases, mean and global Dice, and the worst case; None if unknown."""
    dice = table.reindex(columns=['dice'])['dice'].dropna()
    return {
        'cases': len(table),
        'scored': len(dice),
        'mean': dice.mean() if len(dice) else None,
        'global': summary.get('global_dice'),
        'worst': sort_worst_first(table)[0] if len(dice) else None,
    }


def collect_by_stage(results: dict[str, StageResult], key: str) -> dict[str, list[Any]]:
    """Return {name: its value in each stage, '' where it has none} for the dicts under `key` in the summaries."""
    dicts = [summary[key] for _, summary in results.values()]
    names = dict.fromkeys(name for values in dicts for name in values)
    return {name: [values.get(name, '') for values in dicts] for name in names}


def format_cell(table: pandas.DataFrame, case: str, column: str, digits: int) -> tuple[str, str]:
    """Return a number of a table as (text to show, number for JavaScript); ('–', '') for a missing case or column."""
    value = table[column].get(case, math.nan) if column in table else math.nan
    if math.isnan(value):
        return '–', ''
    if math.isinf(value):
        return '∞', 'Infinity'
    return f'{value:.{digits}f}', repr(float(value))


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode an image, uint8 (rows, columns, 3), as JPEG; full colour resolution keeps the thin outlines sharp."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=85, subsampling=0, optimize=True)
    return file.getvalue()


def encode_data_url(image: bytes, kind: str) -> str:
    """Encode an image file as a data URL; kind: 'png' or 'jpeg'."""
    return f'data:image/{kind};base64,{base64.b64encode(image).decode()}'


def hash_script(script: str) -> str:
    """Return the hash by which the page's Content Security Policy allows an inline script.

    The browser runs only the scripts with these hashes, so no script in the name of a case can run.
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
