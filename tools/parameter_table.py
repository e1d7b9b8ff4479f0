"""Write the table of all parameters into docs/parameters.md, from parameter.py and utilities/run/parameter_rules.py.

Out:  docs/parameters.md between <!-- parameters --> and <!-- end of parameters -->

    python tools/parameter_table.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from tools.documentation import replace_table
from utilities.run.parameter_rules import stage_names
from utilities.run.settings import read_parameter_groups


def main() -> None:
    page = replace_table('parameters', table())
    print(f'written: the table of {page}')


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


if __name__ == '__main__':
    main()
