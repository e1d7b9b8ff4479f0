"""The page of the visdom server in a browser, with the plots of a real training."""

import base64
import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas
import pytest
from PIL import Image
from visdom import Visdom

from tests.browser.chromium import browser, errors, needs_chromium
from tests.conftest import ROOT
from tests.torture.servers import Server, free_port
from tests.utilities.viewing.npm_registry import needs_front_end
from tests.utilities.viewing.test_visdom_server import pass_with_the_network_cut

SCREENSHOTS = os.environ.get(
    'SCREENSHOTS'
)  # a folder, for the README's picture: of a longer training, on larger phantoms
SETTINGS = dict(
    phantom_train=3,
    phantom_test=0,
    phantom_depth=24,
    phantom_width=32,
    size=8,
    stride=4,
    slice_thickness=12,
    expand_slice=2,
    batch_size=2,
    samples_per_case=4,
    num_workers=0,
    gpu='',
    print_every=1,
    visdom_server='http://127.0.0.1',
    validation_cases=1,
    validate_every=1,
    alpha_epochs=1,
    learning_rate=1e-3,
    learning_rate_decay=[1],
    resume='auto',
)
EPOCHS = 3
if SCREENSHOTS:
    SETTINGS |= dict(
        phantom_train=5,
        phantom_depth=40,
        phantom_width=128,
        size=16,
        slice_thickness=5,
        loss='Hybrid',
        learning_rate=3e-4,
        learning_rate_decay=[15],
        alpha_epochs=5,
    )
    EPOCHS = 20
pytestmark = [pytest.mark.slow, needs_chromium, needs_front_end]


@pytest.fixture(scope='module')
def port(tmp_path_factory):
    number = free_port()
    server = Server(number, 'visdom', tmp_path_factory.mktemp('home'))
    yield number
    server.kill()


@pytest.fixture(scope='module')
def driver():
    with browser(1600, 1200) as chromium:
        yield chromium


class Page:
    """An environment in the browser, and what its panes hold."""

    def __init__(self, driver, port, environment):
        self.driver = driver
        self.visdom = Visdom(
            'http://127.0.0.1', port=port, env=environment, use_incoming_socket=False, raise_exceptions=True
        )
        driver.get(f'http://127.0.0.1:{port}/env/{environment}')

    def pane(self, window, what):
        """Return the value of a JavaScript expression of `pane`, the pane of a window; None while there is none."""
        title = json.loads(self.visdom.get_window_data(window))['title']
        return self.driver.execute_script(
            'const titles = [...document.querySelectorAll(".window .bar div.pull-right")];'
            'const pane = titles.find(title => title.textContent == arguments[0])?.closest(".window");'
            f'return pane && ({what})',
            title,
        )

    def lines(self, window):
        """name -> (x, y) of a window's lines."""
        traces = self.pane(
            window, 'pane.querySelector(".js-plotly-plot")?.data?.map(line => [line.name, [...line.x], [...line.y]])'
        )
        return {name: (x, y) for name, x, y in traces or []}

    def image(self, window):
        """Return the picture of a window as a list of rows of pixels."""
        source = self.pane(window, 'pane.querySelector("img")?.naturalWidth && pane.querySelector("img").src')
        return (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(',')[2]))).convert('RGB')).tolist()
            if source
            else None
        )

    def text(self, window):
        return self.pane(window, 'pane.querySelector(".content-text")?.innerText')


def wait_until_equal(shown, wanted):
    """Wait until shown() is what is wanted, since the page shows a moment later what was sent."""
    end = time.monotonic() + 20
    while shown() != wanted and time.monotonic() < end:
        time.sleep(0.1)
    assert shown() == wanted


