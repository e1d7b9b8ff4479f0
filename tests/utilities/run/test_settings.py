"""Settings: which value wins, names, types and ranges of parameters; settings files are not executed."""

import ast
import os
import subprocess
import sys

import pytest

from Densecrf.crf import ENGINES
from loss import LOSSES
from tests.conftest import ROOT, SCRIPTS
from utilities.base.errors import InputError, one_line
from utilities.run.parameter_rules import RENAMED, RULES, STAGES, require_choice, settings_of_stage, stage_names
from utilities.run.settings import PARAMETER_FILE, help_text, read_parameter_groups, read_settings


def test_defaults_are_those_of_parameter_py():
    namespace = {}
    exec(compile(ast.parse(PARAMETER_FILE.read_text()), 'parameter.py', 'exec'), namespace)
    assert vars(read_settings([])) == {k: v for k, v in namespace.items() if not k.startswith('__')}


def test_every_parameter_has_a_rule_and_every_rule_a_parameter():
    assert set(RULES) == set(vars(read_settings([])))
    for name, rule in RULES.items():
        assert len(set(rule.changes)) == len(rule.changes) and set(rule.changes) <= set(STAGES), name
        assert set(rule.compared or ()) <= set(rule.changes), name


def test_comments_give_the_range_of_the_rule():
    comments = {name: comment for group in read_parameter_groups().values() for name, _, comment in group}
    assert comments.keys() == RULES.keys()
    for name, rule in RULES.items():
        assert rule.range is None or rule.range.words in comments[name]
    assert all(name in comments['loss'] for name in LOSSES)
    assert all(name in comments['crf_engine'] for name in ENGINES)


@pytest.mark.parametrize(
    'stage, names',
    [
        ('phantom', 'phantom_depth phantom_width seed'),
        ('training_set', 'size down_scale expand_slice slice_thickness upper lower grid_tolerance'),
        (
            'training',
            'size down_scale upper lower drop_rate learning_rate learning_rate_decay learning_rate_factor alpha '
            'alpha_decay alpha_epochs batch_size samples_per_case loss precision pretrained_path seed '
            'validation_cases validate_every threshold',
        ),
        (
            'prediction',
            'upper lower down_scale size stride threshold test_slice_thickness maximum_hole surface_tolerance',
        ),
        (
            'crf',
            'lower upper z_expand x_expand y_expand s1 s2 s3 max_iter crf_engine crf_tolerance surface_tolerance',
        ),
    ],
)
def test_results_of_earlier_versions_are_recognised(stage, names):
    """The names that earlier versions recorded: with others, every finished case would be made again."""
    settings = vars(read_settings([]))
    assert settings_of_stage(settings, stage) == {name: settings[name] for name in names.split()}


def test_a_renamed_parameter_is_refused_with_its_new_name(tmp_path):
    message = 'parameter samples_at_once: is now called micro_batch_size'
    with pytest.raises(InputError, match=message):
        read_settings(['--samples_at_once=2'])
    (tmp_path / 'old.py').write_text('samples_at_once = 2\n')
    with pytest.raises(InputError, match=message):
        read_settings([f'--parameters={tmp_path / "old.py"}'])
    assert set(RENAMED.values()) <= set(RULES) and not set(RENAMED) & set(RULES)


def test_a_choice_is_looked_up_in_its_registry():
    require_choice('loss', 'Dice', LOSSES)
    with pytest.raises(
        InputError, match="parameter loss: wanted one of Dice, .*, WCE, got 'dice'; did you mean 'Dice'"
    ):
        require_choice('loss', 'dice', LOSSES)
    with pytest.raises(InputError, match="got '#'$"):
        require_choice('loss', '#', LOSSES)


