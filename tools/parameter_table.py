"""Write the table of all parameters into README.md, from parameter.py and utilities/run/parameter_rules.py.

Out:  README.md between <!-- parameters --> and <!-- end of parameters -->

    python tools/parameter_table.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base.atomic_write import atomic_write
from utilities.run.parameter_rules import stage_names
from utilities.run.settings import read_parameter_groups

README = Path(__file__).resolve().parents[1] / 'README.md'


def main():
    put_into_readme('parameters', table())
    print(f'written: the parameters of {README}')


def table() -> str:
    """Return every parameter with its default, meaning and stages as a Markdown table, a heading row for each group."""
    rows = ['| parameter | default | meaning (unit, range) | changes |', '|---|---|---|---|']
    for group, parameters in read_parameter_groups().items():
        rows.append(f'| **{group}** | | | |')
        for name, default, comment in parameters:
            cells = (f'`{name}`', f'`{default}`', comment, stage_names(name))
            rows.append(f'| {" | ".join(map(escape_cell, cells))} |')
    return '\n'.join(rows)


def escape_cell(text: str) -> str:
    """Return text for a cell of a Markdown table."""
    return text.replace('|', r'\|')


def put_into_readme(mark, text):
    """Replace what README.md holds between <!-- mark --> and <!-- end of mark -->."""
    old = README.read_text()
    start, end = f'<!-- {mark} -->', f'<!-- end of {mark} -->'
    new = old[: old.index(start)] + f'{start}\n\n{text}\n\n' + old[old.index(end) :]
    with atomic_write(README) as part:
        part.write_text(new)


if __name__ == '__main__':
    main()
