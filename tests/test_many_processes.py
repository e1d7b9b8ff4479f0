"""Whole scripts in one process and in several, under torchrun and on a Dask cluster, write the same files.

The results do not change if one of the processes is killed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import ROOT, running
from tests.small_cases import CRF, PREPARE, SMALL, VAL, write_case, write_mask
from tests.torture.compare import content, differences
from utilities.base import folder_lock, machine
from utilities.base.errors import InputError
from utilities.base.log import log
from utilities.run import dask_cluster, run_cases, steps
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import read_volume, write_volume

pytestmark = pytest.mark.slow
ENVIRONMENT = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
# Runs a script as `python SCRIPT` does, on a pretended machine of two cores. Even small cases go to worker processes,
# and a scheduler that does not answer is given up after a second.
ON_TWO_CORES = """
import runpy, sys
from utilities.run import dask_cluster, run_cases
run_cases.MIN_VOXELS_PER_WORKER, run_cases.machine.cores, dask_cluster.SCHEDULER_TIMEOUT = 1, lambda: 2, 1
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def start_script(folder, name, *before, **overrides):
    """Start a script in a folder; before: the arguments between python and the script."""
    command = [
        sys.executable,
        *before,
        str(ROOT / name),
        *(f'--{key}={value}' for key, value in {**SMALL, **overrides}.items()),
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, 'PYTHONPATH': str(ROOT)},
    )


def run_to_end(*arguments, status=0, **overrides):
    """Run a script to its end, check its exit status, and return what it prints."""
    process = start_script(*arguments, **overrides)
    out, err = process.communicate(timeout=200)
    assert process.returncode == status, out + err
    return out + err


def take_output(folder, name):
    """Return what a script wrote to a folder, and remove the folder."""
    written = content(folder / name)
    shutil.rmtree(folder / name)
    return written


@pytest.mark.parametrize('name, folder', [(PREPARE, 'train'), (CRF, 'crf')])
def test_two_processes_write_what_one_writes(small_data, name, folder):
    for number in range(3):
        write_mask(small_data, number)
    assert 'processes' not in run_to_end(small_data, name, num_workers=2)
    expected = take_output(small_data, folder)
    assert ': 2 processes (num_workers 2, 2 cores)' in run_to_end(small_data, name, '-c', ON_TWO_CORES, num_workers=2)
    assert not differences(expected, take_output(small_data, folder)) and len(expected) > 6


def test_large_cases_get_processes_by_themselves(tmp_path):
    """430 million voxels in files without data blocks, which need no disk space."""
    for folder, name in (('CT', 'volume'), ('seg', 'segmentation')):
        for number in range(4):
            path = tmp_path / f'data/train/{folder}/{name}-{number}.nii'
            write_volume(path, np.zeros((410, 512, 1), np.int16 if name == 'volume' else np.uint8), Geometry((1, 1, 2)))
            with open(path, 'r+b') as file:
                file.seek(42)
                file.write((512).to_bytes(2, 'little'))
            os.truncate(path, 352 + 410 * 512 * 512 * (2 if name == 'volume' else 1))
    output = {
        workers: run_to_end(
            tmp_path, 'data_prepare/check_dataset.py', status=1, num_workers=workers, check_path=f'{workers}.csv'
        )
        for workers in (0, 2)
    }
    assert 'check of train: 2 processes (num_workers 2, 2 cores)' in output[2] or len(os.sched_getaffinity(0)) < 2
    assert 'processes' not in output[0]
    tables = [(tmp_path / f'{workers}.csv').read_text() for workers in (0, 2)]
    assert tables[0] == tables[1] and tables[0].count('512 x 512') == tables[0].count('every voxel is 0') == 4


def test_a_killed_run_leaves_no_process_and_the_next_run_completes_it(small_data):
    for number in range(3, 12):
        write_case(small_data, 'train', number, depth=20, width=200)
    expected = run_to_end(small_data, PREPARE) and take_output(small_data, 'train')
    process = start_script(small_data, PREPARE, '-c', ON_TWO_CORES, num_workers=2)
    while not list((small_data / 'train').glob('manifest/[!.]*.json')):
        assert process.poll() is None
    workers = running('--ppid', str(process.pid))
    assert sum('popen_loky' in command for command in workers.values()) == 2
    process.kill()
    killed = time.monotonic()
    while running('-p', ','.join(map(str, workers))):
        assert time.monotonic() - killed < 2
        time.sleep(0.05)
    process.communicate()
    run_to_end(small_data, PREPARE, '-c', ON_TWO_CORES, num_workers=2)
    assert not differences(expected, content(small_data / 'train')) and not list(small_data.rglob('.part-*'))


def torchrun(size):
    return '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={size}'


def test_ranks_predict_what_one_process_predicts(small_data):
    for number in range(3, 6):
        write_case(small_data, 'test', number, depth=8 + number)
    run_to_end(small_data, VAL)
    expected = take_output(small_data, 'pred')
    for size in (1, 2, 3):
        output = run_to_end(small_data, VAL, *torchrun(size))
        assert output.count('6 cases written to') == output.count('global Dice') == 1
        assert not list(small_data.rglob('.part-*')) and not differences(expected, take_output(small_data, 'pred'))


