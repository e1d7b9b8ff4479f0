"""report.html: what val.py and the CRF made of each case, as one page that needs no network and no other file."""

import base64
import hashlib
import io
import json
import math
from pathlib import Path

import jinja2
import pandas
from PIL import Image
from plotly.offline import get_plotlyjs

from utilities.base.errors import InputError, one_line
from utilities.viewing.case_figures import COLOURS

COLUMNS = [
    ('dice', 'Dice', 3),
    ('surface_dice', 'surface Dice', 3),
    ('assd', 'ASSD mm', 2),
    ('hd95', 'HD95 mm', 2),
    ('volume_ml', 'volume mL', 0),
    ('time', 'time s', 1),
]  # of result.csv: name, title, digits


def read_result(folder, name, parameter, command):
    """Table (by case, all of it numbers) and summary (dict) that tables.write_tables wrote into a folder as `name`.

    Raises InputError, which names the parameter that holds the folder and the command that fills it, if one is missing or damaged.
    """
    csv, summary = Path(folder) / f'{name}.csv', Path(folder) / f'{name.replace("result", "summary")}.json'
    for path in (csv, summary):
        if not path.is_file():
            raise InputError(f'{path}: no such file; run {command}, or set {parameter}')
    path = csv
    try:
        table = pandas.read_csv(
            csv, index_col='case', dtype={'case': str}, keep_default_na=False, na_values=['']
        ).astype(float)
        if not table.index.is_unique or table.index.hasnans:
            raise ValueError('a case without a name, or twice')
        if ('dice' in table) != ('assd' in table):
            raise ValueError('dice without assd, or the other way round')
        path = summary
        summary = {'failed': {}, 'parameters': {}, 'made_on': {}, **json.loads(summary.read_text(encoding='utf-8'))}
        if not all(isinstance(summary[part], dict) for part in ('failed', 'parameters', 'made_on')):
            raise ValueError('failed, parameters and made_on are no dicts')
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f'{path}: wanted what {command} wrote, got: {error}; run it again') from None
    return table, summary


def worst_first(table):
    """The cases of a table, lowest Dice first, those without at the end, each in the table's order."""
    return list(table.reindex(columns=['dice']).sort_values('dice', kind='stable').index)


def page(title, results, cases, curves):
    """The page as bytes.

    title: text. results: {stage: (table, summary)} of read_result, the first one val.py's. cases: dicts in the order to be shown: 'name' as
    in the tables, 'picture' (JPEG bytes or None), 'note' (text, '' for none), 'surfaces' ({mask name: packed
    surface, or None for an empty mask}, or None). curves: list of (title, PNG bytes).
    """
    code = (Path(__file__).parent / 'report_page.js').read_text(encoding='utf-8')
    plotly = get_plotlyjs() if any(case['surfaces'] for case in cases) else ''
    first, _ = next(iter(results.values()))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent, encoding='utf-8'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(url=data_url, one_line=one_line)
    text = environment.get_template('report_page.html').render(
        title=title,
        results=results,
        cases=cases,
        curves=curves,
        overview=overview(results),
        columns=COLUMNS,
        colours=COLOURS,
        labels=first.reindex(columns=['label_volume_ml'])['label_volume_ml'],
        cell=cell,
        code=code,
        plotly=plotly,
        hashes=[digest(script) for script in (code, plotly)],
        parameters=side_by_side(results, 'parameters'),
        made_on=side_by_side(results, 'made_on'),
    )
    return text.encode('utf-8', 'backslashreplace')


def overview(results):
    """{stage: what a reader wants first}: cases, scored, mean and global Dice (None: no label), the worst case or None."""
    found = {}
    for stage, (table, summary) in results.items():
        dice = table.reindex(columns=['dice'])['dice'].dropna()
        found[stage] = {
            'cases': len(table),
            'scored': len(dice),
            'mean': dice.mean() if len(dice) else None,
            'global': summary.get('global_dice'),
            'worst': worst_first(table)[0] if len(dice) else None,
        }
    return found


def side_by_side(results, part):
    """{name: [its value of each stage, '' where it has none]} of the parts of that name of the summaries."""
    parts = [summary[part] for _, summary in results.values()]
    return {
        name: [part.get(name, '') for part in parts] for name in dict.fromkeys(name for part in parts for name in part)
    }


def cell(table, case, column, digits):
    """(shown text, number that JavaScript reads or '') of a case in a table; a case or column that is missing has none."""
    value = table[column].get(case, math.nan) if column in table else math.nan
    if math.isnan(value):
        return '–', ''
    return ('∞', 'Infinity') if math.isinf(value) else (f'{value:.{digits}f}', repr(float(value)))


def jpeg(picture):
    """JPEG bytes of an image (rows, columns, 3) uint8, with colours as sharp as the light: thin lines keep theirs."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, 'JPEG', quality=85, subsampling=0, optimize=True)
    return file.getvalue()


def data_url(image, kind):
    return f'data:image/{kind};base64,{base64.b64encode(image).decode()}'


def digest(script):
    """What a content security policy knows an inline script by: the page runs our own scripts, and none that a case's name smuggles in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