def test_a_later_value_wins(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text('"""Mine."""\nbatch_size = 4\nstride = 8\nslice_thickness = 3\n')
    para = read_settings([f'--parameters={file}', '--batch_size=2', '--train_ct_path=a=b c'])
    assert (para.batch_size, para.stride, para.train_ct_path) == (2, 8, 'a=b c')
    assert para.test_slice_thickness == para.slice_thickness == 3.0  # its default is slice_thickness
    assert read_settings(['--test_slice_thickness=None']).test_slice_thickness is None


@pytest.mark.parametrize(
    'argument, message',
    [
        ('--bach_size=2', "did you mean 'batch_size'"),
        ('--batch_size=two', 'whole number'),
        ('--batch_size=1.5', 'whole number'),
        ('--batch_size=0', '1 or more'),
        ('--size=20', 'multiple of 8'),
        ('--down_scale=0.4', '1 / integer'),
        ('--pin_memory=1', 'True or False'),
        ('--threshold=1.0', 'below 1'),
        ('--resume=no', "wanted 'auto', 'changed' or '', got 'no'"),
        ('--stride=49', 'at most size'),
        ('--upper=-200', 'below upper'),
        ('--learning_rate=1e999', 'finite'),
        ('--batch_size=True', 'whole number'),
        ('stride=3', 'wanted --name=value'),
        ('--slice_thickness=None', 'a number'),
        ('--gpu=first', 'gpu'),
        ('--gpu=0 1', 'gpu: wanted numbers such as'),
        ('--learning_rate_decay=500', 'a list'),
        ('--parameters=no-such-file.py', 'no-such-file.py'),
    ],
)
def test_a_bad_argument_is_named(argument, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        read_settings([argument])


LINES_THAT_ARE_NO_SETTING = [
    'import os',
    'from os import system',
    'size: int = 8',
    'size = [x for x in (1,)]',
    'size = (',
    'size = open("made", "w")',
    'size = __import__("os").system("touch made")',
    "size = f\"{open('made', 'w')}\"",
    'size = (s := open("made", "w"))',
    'open("made", "w")',
    "size = exec(\"open('made', 'w')\")",
    'size = [open("made", "w")]',
    'size = {open("made", "w"): 1}',
    'size = lambda: open("made", "w")',
    'def size(a=open("made", "w")): pass',
    'class size: open("made", "w")',
    '@open("made", "w")\ndef size(): pass',
    'size = size.real',
    'size = train_ct_path[0]',
    'size = "8" * 10 ** 6',
    'size = 10 ** 10 ** 10',
    'size = 8 if open("made", "w") else 8',
    'size = stride = 8',
    'size, stride = 8, 8',
    'size += 8',
    'size = not 8',
    'size = 8; open("made", "w")',
    'if open("made", "w"): size = 8',
    'size = yield',
    'del size',
    'assert open("made", "w")',
    'train_ct_path[open("made", "w")] = 8',
    'with open("made", "w") as size: pass',
    'size = later_defined',
]


@pytest.mark.parametrize('line', LINES_THAT_ARE_NO_SETTING)
def test_settings_files_are_not_executed(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'evil.py').write_text(line)
    with pytest.raises(InputError, match='evil.py'):
        read_settings(['--parameters=evil.py'])
    assert [path.name for path in tmp_path.iterdir()] == ['evil.py']


@pytest.mark.parametrize(
    'content',
    [
        b'size = 8\0',
        b'\xff\xfe',
        b'size = "\xe9"',
        b'size = ' + b'-' * 100000 + b'1',
        b'size = ' + b'-' * 500 + b'1',
        b'size = ' + b'1+' * 50000 + b'1',
        b'size = a' + b'.b' * 500,
        b'size = ' + b'(' * 500,
        b'size = ' + b'lambda:' * 9000 + b'1',
        b'size = 1' + b'0' * 5000,
        b'size = 0x' + b'f' * 5000,
        b'learning_rate_decay = [0x' + b'f' * 5000 + b']',
        b'learning_rate = 0x' + b'f' * 500,
        b'size = {[]: 1}',
        b'size = {8}',
        b'size = b"8"',
        b'size = ...',
        b'size = 8j',
        b'loss = "a\\0b"',
        b'pred_path = "\\0"',
        b'pred_path = "\\ud800"',
        b'learning_rate_decay = {1: 2}',
        b'size = 8\r\n  stride = 8',
        b'down_scale = 5e-324',
        b'x' * 3 * 10**6,
        b'size = """',
        b'size = 1e400',
        b'size = True',
        b'size = None',
        b'Epoch = 99999999999999999999',
        b'spacing_override = {"a": [[[1]]]}',
        b'spacing_override = {1: {2: 3}}',
        b'gpu = "\\ud800"',
    ],
)
def test_a_damaged_settings_file_is_one_line(tmp_path, content):
    (tmp_path / 'bad.py').write_bytes(content)
    with pytest.raises(InputError) as error:
        read_settings([f'--parameters={tmp_path / "bad.py"}'])
    assert len(str(error.value)) < 400 and '\n' not in one_line(error.value)


@pytest.mark.parametrize(
    'make_bad_path',
    [
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to('/dev/zero'),
        lambda path: None,
    ],
)
def test_a_path_that_is_no_file_is_refused_at_once(tmp_path, make_bad_path):
    make_bad_path(tmp_path / 'bad.py')
    with pytest.raises(InputError, match='bad.py'):
        read_settings([f'--parameters={tmp_path / "bad.py"}'])
    with pytest.raises(InputError):
        read_settings(['--parameters='])


@pytest.mark.parametrize(
    'text',
    ['[' * 500, '-' * 5000 + '1', '9' * 5000, '0x' + 'f' * 5000, '8\n', '8j', 'size', '1 + 1', '', '(8', '\udcff'],
)
@pytest.mark.parametrize('name', ['size', 'learning_rate_decay', 'learning_rate', 'spacing_override', 'pin_memory'])
def test_an_odd_value_of_an_argument_is_one_line(name, text):
    try:
        read_settings([f'--{name}={text}'])
    except InputError as error:
        assert len(str(error)) < 400


def test_a_settings_file_from_windows_is_read(tmp_path):
    (tmp_path / 'mine.py').write_bytes(b'\xef\xbb\xbf"""Mine."""\r\nstride = 8\r\n')
    assert read_settings([f'--parameters={tmp_path / "mine.py"}']).stride == 8


def test_help_lists_every_parameter():
    text = help_text('Doc.')
    for name, rule in RULES.items():
        assert f'--{name}=' in text and (not rule.changes or f'changes: {stage_names(name)}' in text)
    assert (
        '  --s2=10.0\n        bilateral kernel: standard deviation in space (voxels, above 0)\n        changes: crf'
        in text
    )


@pytest.mark.parametrize('name', SCRIPTS)
def test_every_script_answers_help(name):
    done = subprocess.run([sys.executable, ROOT / name, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and '--slice_thickness' in done.stdout and not done.stderr


def test_experiments_are_valid():
    for file in (ROOT / 'experiments').glob('*.py'):
        read_settings([f'--parameters={file}'])


def test_a_very_long_value_is_cut_in_the_message(tmp_path):
    (tmp_path / 'long.py').write_text(f"precision = '{'x' * 10**5}'\n")
    with pytest.raises(InputError) as error:
        read_settings([f'--parameters={tmp_path / "long.py"}'])
    assert len(str(error.value)) < 400 and 'precision' in str(error.value)
