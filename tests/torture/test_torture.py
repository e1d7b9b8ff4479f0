"""The short form of make torture passes, and its checks notice what they look for."""

import json
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

from tests.torture import mutate
from tests.torture.compare import content, differences
from tests.torture.mutants import digest, sound_files, through_readers
from tests.torture.trial import ROOT, Clock, Ended, Row, Script


@pytest.mark.slow
def test_everything_survives_the_short_form():
    done = subprocess.run(
        [sys.executable, ROOT / 'tests/torture/torture.py', '--short'], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert '**fell short**' not in done.stdout and '| SIGKILL, train_ds.py |' in done.stdout


@pytest.mark.parametrize(
    'ended, fault',
    [
        (Ended(0, 'next: python val.py', '', 1, 1), ''),
        (Ended(1, '', 'error: x: no such file', 1, 1), ''),
        (Ended(1, 'failed: volume-1: no liver', '', 1, 1), ''),
        (Ended(1, '', 'sorry', 1, 1), 'no clear line'),
        (
            Ended(1, '', 'Traceback (most recent call last):\n  x\nKeyError: 1\nerror: x', 1, 1),
            'traceback: KeyError: 1',
        ),
        (Ended(1, 'failed: \x1b[31m', '', 1, 1), 'control character'),
        (Ended(-signal.SIGSEGV, '', '', 1, 1), 'SIGSEGV'),
        (Ended(2, '', '', 1, 1), 'exit status 2'),
        (Ended(0, '', '', 1, 3 * 2**30), 'memory'),
        (Ended(1, 'failed: volume-1: Unable to allocate 40 GiB', '', 1, 1), 'memory'),
        (Ended(-9, '', '', 60, 1, hung=True), 'hung'),
    ],
)
def test_fault_says_how_a_script_ended_badly(ended, fault):
    assert fault in ended.fault() and bool(fault) == bool(ended.fault())


def test_differences_name_bytes_and_files_but_ignore_times(tmp_path):
    for name, seconds in (('a', 1), ('b', 2)):
        (tmp_path / name / 'manifest').mkdir(parents=True)
        (tmp_path / name / 'loss.csv').write_text(f'step,loss,seconds\n1,0.5,{seconds}\n')
        record = {'files': {'x': [7, seconds]}, 'row': {'dice': 1, 'time': seconds}}
        (tmp_path / name / 'manifest/volume-1.json').write_text(json.dumps(record))
        (tmp_path / name / 'mask.nii').write_bytes(b'mask')
    wanted = content(tmp_path / 'a')
    assert len(wanted) == 3 and not differences(wanted, content(tmp_path / 'b'))
    (tmp_path / 'b/mask.nii').write_bytes(b'masK')
    (tmp_path / 'b/loss.csv').write_text('step,loss,seconds\n1,0.6,1\n')
    (tmp_path / 'b/more').touch()
    (tmp_path / 'b/manifest/volume-1.json').unlink()
    found = differences(wanted, content(tmp_path / 'b'))
    assert found == 'loss.csv differs, manifest/volume-1.json missing, mask.nii differs, more too much'


def test_mutants_differ_from_each_other_and_follow_from_the_seed(tmp_path):
    sound = sound_files(tmp_path)
    for name, data in sound.items():
        first, again = [mutate.volume_mutated(name, data, np.random.default_rng(7)) for _ in range(2)]
        assert first == again
    rng = np.random.default_rng(1)
    assert len({mutate.volume_mutated('ct.nii', sound['ct.nii'], rng) for _ in range(50)}) > 40
    first, again = (mutate.nifti_mutants(sound['ct.nii'], 3, 40) for _ in range(2))
    assert len(first) == 40 and [data for ending, data in first if ending == '.nii'] == [
        data for ending, data in again if ending == '.nii'
    ]


def test_a_header_in_the_other_byte_order_holds_the_same_values(tmp_path):
    data = sound_files(tmp_path)['ct.nii']
    turned = mutate.swapped(data)
    assert (
        struct.unpack_from('<8h', data, 40) == struct.unpack_from('>8h', turned, 40)
        and turned[348:352] == data[348:352]
    )
    assert (np.frombuffer(data[352:], '<i2') == np.frombuffer(turned[352:], '>i2')).all()


def test_a_sound_file_is_read_and_a_spoiled_one_refused_in_one_line(tmp_path):
    row = Row('readers')
    sound = sound_files(tmp_path)
    (tmp_path / 'cut.nii').write_bytes(sound['ct.nii'][:1000])
    before = digest(tmp_path)
    through_readers(
        row, 'volumes', [*(tmp_path / name for name in sound), tmp_path / 'cut.nii'], tmp_path / 'keep', Clock(60)
    )
    assert (row.tried, row.faults) == (len(sound) + 1, [])
    assert digest(tmp_path).items() >= before.items()
    assert row.remark == f'{len(sound)} read, 1 refused'


def test_a_signal_ends_a_script(tmp_path):
    script = Script('train_ds.py', tmp_path)
    assert script.signal(signal.SIGKILL)
    ended = script.wait()
    assert ended.code == -signal.SIGKILL and 'SIGKILL' in ended.fault() and not script.signal(signal.SIGKILL)
