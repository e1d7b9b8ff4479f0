"""README.md and docs/: tables agree with code and measurements, commands run, parameters, files and links exist."""

import ast
import json
import re
import subprocess
import textwrap

import pytest
import torch
from torch.distributed.run import get_args_parser

from benchmarks import lits_estimate
from data_prepare.phantom import phantom
from net.ResUNet import ResUNet
from tests.conftest import ROOT
from tools import parameter_table
from tools.documentation import documentation_pages, replace_table
from utilities.run.parameter_rules import Rule
from utilities.run.settings import read_settings
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume

PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in documentation_pages()}
ALL_TEXT = '\n'.join(PAGES.values())
RESULTS = ROOT / 'benchmarks/results.json'

# Where each command of the documentation is run: a file of the repository that contains the given text.
LITS_BLOCK = ('tests/test_readme.py', 'def test_the_commands_for_lits_run')
COMMANDS_THAT_RUN = {
    'make setup': ('.ci/run', 'make setup'),
    'make demo': ('.ci/run', 'make demo'),
    'make test': ('.ci/run', 'make test'),
    '. .venv/bin/activate': LITS_BLOCK,
    'L=--parameters=experiments/lits.py': LITS_BLOCK,
    'python data_prepare/check_dataset.py $L': LITS_BLOCK,
    'python data_prepare/analyse_dataset.py $L': LITS_BLOCK,
    'python data_prepare/get_training_set.py $L': LITS_BLOCK,
    'python train_ds.py $L': LITS_BLOCK,
    'python val.py $L': LITS_BLOCK,
    'python Densecrf/2D-CRF.py $L --crf_path=crf2D': LITS_BLOCK,
    'python Densecrf/3D-CRF.py $L': LITS_BLOCK,
    'python scripts/draw_figures.py $L': LITS_BLOCK,
    'python scripts/write_report.py $L': LITS_BLOCK,
    'python scripts/draw_figures.py': ('tests/test_pipeline.py', 'scripts/draw_figures.py'),
    'python scripts/write_report.py': ('tests/test_pipeline.py', 'scripts/write_report.py'),
    'make visdom': ('tests/utilities/viewing/test_visdom_server.py', 'scripts/visdom_server.py'),
    'python tools/visdom_front_end.py': ('Makefile', 'tools/visdom_front_end.py'),
    ".venv/bin/python -m pytest -m 'not slow'": ('.ci/run', 'make test'),
    '.venv/bin/python -m pytest tests/loss': ('.ci/run', 'make test'),
    'python -m pytest tests/loss': ('.ci/run', 'make test'),
}


def between(mark):
    """Return the text between the marks of a table, on whichever page it is."""
    return ALL_TEXT.split(f'<!-- {mark} -->\n\n')[1].split(f'\n\n<!-- end of {mark} -->')[0]


def commands_of(page):
    """Return the commands in the bash blocks of a page, without comments and with continued lines joined."""
    blocks = re.findall(r'```bash\n(.+?)```', page, re.DOTALL)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    commands = [re.sub(r' +', ' ', re.sub(r'\s#.*', '', line)).strip() for line in lines]
    return [command for command in commands if command and not command.startswith('#')]


def test_the_table_of_parameters_is_that_of_parameter_py():
    assert between('parameters') == parameter_table.table(), 'run: make readme'
    source = (ROOT / 'parameter.py').read_text()
    assigned = {node.targets[0].id: ast.get_source_segment(source, node.value) for node in ast.parse(source).body[1:]}
    rows = dict(re.findall(r'^\| `(\w+)` \| `(.+?)` \| .{3,} \| .* \|$', PAGES['docs/parameters.md'], re.MULTILINE))
    assert list(rows.items()) == list(assigned.items())


def test_a_new_parameter_and_its_group_come_into_the_table(tmp_path, monkeypatch):
    file = tmp_path / 'parameter.py'
    file.write_text(
        '"""Doc."""\n# --- zebra\nstripes = 4  # black | white (1 or more)\nname = "a=b"  # of it\n\n'
        '# --- fish\nfins = 2  # all\n'
    )
    monkeypatch.setattr('utilities.run.settings.PARAMETER_FILE', file)
    rules = {'stripes': Rule(('training_set', 'crf')), 'name': Rule(), 'fins': Rule(('check',))}
    monkeypatch.setattr('utilities.run.parameter_rules.RULES', rules)
    assert parameter_table.table().splitlines()[2:] == [
        '| **zebra** | | | |',
        r'| `stripes` | `4` | black \| white (1 or more) | training set, crf |',
        '| `name` | `"a=b"` | of it |  |',
        '| **fish** | | | |',
        '| `fins` | `2` | all | check |',
    ]


def test_only_the_text_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / 'docs/page.md'
    page.parent.mkdir()
    page.write_text('before\n<!-- a -->\n\nold\n\n<!-- end of a -->\nafter\n')
    assert replace_table('a', 'new', tmp_path) == page
    assert page.read_text() == 'before\n<!-- a -->\n\nnew\n\n<!-- end of a -->\nafter\n'
    with pytest.raises(ValueError, match='<!-- b -->'):
        replace_table('b', 'new', tmp_path)


