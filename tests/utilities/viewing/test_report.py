"""report.html of a finished run, read with an HTML parser."""

import base64
import csv
import fcntl
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from scripts import write_report
from tests.conftest import ROOT
from tests.utilities.viewing.finished_run import (
    GEOMETRY,
    HTML_NAME,
    SCRIPT_TEXT,
    SETTINGS,
    SHAPE,
    SHIFTS,
    WORST_FIRST,
    finished_run,
)
from utilities.run.settings import read_settings
from utilities.viewing.case_figures import draw_case
from utilities.viewing.case_volumes import CaseVolumes
from utilities.viewing.report import PageCase, encode_jpeg, render_page
from utilities.viewing.result_tables import read_result
from utilities.viewing.surface_mesh import extract_surface, pack_surface
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume


class Page(HTMLParser):
    """The tags, the tables (rows of texts) and the scripts of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.tables, self.scripts, self.open_tags = [], {}, [], []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open_tags.append(tag)
        if tag == 'table':
            self.tables[dict(attributes).get('id', len(self.tables))] = []
        rows = list(self.tables.values())[-1] if self.tables else []
        if tag == 'tr':
            rows.append([])
        if tag in ('td', 'th'):
            rows[-1].append('')
        if tag == 'script':
            self.scripts.append((dict(attributes), ''))

    def handle_endtag(self, tag):
        while self.open_tags and self.open_tags.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open_tags[-1:] == ['script']:
            self.scripts[-1] = self.scripts[-1][0], self.scripts[-1][1] + data
        elif 'td' in self.open_tags or 'th' in self.open_tags:
            list(self.tables.values())[-1][-1][-1] += data.strip()

    def attributes_of(self, tag):
        return [attributes for item, attributes in self.tags if item == tag]

    def surfaces(self):
        """{case: its surfaces}, the cases as the select box names them."""
        numbers = [
            int(item['id'].removeprefix('surfaces-'))
            for item, _ in self.scripts
            if item.get('id', '').startswith('surfaces-')
        ]
        texts = [text for item, text in self.scripts if item.get('id', '').startswith('surfaces-')]
        return {self.tables['cases'][1 + number][0]: json.loads(text) for number, text in zip(numbers, texts)}


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """A run, its report and the finished process that wrote it."""
    folder = tmp_path_factory.mktemp('run')
    finished_run(folder)
    command = [
        sys.executable,
        ROOT / 'scripts/write_report.py',
        *(f'--{name}={value}' for name, value in SETTINGS.items()),
    ]
    finished = subprocess.run(
        [*command, '--report_surfaces=3'], cwd=folder, capture_output=True, text=True, timeout=300
    )
    return SimpleNamespace(folder=folder, finished=finished, page=Page(folder / 'pred/report.html'))


@pytest.fixture
def write_report_with(tmp_path, monkeypatch, capsys):
    """write_report_with(name=value, ...) writes the report of a run in tmp_path; returns status, stdout and stderr."""
    finished_run(tmp_path)
    monkeypatch.chdir(tmp_path)

    def main(**others):
        status = write_report.main(
            read_settings([f'--{name}={value}' for name, value in {**SETTINGS, 'report_surfaces': 0, **others}.items()])
        )
        stdout, stderr = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=stdout, stderr=stderr)

    return main


def csv_rows(path):
    with open(path, newline='') as file:
        return {row['case']: row for row in csv.DictReader(file)}


def test_the_table_holds_the_rows_of_both_csv_files_worst_first(report):
    assert report.finished.returncode == 0, report.finished.stderr
    rows = report.page.tables['cases'][2:]
    assert [row[0] for row in rows] == [f'{name}.nii' for name in WORST_FIRST]
    predicted, refined = (
        csv_rows(report.folder / name) for name in ('pred/result.csv', 'crf/result-post-processing.csv')
    )
    for row in rows:
        wanted = []
        for table in (predicted, refined):
            for column, digits in (
                ('dice', 3),
                ('surface_dice', 3),
                ('assd', 2),
                ('hd95', 2),
                ('volume_ml', 0),
                ('time', 1),
            ):
                text = table.get(row[0], {}).get(column)
                wanted.append('–' if not text else '∞' if text == 'inf' else f'{float(text):.{digits}f}')
        text = predicted[row[0]]['label_volume_ml']
        assert row[1:] == wanted + [f'{float(text):.0f}' if text else '–']
    assert '∞' in rows[0] and rows[3][7:13] == ['–'] * 6 and rows[4][1] == '–'


def test_the_summary_agrees_with_the_tables_and_lists_failures(report):
    overview = {row[0]: row[1:] for row in report.page.tables['overview']}
    dice = {
        stage: [float(row['dice']) for row in csv_rows(report.folder / name).values() if row['dice']]
        for stage, name in (('val.py', 'pred/result.csv'), ('3D CRF', 'crf/result-post-processing.csv'))
    }
    assert overview[''] == list(dice) and overview['cases'] == ['5', '4'] and overview['with a label'] == ['4', '3']
    assert overview['mean Dice'] == [f'{sum(values) / len(values):.3f}' for values in dice.values()]
    assert overview['global Dice'] == ['0.500', '0.500'] and overview['worst case'] == ['0.000, volume-3.nii'] * 2
    assert overview['failed'] == ['0', '1']
    assert (
        f'3D CRF: {SCRIPT_TEXT}'.replace('<', '&lt;').replace('>', '&gt;').replace('"', '&#34;')
        in (report.folder / 'pred/report.html').read_text()
    )


def test_every_case_has_a_picture_and_the_table_links_to_it(report):
    ids = [item['id'] for item in report.page.attributes_of('figure') if 'id' in item]
    links = [item['href'] for item in report.page.attributes_of('a') if item['href'].startswith('#case-')]
    assert links == [f'#{name}' for name in ids] and len(ids) == len(SHIFTS)
    images = [item['src'].split(',', 1) for item in report.page.attributes_of('img') if 'src' in item]
    sizes = [Image.open(io.BytesIO(base64.b64decode(text))).size for _, text in images]
    assert [kind for kind, _ in images] == ['data:image/png;base64'] * 3 + ['data:image/jpeg;base64'] * 5
    assert all(width == 900 and height > 150 for width, height in sizes[3:])
    assert any(
        np.ptp(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int), axis=-1).max() > 100
        for kind, text in images
        if 'jpeg' in kind
    )  # outlines have colours


def test_the_worst_cases_have_surfaces_at_the_positions_of_the_masks(report):
    surfaces = report.page.surfaces()
    assert list(surfaces) == [f'{name}.nii' for name in WORST_FIRST[:3]]
    assert surfaces['volume-3.nii'].keys() == {'label', 'prediction', '3D CRF'}
    assert surfaces['volume-3.nii']['prediction'] is None and surfaces['volume-3.nii']['3D CRF'] is None
    for name, shift in (('label', 0), ('prediction', SHIFTS['volume-1']), ('3D CRF', SHIFTS['volume-1'] // 2)):
        found = surfaces['volume-1.nii'][name]
        numbers = (
            np.frombuffer(base64.b64decode(found['vertices']), '<u2').reshape(-1, 3) * found['scale'] + found['origin']
        )
        assert np.allclose((numbers.min(0) + numbers.max(0)) / 2, GEOMETRY.position((10, 22, 24 + shift)), atol=1)
        assert np.allclose(np.ptp(numbers, axis=0), 52, atol=5)


def test_the_page_needs_no_network(report):
    addresses = [
        value
        for _, attributes in report.page.tags
        for name, value in attributes.items()
        if name in ('src', 'href', 'action', 'srcset', 'data', 'poster', 'formaction')
    ]
    assert addresses and all(value.startswith(('data:', '#')) for value in addresses)
    text = (report.folder / 'pred/report.html').read_text(encoding='utf-8')
    style = re.search('<style>(.*?)</style>', text, re.S)[1]
    assert 'url(' not in style and '@import' not in style
    policy = next(
        item['content']
        for item in report.page.attributes_of('meta')
        if item.get('http-equiv') == 'Content-Security-Policy'
    )
    assert "default-src 'none'" in policy and "'unsafe-eval'" not in policy and 'http' not in policy


def test_names_and_reasons_with_html_are_shown_as_text(report):
    assert f'{HTML_NAME}.nii' in [row[0] for row in report.page.tables['cases']]
    assert not any('onerror' in attributes for _, attributes in report.page.tags)
    kinds = [attributes.get('type') for attributes, _ in report.page.scripts]
    assert kinds == ['application/json'] * 3 + [None] * 2
    assert not any(SCRIPT_TEXT in text or HTML_NAME in text for _, text in report.page.scripts)


def test_parameters_and_versions_of_both_stages_are_shown_and_differences_are_marked(report):
    rows = {
        row[0]: row[1:]
        for key, table in report.page.tables.items()
        if key not in ('overview', 'cases')
        for row in table
    }
    assert (
        rows['max_iter'] == ['20', '12']
        and rows['loss'] == ['<Tversky>'] * 2
        and rows['machine'] == ['a machine & 2 cores'] * 2
    )
    assert report.page.tags.count(('tr', {'class': 'differs'})) == 1


def test_without_crf_the_report_is_of_val_py_alone(write_report_with, tmp_path):
    finished = write_report_with(crf_path='elsewhere')
    page = Page(tmp_path / 'pred/report.html')
    assert (
        finished.returncode == 0 and page.tables['overview'][0] == ['', 'val.py'] and len(page.tables['cases'][2]) == 8
    )
    assert (
        not page.surfaces() and len((tmp_path / 'pred/report.html').read_bytes()) < 2e6
    )  # no Plotly where nothing turns
    assert not (tmp_path / 'elsewhere').exists()


def test_cases_whose_crf_refined_another_prediction_are_left_out(write_report_with, tmp_path):
    path = tmp_path / 'crf/result-post-processing.csv'
    rows = csv_rows(path)
    rows['volume-1.nii']['dice_before'] = '0.123'
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, rows['volume-1.nii'])
        writer.writeheader()
        writer.writerows([*rows.values(), {**rows['volume-3.nii'], 'case': 'volume-99.nii'}])
    finished = write_report_with()
    assert finished.returncode == 0 and finished.stderr.count('warning: volume-1.nii: ') == 1
    page = Page(tmp_path / 'pred/report.html')
    assert page.tables['cases'][3][7:13] == ['–'] * 6 and not any('volume-99' in row[0] for row in page.tables['cases'])
    overview = {row[0]: row[1:] for row in page.tables['overview']}
    assert overview['cases'] == ['5', '3'] and overview['global Dice'] == ['0.500', '–']


def test_a_case_without_ct_or_mask_stays_in_the_table_with_one_line_each(write_report_with, tmp_path):
    (tmp_path / 'CT/volume-2.nii').unlink()
    (tmp_path / 'pred/pred-1.nii').unlink()
    finished = write_report_with()
    assert finished.returncode == 0
    assert [finished.stderr.count(f'warning: {name}') for name in ('volume-2.nii: ', 'volume-1.nii: ')] == [1, 1]
    page = Page(tmp_path / 'pred/report.html')
    assert [row[0] for row in page.tables['cases'][2:]] == [f'{name}.nii' for name in WORST_FIRST]
    assert sum(item.get('src', '').startswith('data:image/jpeg') for item in page.attributes_of('img')) == 4
    assert 'No picture: the CT was removed.' in (tmp_path / 'pred/report.html').read_text()


def test_a_damaged_volume_or_another_grid_leaves_out_only_the_picture(write_report_with, tmp_path):
    (tmp_path / 'CT/volume-1.nii').write_bytes((tmp_path / 'CT/volume-1.nii').read_bytes()[:5000])
    write_volume(tmp_path / 'crf/crf-3.nii', np.zeros((3, 4, 5), np.uint8), GEOMETRY)
    finished = write_report_with()
    assert finished.returncode == 1 and finished.stdout.count('failed: ') == 2 and 'Traceback' not in finished.stderr
    page = Page(tmp_path / 'pred/report.html')
    assert (
        len(page.tables['cases']) == 7
        and sum(item.get('src', '').startswith('data:image/jpeg') for item in page.attributes_of('img')) == 3
    )
    assert f'wanted the grid of volume-3.nii, {SHAPE} voxels' in (tmp_path / 'pred/report.html').read_text()


def test_a_damaged_loss_csv_leaves_out_only_its_curve(write_report_with, tmp_path):
    (tmp_path / 'module/loss.csv').write_text('epoch,st')
    finished = write_report_with()
    assert finished.returncode == 0 and finished.stdout.count('not drawn: Losses of the training: ') == 1
    assert (
        sum(
            item.get('src', '').startswith('data:image/png')
            for item in Page(tmp_path / 'pred/report.html').attributes_of('img')
        )
        == 2
    )


def test_without_predictions_there_is_one_line_and_no_new_folder(script, tmp_path):
    finished = script('scripts/write_report.py', pred_path='elsewhere')
    assert finished.returncode == 1 and finished.stderr.startswith(
        'error: elsewhere/result.csv: no such file; run python val.py'
    )
    assert finished.stderr.count('\n') == 1 and not (tmp_path / 'elsewhere').exists()


def test_nothing_is_written_to_a_folder_that_another_run_uses(script, tmp_path):
    finished_run(tmp_path)
    (tmp_path / 'pred/report.html').write_text('of before')
    with open(tmp_path / 'pred/.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = script('scripts/write_report.py', **SETTINGS)
    assert finished.returncode == 1 and 'is at work in it' in finished.stderr and finished.stderr.count('\n') == 1
    assert (tmp_path / 'pred/report.html').read_text() == 'of before'


def test_twenty_cases_of_the_size_of_lits_stay_below_15_mb(tmp_path):
    """Noise gives pictures and surfaces larger than those of any patient."""
    finished_run(tmp_path)
    table, summary = read_result(tmp_path / 'pred', 'result', 'pred_path', 'python val.py')
    rng = np.random.default_rng(0)
    ct = rng.normal(50, 40, (60, 512, 512)).astype(np.int16)
    masks = {name: rng.random(ct.shape) < share for name, share in (('label', 1), ('prediction', 0.5), ('3D CRF', 0.6))}
    geometry = Geometry((0.7, 0.7, 4.0))
    outlines = {name: np.kron(rng.random((15, 16, 16)) < 0.5, np.ones((4, 32, 32), bool)) for name in masks}
    picture = encode_jpeg(draw_case(CaseVolumes('volume-1', ct, outlines, geometry), (-200, 200)))
    surfaces = {name: pack_surface(*extract_surface(mask, geometry)) for name, mask in masks.items()}
    assert len(picture) > 50_000 and all(len(item['triangles']) > 6 * 3000 * 4 / 3 for item in surfaces.values())
    case = PageCase('volume-1.nii', picture, '', surfaces)
    assert 8e6 < len(render_page('pred', {'val.py': (table, summary)}, [case] * 20, [])) < 15e6
