"""Start visdom's server, for this machine alone, on visdom_port: the plots of train_ds.py, val.py and the CRF in a browser.

In:   visdom's front end, which visdom_front_end.py fetches; where it is missing, it is fetched now
Out:  ~/.visdom, visdom's own folder: the plots, written every minute and at the end, so that they are there after the next start

    python scripts/visdom_server.py
    python scripts/visdom_server.py --visdom_port=8098
"""

import asyncio
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from utilities.base.log import log
from utilities.run.script import run_script
from utilities.viewing.visdom_server import FOLDER, get_front_end, serve


def main(para):
    get_front_end()
    (FOLDER / 'view').mkdir(parents=True, exist_ok=True)
    number = asyncio.run(serve(para.visdom_port))
    log.warning(f'stopped by {signal.Signals(number).name}; the plots are kept in {FOLDER}')
    return 128 + number


if __name__ == '__main__':
    run_script(main, __doc__)
