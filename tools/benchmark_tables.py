"""Write the tables that follow from the benchmark into the documentation.

In:   benchmarks/results.json, benchmarks/results.md, experiments/lits.py
Out:  the tables marked benchmark, lits and scale on the pages of docs/

    python tools/benchmark_tables.py      a minute
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from benchmarks import lits_estimate, scale
from benchmarks.benchmark import FOLDER
from tools.documentation import replace_table


def main() -> None:
    results = json.loads((FOLDER / 'results.json').read_text())
    tables = {
        'benchmark': (FOLDER / 'results.md').read_text().strip(),
        'lits': lits_estimate.table(results),
        'scale': scale.table(results),
    }
    for mark, text in tables.items():
        print(f'written: the table of {replace_table(mark, text)}')


if __name__ == '__main__':
    main()
