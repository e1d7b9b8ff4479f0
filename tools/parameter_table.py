"""Write the table of all parameters into README.md, from parameter.py.

Out:  README.md between <!-- parameters --> and <!-- end of parameters -->

    python tools/parameter_table.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base.atomic_write import atomic_write
from utilities.run.settings import help_text

README = Path(__file__).resolve().parents[1] / 'README.md'


def main():
    put_into_readme('parameters', table())
    print(f'written: the parameters of {README}')


def table():
    """Every parameter with its default and meaning, a group under its name, as Markdown."""
    rows = ['| parameter | default | meaning (unit, range) |', '|---|---|---|']
    _, _, *groups = help_text('parameter.py').split('\n\n')
    for group in groups:
        name, *lines = group.splitlines()
        rows.append(f'| **{name}** | | |')
        for setting, meaning in zip(lines[::2], lines[1::2]):
            parameter, default = setting.removeprefix('  --').split('=', 1)
            rows.append(f'| `{parameter}` | `{in_cell(default)}` | {in_cell(meaning.strip())} |')
    return '\n'.join(rows)


def in_cell(text):
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