def test_times_and_sizes_of_lits_are_those_of_the_benchmark():
    assert between('lits') == lits_estimate.table(json.loads(RESULTS.read_text())), 'run: make readme'


def stages(rows):
    """Cells by the stage's name."""
    lines = lits_estimate.table({'machine': 'A, 4 cores, 8 GiB', 'rows': rows}).split('\n\n')[0].splitlines()
    return {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:])
    }


def test_figures_of_lits_with_a_pencil():
    """58,638 / 131 = 448 slices of 262,144 pixels; 35 windows of 48 slices, 12 apart; 8 windows in 200 slices."""
    assert lits_estimate.WEIGHT_BYTES == 4 * sum(weights.numel() for weights in ResUNet(training=True).parameters())
    found = stages(
        [
            {
                'stage': 'get_training_set.py, a case of 160 x 512 x 512, with reading and writing',
                'ours_s': 10,
                'ours_mb': 1600,
            },
            {'stage': 'val.py, 200 x 512 x 512, the ResUNet on the CPU', 'ours_s': 80, 'ours_mb': 1000},
            {'stage': 'val.py, 1,000 x 512 x 512, a stand-in for the network', 'ours_s': 1, 'ours_mb': 3000},
            {
                'stage': 'check_dataset.py, 3 cases of 448 x 512 x 512',
                'ours_s': 5,
                'ours_mb': 448,
                'start_s': 2,
                'case_s': 1,
            },
            {
                'stage': '3D-CRF.py, 3 cases of 448 x 512 x 512',
                'ours_s': 22,
                'ours_mb': 1400,
                'start_s': 10,
                'case_s': 4,
            },
            {
                'stage': 'draw_figures.py, 3 cases of 448 x 512 x 512',
                'ours_s': 10,
                'ours_mb': 900,
                'start_s': 4,
                'case_s': 2,
            },
            {
                'stage': 'write_report.py, 3 cases of 448 x 512 x 512',
                'ours_s': 8,
                'ours_mb': 1250,
                'start_s': 5,
                'case_s': 1,
            },
            {'stage': 'training step on the CPU, 1 x 48 x 256 x 256', 'ours_s': 20, 'ours_mb': 6600},
            {'stage': 'training step on a GPU, 48 x 256 x 256', 'ours_s': 3, 'ours_mb': 1},
        ]
    )
    assert found['the data, unpacked'][3] == '46.1 GB'  # 58,638 x 262,144 x (2 + 1) bytes
    # 111 x 10 s x 448 / 160 = 3,108 s; 111 x 240 x (65,536 x 2 + 262,144) bytes; 1.6 GB x 1,026 / 160
    assert found['training set'][1:] == ['52 min', '', '10.5 GB', '10.3 GB']
    # 111,000 steps of 20 s are 25.7 days, of 0.3 s 9.25 h; 24 x 38 MB
    assert found['training'][1:] == ['26 days', '9 h', '0.9 GB', '6.6 GB']
    assert found['prediction'][1:] == ['117 min', 'not measured', '2.3 GB', '3.0 GB']  # 20 x 80 s x 35 / 8
    assert found['check'][1:] == ['2 min', '', '', '1.0 GB']  # 2 + 131 x 1 s = 133 s; 448 MB x 1,026 / 448
    assert found['3D CRF'][1:] == ['90 s', '', '2.3 GB', '1.4 GB']  # 10 + 20 x 4 s; 20 x 448 x 262,144 bytes
    assert found['2D CRF'][1:] == ['not measured', '', '2.3 GB', 'not measured']
    assert found['figures'][1:] == ['10 s', '', '', '0.9 GB']  # of three cases, however many there are
    assert found['report'][1:] == ['25 s', '', '', '1.2 GB']  # 5 + 20 x 1 s


def test_what_was_not_measured_is_no_figure():
    found = stages([{'stage': 'training step on a GPU, 48 x 256 x 256'}])
    assert all(
        cell in ('', 'not measured')
        for name, cells in found.items()
        if name != 'the data, unpacked'
        for cell in cells[1:3]
    )
    assert found['training'][2] == 'not measured'


def test_the_loss_and_the_network_of_the_documentation_work():
    names = {}
    for block in re.findall(r'```python\n(.+?)```', PAGES['docs/extending.md'], re.DOTALL):
        exec(textwrap.dedent(block), names)
    ct, target = torch.randn(2, 1, 8, 16, 16), torch.randint(0, 2, (2, 8, 32, 32), dtype=torch.uint8)
    heads = names['UNet'](training=True)(ct)
    assert [tuple(head.shape) for head in heads] == [(2, 1, 8, 32, 32)] * 4
    loss = names['FocalLoss']()(heads[3], target)
    loss.backward()
    p = heads[3].detach().double()[:, 0]
    by_hand = torch.where(target > 0, -((1 - p) ** 2) * p.log(), -(p**2) * (1 - p).log()).mean()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert names['UNet'](training=False)(ct).shape == (2, 1, 8, 32, 32)


