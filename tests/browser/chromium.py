"""A page in headless Chromium, for tests that are skipped where Chromium or its driver is not installed."""

import os
import shutil
from contextlib import contextmanager

import pytest
from selenium import webdriver

CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
needs_chromium = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="wants Debian's chromium and chromium-driver")
FLAGS = (
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--enable-unsafe-swiftshader',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--hide-scrollbars',
)


@contextmanager
def browser(width=1280, height=900):
    """A selenium driver whose pages are `width` x `height` pixels, narrower than a window can be too."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    # A proxy in the environment cannot reach the pages of this machine.
    os.environ['no_proxy'] = os.environ['NO_PROXY'] = 'localhost,127.0.0.1'
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        driver.execute_cdp_cmd(
            'Emulation.setDeviceMetricsOverride',
            {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False},
        )
        yield driver
    finally:
        driver.quit()


def errors(driver):
    """Return the errors in the console of the page."""
    return [entry['message'] for entry in driver.get_log('browser') if entry['level'] == 'SEVERE']
