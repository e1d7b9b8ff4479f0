"""README.md: its tables are what the code and the measurements say, and its commands, parameters, files and links are there."""

import ast
import json
import re
import textwrap

import pytest
import torch
from torch.distributed.run import get_args_parser

from benchmarks import lits_estimate
from net.ResUNet import ResUNet
from tests.conftest import ROOT
from tools import parameter_table
from utilities.run.parameter_rules import Rule
from utilities.run.settings import read_settings

README = (ROOT / 'README.md').read_text()
RESULTS = ROOT / 'benchmarks/results.json'


def between(mark):
    return README.split(f'<!-- {mark} -->\n\n')[1].split(f'\n\n<!-- end of {mark} -->')[0]


def test_parameters_of_the_readme_are_those_of_parameter_py():
    assert between('parameters') == parameter_table.table(), 'run: make readme'
    source = (ROOT / 'parameter.py').read_text()
    assigned = {node.targets[0].id: ast.get_source_segment(source, node.value) for node in ast.parse(source).body[1:]}
    rows = dict(re.findall(r'^\| `(\w+)` \| `(.+?)` \| .{3,} \| .* \|$', README, re.MULTILINE))
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


def test_only_what_is_between_the_marks_is_replaced(tmp_path, monkeypatch):
    file = tmp_path / 'README.md'
    file.write_text('before\n<!-- a -->\n\nold\n\n<!-- end of a -->\nafter\n')
    monkeypatch.setattr(parameter_table, 'README', file)
    parameter_table.put_into_readme('a', 'new')
    assert file.read_text() == 'before\n<!-- a -->\n\nnew\n\n<!-- end of a -->\nafter\n'


def test_times_and_sizes_of_lits_are_those_of_the_benchmark():
    assert between('lits') == lits_estimate.table(json.loads(RESULTS.read_text())), 'run: make readme'


def stages(rows):
    """Cells by the stage's name."""
    lines = lits_estimate.table({'machine': 'A, 4 cores, 8 GiB', 'rows': rows}).split('\n\n')[0].splitlines()
    return {
        cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:])
    }


def test_figures_of_lits_with_a_pencil():
    """58,638 / 131 = 448 slices of 262,144 pixels; 35 windows of 48 slices, 12 apart; 8 windows in the 200 slices of the benchmark."""
    assert lits_estimate.WEIGHTS == 4 * sum(weights.numel() for weights in ResUNet(training=True).parameters())
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


def test_the_loss_and_the_network_of_the_readme_work():
    names = {}
    for block in re.findall(r'```python\n(.+?)```', README, re.DOTALL):
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


def test_every_parameter_that_the_readme_names_exists():
    known = vars(read_settings([])).keys() | {'parameters', 'help', 'name'}
    ours = re.sub(r'(BENCHMARK|TORTURE)_EXTRA=\S+', '', README)
    torchrun = {option.lstrip('-') for action in get_args_parser()._actions for option in action.option_strings}
    others = {
        'pip': {'build-constraint'},
        'dask': {'nthreads', 'memory-limit', 'no-dashboard', 'local-directory', 'scheduler-file'},
        'SLURM': {
            'job-name',
            'nodes',
            'ntasks-per-node',
            'gpus-per-node',
            'cpus-per-task',
            'time',
            'signal',
            'dependency',
            'ntasks',
            'mem-per-cpu',
            'exact',
        },
        'kubectl': {'image', 'port', 'replicas'},
    }
    assert set(re.findall(r'(?<![\w-])--(\w[\w-]*)', ours)) <= known | torchrun | set().union(*others.values())


def test_every_script_and_target_that_the_readme_names_exists():
    scripts = re.findall(r'python ([\w/.-]+\.py)|`([\w-]+/[\w/.-]+\.py)`', README)
    missing = {name for names in scripts for name in names if name and not (ROOT / name).is_file()}
    assert missing == {'loss/Focal.py', 'net/UNet.py'}  # the reader's own
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert {*re.findall(r'(?:`|^    .*)make ([a-z-]+)', README, re.MULTILINE)} <= {*targets}


@pytest.mark.parametrize('link', sorted(set(re.findall(r'\]\(([^)]+)\)', README))))
def test_links_lead_somewhere(link):
    if link.startswith('#'):
        heads = [
            re.sub(r'[^\w -]', '', head).lower().replace(' ', '-')
            for head in re.findall(r'^#+ (.+)$', README, re.MULTILINE)
        ]
        assert link[1:] in heads
    elif not link.startswith('https://'):
        assert (ROOT / link).is_file()


def test_lines_are_short():
    written = README.replace(between('benchmark'), '').replace(between('torture'), '')
    assert not [line for line in written.splitlines() if len(line) > 140 and not line.startswith('|')]