def test_what_the_client_sends_is_shown(port, driver):
    page = Page(driver, port, 'by-hand')
    x, y = np.arange(50), np.random.default_rng(0).normal(size=(50, 3))
    picture = np.random.default_rng(0).integers(0, 256, (3, 40, 90)).astype(np.uint8)
    opts = {'title': 'three lines', 'legend': ['a', 'b', 'c']}
    page.visdom.line(y[:30], x[:30], win='lines', opts=opts)
    page.visdom.image(picture, win='image', opts={'title': 'a picture'})
    page.visdom.text('<b>size</b> 48', win='text', opts={'title': 'words'})
    wait_until_equal(
        lambda: page.lines('lines'), {name: (x[:30].tolist(), y[:30, i].tolist()) for i, name in enumerate('abc')}
    )
    page.visdom.line(y[30:], x[30:], win='lines', update='append', opts=opts)
    wait_until_equal(
        lambda: page.lines('lines'), {name: (x.tolist(), y[:, i].tolist()) for i, name in enumerate('abc')}
    )
    wait_until_equal(lambda: page.image('image'), picture.transpose(1, 2, 0).tolist())
    wait_until_equal(lambda: page.text('text'), 'size 48')
    assert errors(driver) == []


@pytest.fixture(scope='module')
def trained(tmp_path_factory, port):
    """train(epochs) trains up to this number of epochs, shown by the server, and returns loss.csv."""
    folder = tmp_path_factory.mktemp('seen')

    def run(script, **more):
        options = [f'--{name}={value}' for name, value in {**SETTINGS, 'visdom_port': port, **more}.items()]
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *options],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=3000,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
        )
        assert done.returncode == 0 and 'warning' not in done.stderr, done.stderr
        return done.stdout

    def train(epochs):
        out = run('train_ds.py', Epoch=epochs)
        assert ('resuming' in out) == (epochs == EPOCHS)
        return pandas.read_csv(folder / 'module/loss.csv')

    run('data_prepare/make_phantom.py')
    run('data_prepare/get_training_set.py')
    train.environment = f'{folder.name}-module'
    return train


def equal(shown, wanted):
    """Return whether lines hold the wanted points: {name: (x, y, tolerance of y)}."""
    return shown.keys() == wanted.keys() and all(
        np.array_equal(shown[name][0], x) and (abs(np.array(shown[name][1]) - y) <= far).all()
        for name, (x, y, far) in wanted.items()
    )


def wanted_lines(table):
    """Return {window: {name: (x, y, tolerance of y)}} of loss.csv; its numbers have six digits."""

    def line(y, rows=table, far=5e-6):
        return rows['step'].to_numpy(), y.to_numpy(), abs(far * y.to_numpy())

    validated = table.dropna(subset='validation_dice')
    seconds = table['seconds'].diff().fillna(table['seconds'])
    rounded = 1e-5 * table['seconds'] / seconds  # of a difference of two of them
    names = {**{f'loss{head}': f'loss{head}' for head in range(1, 5)}, 'weighted sum': 'total'}
    return {
        'loss': {name: line(table[column]) for name, column in names.items()},
        'validation_dice': {'1': line(validated['validation_dice'], validated)},
        'learning_rate': {'1': line(table['learning_rate'])},
        'alpha': {'1': line(table['alpha'])},
        'seconds_per_step': {'1': line(seconds, far=rounded)},
        'samples_per_second': {'1': line(table['samples'] / seconds, far=2 * rounded)},
    }


def test_a_training_is_shown_as_in_its_table_and_continues_after_a_resume(trained, port, driver):
    page = Page(driver, port, trained.environment)
    for epochs in (EPOCHS - 1, EPOCHS):  # the page stays open
        table = trained(epochs)
        assert table['epoch'].max() == table['validation_dice'].count() == epochs
        for window, lines in wanted_lines(table).items():
            wait_until_equal(
                lambda window=window, lines=lines: (window, equal(page.lines(window), lines)), (window, True)
            )
    parameters = page.text('parameters')
    assert f'learning_rate\t{SETTINGS["learning_rate"]}' in parameters and f'Epoch\t{EPOCHS}' in parameters
    sample = np.array(page.image('sample'))
    grey = (sample == sample[..., :1]).all(2)
    assert (
        sample.shape[1] > 400 and 0.005 < 1 - grey.mean() < 0.9 and sample[grey].std() > 10
    )  # a CT, and outlines on it
    assert errors(driver) == []
    if SCREENSHOTS:
        time.sleep(2)
        driver.save_screenshot(f'{SCREENSHOTS}/visdom.png')


def test_shown_with_the_network_cut(tmp_path):
    pass_with_the_network_cut(__file__, 'client_sends', 1, tmp_path)