def test_a_case_that_fails_in_a_rank_stops_no_other_and_finished_cases_are_not_repeated(small_data):
    (small_data / 'pred/manifest').mkdir(parents=True)
    (small_data / 'pred/pred-1.nii').write_text('corrected by hand')
    output = run_to_end(small_data, VAL, *torchrun(2), status=1)
    assert output.count('failed: volume-1: ') == 1 and '2 cases written to' in output
    assert json.loads((small_data / 'pred/summary.json').read_text())['failed'].keys() == {'volume-1'}
    (small_data / 'pred/pred-1.nii').unlink()
    assert '2 of 3 cases were done before' in run_to_end(small_data, VAL, *torchrun(2))


def is_finished(record):
    """Return whether the record of a case says more than that the case was begun."""
    return json.loads(record.read_text())['row'] is not None


def test_a_rank_that_is_killed_in_the_middle_of_a_case_is_started_again(small_data):
    for number in range(3, 12):
        write_case(small_data, 'test', number, depth=30)
    expected = run_to_end(small_data, VAL) and take_output(small_data, 'pred')
    process = start_script(small_data, VAL, *torchrun(2), '--max-restarts=1')
    while not any(is_finished(record) for record in (small_data / 'pred/manifest').glob('[!.]*.json')):
        assert process.poll() is None
    os.kill(max(map(int, running('--ppid', str(process.pid)))), signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0 and 'cases were done before' in out, err
    assert not differences(expected, content(small_data / 'pred')) and not list(small_data.rglob('.part-*'))


def test_other_scripts_refuse_to_run_under_torchrun(small_data):
    output = run_to_end(small_data, PREPARE, *torchrun(2), status=1)
    assert output.count('error: torchrun is for train_ds.py and val.py; start this script with python') == 1


class Cluster:
    """A Dask scheduler and its workers, as processes that are started in another folder than the run."""

    def __init__(self, folder):
        self.folder, self.file, self.processes = folder, folder / 'scheduler.json', []
        self.scheduler = self.start('scheduler', '--host', '127.0.0.1', '--port', '0')

    def start(self, *arguments):
        environment = {name: value for name, value in ENVIRONMENT.items() if name != 'PYTHONPATH'}
        environment['DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES'] = '1'
        self.processes.append(
            subprocess.Popen(
                [sys.executable, '-m', 'dask', *arguments, '--no-dashboard', '--scheduler-file', str(self.file)],
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        )
        return self.processes[-1]

    def add(self, *arguments):
        return self.start('worker', '--host', '127.0.0.1', '--no-nanny', *arguments)


@pytest.fixture
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp('elsewhere'))
    end = time.monotonic() + 30
    while not cluster.file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    yield cluster
    for process in cluster.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize('name, folder', [(PREPARE, 'train'), (CRF, 'crf')])
def test_a_cluster_that_loses_a_worker_in_the_middle_of_a_case_writes_what_one_process_writes(
    small_data, cluster, name, folder
):
    for number in range(3, 12):
        write_case(small_data, 'train' if name == PREPARE else 'test', number, depth=30, width=300)
    for number in range(12):
        path = small_data / f'data/test/CT/volume-{number}.nii'
        if path.exists():
            ct, geometry = read_volume(path)
            mask = np.zeros(ct.shape, np.uint8)
            mask[3:-3, 10:20, 10:20] = 1
            write_volume(small_data / f'pred/pred-{number}.nii', mask, geometry)
    expected = run_to_end(small_data, name) and take_output(small_data, folder)
    workers = {worker.pid: worker for worker in (cluster.add('--nthreads', '1'), cluster.add('--nthreads', '1'))}
    process = start_script(small_data, name, dask_scheduler=cluster.file)
    killed_worker = None
    while not killed_worker:
        assert process.poll() is None
        parts = [path for path in small_data.glob(f'{folder}/**/.part-*') if int(path.name.split('-')[1]) in workers]
        killed_worker = next((workers[int(path.name.split('-')[1])] for path in parts), None)
    killed_worker.kill()
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    assert 'at a time on the Dask cluster' in out and '12 cases written' in out
    assert all(' left' in line for line in err.splitlines()), err  # Dask itself prints nothing.
    for summary in (small_data / folder).glob('summary*'):  # It contains the parameters, and dask_scheduler is one.
        summary.write_text(summary.read_text().replace(str(cluster.file), ''))
    assert not differences(expected, content(small_data / folder)) and not list(small_data.rglob('.part-*'))


def test_an_error_of_the_cluster_is_one_line(small_data, cluster):
    def error_line():
        output = run_to_end(small_data, PREPARE, '-c', ON_TWO_CORES, status=1, dask_scheduler=cluster.file).splitlines()
        assert len(output) == 1 and output[0].startswith('error: dask_scheduler')
        return output[0]

    assert 'has no workers; start some with: dask worker' in error_line()
    cluster.add()
    assert '3 cases written' in run_to_end(small_data, PREPARE, dask_scheduler=cluster.file)
    take_output(small_data, 'train')
    cluster.scheduler.kill()
    assert 'wanted a Dask scheduler at' in error_line()
    cluster.file.write_text('[1]')
    assert 'wanted a Dask scheduler at' in error_line()
    cluster.file.unlink()
    assert 'No such file' in error_line()


@pytest.fixture
def on_cluster(cluster, tmp_path, monkeypatch):
    """Return a function that takes five cases through a step on two workers of two threads."""
    five_cases = [SimpleNamespace(name=f'volume-{n}', number=n, voxels=n) for n in range(5)]
    for _ in range(2):
        cluster.add('--nthreads', '2', '--memory-limit', '4GB')
    with dask_cluster.connect_client(str(cluster.file)) as client:
        client.wait_for_workers(2, 30)
    monkeypatch.chdir(tmp_path)
    yield lambda step, case_bytes=1e9: run_cases.run_cases(
        step, five_cases, 'test', workers=run_cases.Workers(0, str(cluster.file), case_bytes)
    )
    for key in [key for key, (_, _, folder) in folder_lock.held_locks.items() if folder.is_relative_to(tmp_path)]:
        os.close(folder_lock.held_locks.pop(key)[0])
    folder_lock.written_folders.clear()


def test_cases_on_a_cluster_log_and_fail_independently(on_cluster, capsys, tmp_path):
    """The working folder is that of the run. The records of the two threads of a worker are not mixed."""

    def step(case):
        log.info(f'at work on {case.name}')
        time.sleep(0.2)
        log.info(f'done with {case.name}')
        if case.number == 1:
            raise InputError(os.getcwd())
        return case.number, machine.threads()

    results, failures = on_cluster(step)
    assert results == [(n, 1) for n in (0, 2, 3, 4)] and failures == [('volume-1', str(tmp_path))]
    output = capsys.readouterr().out.splitlines()[1:]
    assert sorted(output[::2]) == [f'at work on volume-{n}' for n in range(5)]
    assert all(line.split()[-1] == following.split()[-1] for line, following in zip(output[::2], output[1::2]))


@pytest.mark.parametrize('case_bytes, cases_at_once', [(0.1e9, 4), (0.8e9, 2)])
def test_no_more_cases_on_a_cluster_than_its_memory_holds(on_cluster, capsys, case_bytes, cases_at_once):
    """The largest case has 4 voxels and needs 0.95 GB or 3.75 GB; each worker has two threads and 4 GB."""
    assert on_cluster(lambda case: case.number, case_bytes) == ([0, 1, 2, 3, 4], [])
    assert f'test: {cases_at_once} at a time on the Dask cluster' in capsys.readouterr().out


def test_a_case_that_kills_the_workers_of_a_cluster_is_a_failure(on_cluster, cluster):
    def step(case):
        if case.number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return case.number

    for _ in range(2):  # of four, two are killed
        cluster.add('--nthreads', '1')
    assert on_cluster(step) == ([0, 1, 2, 4], [('volume-3', steps.KILLED)])


def test_a_cluster_whose_scheduler_goes_away_ends_the_run(on_cluster, cluster, monkeypatch):
    monkeypatch.setattr(dask_cluster, 'SCHEDULER_TIMEOUT', 3)

    def step(case):
        os.kill(scheduler, signal.SIGKILL)
        time.sleep(5)

    scheduler = cluster.scheduler.pid
    with pytest.raises(InputError, match='is gone; start it again'):
        on_cluster(step)


def test_a_worker_with_other_modules_or_disks_gets_no_case(on_cluster, monkeypatch, tmp_path):
    def error_line():
        with pytest.raises(InputError) as error:
            on_cluster(lambda case: 1)
        return str(error.value)

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(dask_cluster, 'ROOT', '/elsewhere')
        assert "/elsewhere: No module named 'utilities'" in error_line()
        elsewhere.setattr(dask_cluster, 'ROOT', str(ROOT))
        on_cluster(lambda case: 1)
        elsewhere.setattr(dask_cluster, 'ROOT', '/elsewhere')
        assert f'it works with the modules in {ROOT}; start it again' in error_line()
    folder_lock.lock_folder(tmp_path / 'out', 'pred_path')
    read_text = Path.read_text
    monkeypatch.setattr(
        Path, 'read_text', lambda path: 'process 1 elsewhere' if path.name == '.lock' else read_text(path)
    )
    assert f'it does not see the folder {tmp_path / "out"} that the results go to' in error_line()


def test_without_dask_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'distributed', None)
    with pytest.raises(InputError, match='pip install -r requirements-dask.txt'):
        run_cases.run_cases(
            lambda case: 1,
            [SimpleNamespace(name='a', voxels=1)],
            'test',
            workers=run_cases.Workers(0, 'tcp://127.0.0.1:1', 1),
        )
