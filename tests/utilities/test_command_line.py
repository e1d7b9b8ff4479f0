"""Settings: order of precedence, names, types, ranges; nothing is executed."""
import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT, SCRIPTS
from utilities.command_line import PARAMETER_FILE, RANGES, help_text, settings
from utilities.errors import InputError


def test_defaults_are_those_of_parameter_py():
    namespace = {}
    exec(compile(ast.parse(PARAMETER_FILE.read_text()), 'parameter.py', 'exec'), namespace)
    assert vars(settings([])) == {k: v for k, v in namespace.items() if not k.startswith('__')}
    assert set(RANGES) <= set(namespace)


def test_a_later_value_wins(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text('"""Mine."""\nbatch_size = 4\nstride = 8\nslice_thickness = 3\n')
    para = settings([f'--parameters={file}', '--batch_size=2', '--train_ct_path=a=b c'])
    assert (para.batch_size, para.stride, para.train_ct_path) == (2, 8, 'a=b c')
    assert para.test_slice_thickness == para.slice_thickness == 3.0  # follows what it is defined by
    assert settings(['--test_slice_thickness=None']).test_slice_thickness is None


@pytest.mark.parametrize('argument, message', [
    ('--bach_size=2', "did you mean 'batch_size'"), ('--batch_size=two', 'whole number'), ('--batch_size=1.5', 'whole number'),
    ('--batch_size=0', '1 or more'), ('--size=20', 'multiple of 8'), ('--down_scale=0.4', '1 / integer'), ('--pin_memory=1', 'True or False'),
    ('--threshold=1.0', 'below 1'), ('--loss=dice', 'Tversky'), ('--stride=49', 'at most size'), ('--upper=-200', 'below upper'),
    ('--learning_rate=1e999', 'finite'), ('--batch_size=True', 'whole number'), ('stride=3', 'wanted --name=value'),
    ('--slice_thickness=None', 'a number'), ('--gpu=first', 'gpu'), ('--learning_rate_decay=500', 'a list'),
    ('--parameters=no-such-file.py', 'no-such-file.py')])
def test_bad_arguments_are_named(argument, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        settings([argument])


@pytest.mark.parametrize('line', ['import os', 'size = open("made", "w")', 'size: int = 8', 'size = [x for x in (1,)]', 'size = ('])
def test_settings_files_are_not_executed(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'evil.py').write_text(line)
    with pytest.raises(InputError, match='evil.py|plain value'):
        settings(['--parameters=evil.py'])
    assert not (tmp_path / 'made').exists()


def test_help_holds_every_parameter_with_its_comment():
    text = help_text('Doc.')
    for name in vars(settings([])):
        assert f'--{name}=' in text


@pytest.mark.parametrize('name', SCRIPTS)
def test_every_script_answers_help(name):
    done = subprocess.run([sys.executable, ROOT / name, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and '--slice_thickness' in done.stdout and not done.stderr


def test_experiments_are_valid():
    for file in (ROOT / 'experiments').glob('*.py'):
        settings([f'--parameters={file}'])
