"""Start visdom's server on visdom_port, for this machine alone: a browser shows the plots of train_ds.py, val.py and
the CRF.

In:   visdom's front end; if tools/visdom_front_end.py has not installed it, this script does
Out:  ~/.visdom, visdom's own folder: the plots, written every minute and at the end; the next start shows them again

    python scripts/visdom_server.py
    python scripts/visdom_server.py --visdom_port=8098
"""

import asyncio
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from utilities.base.log import log
from utilities.run.script import run_script
from utilities.viewing.visdom_server import FOLDER, install_front_end, serve


def main(para: SimpleNamespace) -> int:
    """Serve until a signal asks to end; return the exit status."""
    install_front_end()
    (FOLDER / 'view').mkdir(parents=True, exist_ok=True)
    number = asyncio.run(serve(para.visdom_port))
    log.warning(f'stopped by {signal.Signals(number).name}; the plots are kept in {FOLDER}')
    return 128 + number


if __name__ == '__main__':
    run_script(main, __doc__)
