"""report.html from the disk, in a browser."""

import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.browser.chromium import browser, errors, needs_chromium
from tests.conftest import ROOT
from tests.utilities.viewing.finished_run import HTML_NAME, SETTINGS, WORST_FIRST, finished_run

pytestmark = needs_chromium


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """The address of a report of five cases."""
    folder = tmp_path_factory.mktemp('run')
    finished_run(folder)
    command = [
        sys.executable,
        ROOT / 'scripts/write_report.py',
        *(f'--{name}={value}' for name, value in SETTINGS.items()),
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return (folder / 'pred/report.html').as_uri()


@pytest.fixture(scope='module')
def wide(report):
    with browser(1280, 900) as driver:
        driver.get(report)
        yield driver


@pytest.fixture(scope='module')
def narrow(report):
    with browser(390, 844) as driver:
        driver.get(report)
        yield driver


def column(driver, number):
    return driver.execute_script(
        'return [...document.querySelectorAll("#cases tbody tr")].map(row => row.cells[arguments[0]].textContent)',
        number,
    )


def heading(driver, number):
    return driver.find_elements(By.CSS_SELECTOR, '#cases thead tr:last-child th')[number]


def numbers(texts):
    return [float('inf') if text == '∞' else float(text) for text in texts if text != '–']


def width(driver):
    return driver.execute_script('return [document.documentElement.scrollWidth, innerWidth]')


def test_the_page_opens_without_an_error_and_without_network(wide):
    assert wide.title.startswith('Liver segmentation') and wide.execute_script('return typeof Plotly') == 'object'
    addresses = wide.execute_script('return performance.getEntriesByType("resource").map(entry => entry.name)')
    assert not [name for name in addresses if not name.startswith(('data:', 'blob:'))]
    assert errors(wide) == []


def test_a_script_in_the_name_of_a_case_does_not_run(wide):
    assert f'{HTML_NAME}.nii' in column(wide, 0) and wide.title not in ('1', 'smuggled')
    wide.execute_script("""const script = document.createElement("script"); script.textContent = "window.smuggled = 1";
                           document.body.append(script); fetch("http://127.0.0.1:9/").catch(() => 0)""")
    assert wide.execute_script('return window.smuggled') is None
    messages = errors(wide)
    assert len(messages) >= 2 and all('Content Security Policy' in line for line in messages)


@pytest.mark.parametrize('number', [1, 3, 4, 7])
def test_a_click_on_a_heading_sorts_by_its_numbers_both_ways(wide, number):
    button = heading(wide, number).find_element(By.TAG_NAME, 'button')
    directions = []
    for _ in range(3):
        button.click()
        directions.append(heading(wide, number).get_attribute('aria-sort'))
        shown = column(wide, number)
        known = numbers(shown)
        assert known == sorted(known, reverse=directions[-1] == 'descending') and len(set(known)) > 2
        assert shown[len(known) :] == ['–'] * (5 - len(known))  # those without a value stay below
    assert directions[0] == directions[2] and set(directions) == {'ascending', 'descending'}
    assert len(wide.find_elements(By.CSS_SELECTOR, '#cases [aria-sort]')) == 1


def test_the_keyboard_sorts_names_by_their_numbers(wide):
    button = heading(wide, 0).find_element(By.TAG_NAME, 'button')
    wide.execute_script('arguments[0].focus()', button)
    wide.switch_to.active_element.send_keys(Keys.ENTER)
    names = [name for name in column(wide, 0) if name != f'{HTML_NAME}.nii']
    assert names == ['volume-1.nii', 'volume-2.nii', 'volume-3.nii', 'volume-10.nii']
    wide.switch_to.active_element.send_keys(Keys.SPACE)
    assert [name for name in column(wide, 0) if name in names] == names[::-1]


def test_every_picture_loads_and_a_click_enlarges_it(wide):
    sizes = wide.execute_script(
        'return [...document.querySelectorAll("figure img")].map(i => [i.complete, i.naturalWidth, i.clientWidth])'
    )
    assert len(sizes) == 8 and all(complete and natural > 300 for complete, natural, _ in sizes)
    picture = wide.find_element(By.CSS_SELECTOR, '#case-2 img')
    picture.click()
    large = wide.find_element(By.CSS_SELECTOR, 'dialog[open] img')
    assert (
        large.get_attribute('src') == picture.get_attribute('src')
        and large.size['width'] == 900 > picture.size['width']
    )
    large.click()
    assert not wide.find_elements(By.CSS_SELECTOR, 'dialog[open]')


def colours(driver):
    """Distinct colours in the surface's picture that are no grey."""
    image = np.asarray(
        Image.open(io.BytesIO(driver.find_element(By.ID, 'surface').screenshot_as_png)).convert('RGB')
    ).reshape(-1, 3)
    return np.unique(image[np.ptp(image.astype(int), axis=1) > 30], axis=0)


def drawn_meshes(driver):
    """Names and colours of the meshes that are drawn, once they are."""
    WebDriverWait(driver, 60).until(lambda d: d.find_elements(By.CSS_SELECTOR, '#surface canvas'))
    time.sleep(1)  # WebGL in software
    return driver.execute_script(
        'return document.getElementById("surface").data.map(mesh => [mesh.name, mesh.x.length, mesh.i.length])'
    )


@pytest.mark.parametrize('size', ['wide', 'narrow'])
def test_a_surface_is_drawn_once_a_case_is_chosen_and_masks_can_be_switched(request, size):
    driver = request.getfixturevalue(size)
    assert (
        not driver.find_elements(By.CSS_SELECTOR, '#surface canvas')
        and not driver.find_element(By.ID, 'surface').is_displayed()
    )
    chosen = Select(driver.find_element(By.ID, 'chosen'))
    assert [option.text for option in chosen.options] == ['choose a case', *(f'{name}.nii' for name in WORST_FIRST)]
    chosen.select_by_visible_text('volume-1.nii')
    meshes = drawn_meshes(driver)
    assert [name for name, *_ in meshes] == ['label', 'prediction', '3D CRF'] and all(
        points > 100 < faces for _, points, faces in meshes
    )
    assert len(colours(driver)) > 100
    for name in ('prediction', '3D CRF'):
        driver.find_element(By.NAME, name).click()
    assert [name for name, *_ in drawn_meshes(driver)] == ['label']
    image = colours(driver).astype(int)
    assert (image[:, 1] >= image[:, 0]).all() and (image[:, 1] >= image[:, 2]).all()  # the label's green alone
    driver.find_element(By.NAME, 'prediction').click()
    chosen.select_by_visible_text('volume-3.nii')
    assert [name for name, *_ in drawn_meshes(driver)] == ['label']
    box = driver.find_element(By.NAME, 'prediction')
    assert not box.is_enabled() and box.find_element(By.XPATH, '..').text.endswith(': empty')
    before = driver.find_element(By.ID, 'surface').screenshot_as_png
    canvas = driver.find_element(By.ID, 'surface')
    driver.execute_script('arguments[0].scrollIntoView({block: "center"})', canvas)
    ActionChains(driver).move_to_element(canvas).click_and_hold().move_by_offset(60, 20).release().perform()
    time.sleep(1)
    assert driver.find_element(By.ID, 'surface').screenshot_as_png != before  # it turns with the mouse
    assert width(driver)[0] <= width(driver)[1]


@pytest.mark.parametrize('size', ['wide', 'narrow'])
def test_the_page_is_never_wider_than_the_window(request, size):
    driver = request.getfixturevalue(size)
    driver.execute_script('document.querySelectorAll("details").forEach(each => { each.open = true })')
    content, window = width(driver)
    assert content <= window == {'wide': 1280, 'narrow': 390}[size]
    inside = driver.execute_script(
        'const box = document.getElementById("cases").parentElement; return [box.scrollWidth, box.clientWidth]'
    )
    assert (inside[0] > inside[1]) == (size == 'narrow')  # the table scrolls inside its own box


def test_no_script_of_the_page_failed(narrow):
    assert errors(narrow) == []


@pytest.mark.skipif('SCREENSHOTS' not in os.environ, reason="for the README's picture, after make demo")
def test_picture_for_the_readme():
    report = ROOT / 'demo/pred/report.html'
    with browser(1280, 1500) as driver:
        driver.get(report.as_uri())
        chosen = Select(driver.find_element(By.ID, 'chosen'))
        chosen.select_by_index(1)
        drawn_meshes(driver)
        driver.execute_script('scrollTo(0, 0)')
        driver.save_screenshot(f'{os.environ["SCREENSHOTS"]}/report.png')
