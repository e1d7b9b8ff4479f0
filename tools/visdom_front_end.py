"""Install the front end of visdom's server (JavaScript, style sheets, fonts), so that it starts without internet.

In:   utilities/viewing/visdom_front_end.json: packages of the npm registry, the sha512 of their archives, their files
Out:  the folder visdom/static of this Python; nothing is downloaded if it is complete

    python tools/visdom_front_end.py
"""

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
from utilities.viewing.visdom_front_end import find_static_folder, install


def main(_: SimpleNamespace) -> int:
    """Install what is missing; return the exit status. Raises InputError if a package cannot be downloaded."""
    try:
        if install():
            log.info(f'visdom: front end written to {find_static_folder()}')
    except InputError as error:
        raise InputError(
            f'{error}; to watch trainings, run python tools/visdom_front_end.py again; all else works'
        ) from None
    return 0


if __name__ == '__main__':
    run_script(main, __doc__)
