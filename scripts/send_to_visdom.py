"""Show the curve and the parameters of a training in visdom after it ran without a visdom server.

In:   module_dir/loss.csv, module_dir/parameters.json
Out:  in visdom (visdom_server, visdom_port), the plots that train_ds.py would have shown

    make visdom                              in another terminal
    python scripts/send_to_visdom.py
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.run.script import run_script
from utilities.training.curve import read_rows
from utilities.viewing.training_monitor import MAX_POINTS, show_curve
from utilities.viewing.visdom_client import VisdomClient, show_parameters


def main(para: SimpleNamespace) -> int:
    """Send the curve and the parameters; return the exit status. Raises InputError if no server answers."""
    folder = Path(para.module_dir)
    rows = read_rows(folder / 'loss.csv')
    if not para.visdom_server:
        raise InputError("parameter visdom_server: wanted the server's address, such as 'http://localhost', got ''")
    client = VisdomClient(folder, para.visdom_server, para.visdom_port)
    show_curve(client, rows, 0, max(1, len(rows) // MAX_POINTS))
    if (folder / 'parameters.json').exists():
        show_parameters(client, json.loads((folder / 'parameters.json').read_text()))
    client.close()
    if not client.is_connected:
        raise InputError(
            f'{para.visdom_server}:{para.visdom_port}: no visdom server answers; start one with: make visdom; or set '
            'visdom_server and visdom_port'
        )
    log.info(f'{len(rows)} steps shown at {para.visdom_server}:{para.visdom_port}/env/{client.environment}')
    return 0


if __name__ == '__main__':
    run_script(main, __doc__)