def test_every_parameter_that_the_documentation_names_exists():
    known = vars(read_settings([])).keys() | {'parameters', 'help', 'name'}
    benchmark_options = {'full', 'only', 'minutes', 'seed'}
    torchrun = {option.lstrip('-') for action in get_args_parser()._actions for option in action.option_strings}
    pip = {'build-constraint'}
    dask = {'nthreads', 'memory-limit', 'no-dashboard', 'local-directory', 'scheduler-file'}
    slurm = {'job-name', 'nodes', 'ntasks-per-node', 'gpus-per-node', 'cpus-per-task', 'time', 'signal', 'dependency'}
    slurm |= {'ntasks', 'mem-per-cpu', 'exact'}
    kubectl = {'image', 'port', 'replicas'}
    named = set(re.findall(r'(?<![\w-])--(\w[\w-]*)', ALL_TEXT))
    assert named <= known | benchmark_options | torchrun | pip | dask | slurm | kubectl


def test_every_script_and_target_that_the_documentation_names_exists():
    scripts = re.findall(r'python ([\w/.-]+\.py)|`([\w-]+/[\w/.-]+\.py)`', ALL_TEXT)
    missing = {name for names in scripts for name in names if name and not (ROOT / name).is_file()}
    former = {'utilities/draw_figures.py'}  # named in the changelog
    assert missing - former == {'loss/Focal.py', 'net/UNet.py'}  # the examples of docs/extending.md
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert {*re.findall(r'(?:`|^)make ([a-z-]+)', ALL_TEXT, re.MULTILINE)} <= {*targets}


def test_every_command_is_run_by_a_test_or_named_as_not_run():
    commands = {command for page in PAGES.values() for command in commands_of(page)}
    not_run = commands_of(PAGES['CONTRIBUTING.md'].split('## Commands that no test runs')[1])
    assert set(COMMANDS_THAT_RUN) | set(not_run) == commands and not set(COMMANDS_THAT_RUN) & set(not_run)
    for path, text in COMMANDS_THAT_RUN.values():
        assert text in (ROOT / path).read_text(), f'{path} does not contain {text!r}'


def lits_commands(page):
    """Return the commands of the block for LiTS, without the server, which runs until it is stopped."""
    block = next(b for b in re.findall(r'```bash\n.+?```', PAGES[page], re.DOTALL) if 'get_training_set' in b)
    return [command for command in commands_of(block) if command != 'make visdom']


SMALL_SETTINGS = """
size = 8
stride = 4
slice_thickness = 12
expand_slice = 2
Epoch = 1
num_workers = 0
gpu = ''
visdom_server = ''
training_set_path = './train-lits/'
"""


@pytest.mark.slow
def test_the_commands_for_lits_run(tmp_path):
    """Run the block of commands for LiTS as it stands, on phantoms in the layout of LiTS and with settings for them."""
    commands = lits_commands('docs/lits.md')
    assert set(lits_commands('README.md')) <= set(commands) <= set(COMMANDS_THAT_RUN)
    for path in ROOT.iterdir():
        if path.name not in ('experiments', 'demo', '.git'):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / 'img').unlink()
    (tmp_path / 'experiments').mkdir()
    (tmp_path / 'experiments/lits.py').write_text((ROOT / 'experiments/lits.py').read_text() + SMALL_SETTINGS)
    for folder, number in (('train', 0), ('test', 28)):
        ct, label = phantom(number, (24, 40, 40), (9, 9, 12))
        for kind, name, array in (('CT', 'volume', ct), ('seg', 'segmentation', label)):
            write_volume(tmp_path / f'LiTS/{folder}/{kind}/{name}-{number}.nii', array, Geometry((9, 9, 12)))
    done = subprocess.run(['bash', '-ec', '\n'.join(commands)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / 'pred/report.html').is_file() and (tmp_path / 'crf/crf-28.nii').is_file()


def anchors_of(page):
    heads = re.findall(r'^#+ (.+)$', page, re.MULTILINE)
    return [re.sub(r'[^\w -]', '', head).lower().replace(' ', '-') for head in heads]


LINKS = [(page, link) for page, text in PAGES.items() for link in sorted(set(re.findall(r'\]\(([^)]+)\)', text)))]


@pytest.mark.parametrize('page, link', LINKS)
def test_links_lead_to_files_and_headings_that_exist(page, link):
    if link.startswith('https://'):
        return
    path, _, anchor = link.partition('#')
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.resolve().is_file()
    assert not anchor or anchor in anchors_of(target.read_text())


def test_the_readme_is_short_and_lines_are_not_long():
    assert len(PAGES['README.md'].splitlines()) <= 200
    written_by_hand = re.sub(r'<!-- (\w+) -->.+?<!-- end of \1 -->', '', ALL_TEXT, flags=re.DOTALL)
    assert not [line for line in written_by_hand.splitlines() if len(line) > 140 and line[0] != '|']


def test_every_page_of_docs_is_linked_from_the_readme():
    assert {name for name in PAGES if name.startswith('docs/')} <= set(
        re.findall(r'\]\((docs/[\w.]+)', PAGES['README.md'])
    )
