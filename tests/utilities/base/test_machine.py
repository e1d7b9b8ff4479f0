"""The cores, the free memory under limits written by the tests, and the threads of whole processes."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utilities.base import environment, machine

MEMINFO = 'MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:   12000 kB\nHugePages_Total:       0\n'
UNLIMITED = 9223372036854771712  # as version 1 writes it

MEASURE_CORES = """
import hashlib, sys, time
from utilities.base.environment import limit_threads, prepare
from utilities.base.machine import threads
prepare()
when, number = sys.argv[1], int(sys.argv[2])
if when == 'before':
    limit_threads(number)
import numpy as np
import scipy.linalg
import SimpleITK
import torch
from Densecrf.crf import dense_crf
from Densecrf.crf_settings import CrfSettings
from utilities.evaluation.calculate_metrics import calculate_metrics
from data_prepare.phantom import phantom
from utilities.image.resample import zoom
if when == 'after':
    limit_threads(number)

def work():
    ct, label = phantom(0, (40, 96, 96), (2., 2., 4.))
    mask = label > 0
    metrics = calculate_metrics(mask, np.roll(mask, 2, 1), (2, 2, 4))
    torch.nn.functional.conv3d(torch.ones(1, 8, 24, 64, 64), torch.ones(8, 8, 3, 3, 3))
    zoomed = [zoom(ct.astype(dtype), (1.7, 0.5, 0.5), 3) for dtype in (np.int16, np.float32)]
    return [repr(metrics).encode(), *zoomed, *(dense_crf(ct, mask, CrfSettings(1, 10, 10, 20), n) for n in (2, 3))]

work()
start, used = time.monotonic(), time.process_time()
while time.monotonic() < start + 1:
    results = work()
cores = (time.process_time() - used) / (time.monotonic() - start)
print(cores, {threads(), torch.get_num_threads(), SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()},
      hashlib.sha256(b''.join(map(bytes, results))).hexdigest(), sep='; ')
"""


@pytest.fixture
def write_root(tmp_path):
    """write_root({'proc/meminfo': text, ...}) writes these files below a folder and returns the folder."""

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def group(folder, limit, usage, active, inactive, version):
    """Files of a memory control group; active, inactive: bytes of pages that keep files."""
    names = {1: ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_'), 2: ('memory.max', 'memory.current', '')}
    limit_name, usage_name, prefix = names[version]
    # Version 1 also gives the pages of the group without its subgroups, which must not be used.
    own = 'active_file 1000000\n' if version == 1 else ''
    return {
        f'{folder}/{limit_name}': f'{limit}\n',
        f'{folder}/{usage_name}': f'{usage}\n',
        f'{folder}/memory.stat': f'anon 7\n{own}{prefix}active_file {active}\n{prefix}inactive_file {inactive}\n',
    }


def test_memory_of_a_machine_without_limits(write_root):
    assert machine.free_memory(write_root({'proc/meminfo': MEMINFO})) == 12_000 * 1024


def test_a_limit_some_levels_up_counts_and_pages_of_files_are_free(write_root):
    """Of 8,000,000 bytes for the job 5,000,000 are used, of which 1,500,000 only keep files: 4,500,000 are left."""
    top = 'sys/fs/cgroup'
    assert (
        machine.free_memory(
            write_root(
                {
                    'proc/meminfo': MEMINFO,
                    'proc/self/cgroup': '0::/batch/job_7/step_0/task_0\n',
                    **group(f'{top}/batch/job_7', 8_000_000, 5_000_000, 500_000, 1_000_000, 2),
                    **group(f'{top}/batch/job_7/step_0', 'max', 5_000_000, 0, 0, 2),
                    **group(f'{top}/batch/job_7/step_0/task_0', 9_000_000, 4_000_000, 0, 0, 2),
                }
            )
        )
        == 4_500_000
    )


def test_the_process_own_limit_counts_with_version_1(write_root):
    """3,000,000 - 1,000,000 + 200,000 + 300,000 = 2,500,000 bytes; groups of other controllers do not count."""
    top = 'sys/fs/cgroup/memory'
    assert (
        machine.free_memory(
            write_root(
                {
                    'proc/meminfo': MEMINFO,
                    'proc/self/cgroup': '9:name=systemd:/a:b\n5:cpu,cpuacct:/other\n4:memory:/job/task\n0::/\n',
                    **group(f'{top}/other', 10, 5, 0, 0, 1),
                    **group(top, UNLIMITED, 9_000_000, 0, 0, 1),
                    **group(f'{top}/job', UNLIMITED, 9_000_000, 0, 0, 1),
                    **group(f'{top}/job/task', 3_000_000, 1_000_000, 200_000, 300_000, 1),
                }
            )
        )
        == 2_500_000
    )


def test_the_limit_of_a_container_that_sees_its_own_group_at_the_top(write_root):
    for version, line in ((1, '4:memory:/docker/0123\n'), (2, '0::/../../docker/0123\n')):
        folder = 'sys/fs/cgroup' + '/memory' * (version == 1)
        root = write_root(
            {'proc/meminfo': MEMINFO, 'proc/self/cgroup': line, **group(folder, 6_000_000, 4_000_000, 0, 0, version)}
        )
        assert machine.free_memory(root) == 2_000_000


def test_no_memory_is_free_where_more_is_used_than_the_limit(write_root):
    assert (
        machine.free_memory(
            write_root({'proc/meminfo': MEMINFO, 'proc/self/cgroup': '0::/\n', **group('sys/fs/cgroup', 5, 9, 0, 0, 2)})
        )
        == 0
    )


def test_memory_of_this_machine_is_no_more_than_it_has():
    assert 50e6 < machine.free_memory() < os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def test_cores_are_counted_by_the_affinity():
    code = (
        'import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); '
        'from utilities.base import machine; print(machine.cores())'
    )
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True).stdout == '1\n'
    assert 1 <= machine.cores() <= len(os.sched_getaffinity(0)) and machine.threads() == machine.cores()


def test_a_limit_holds_for_all_threads_and_changes_no_result():
    """The limit is set before or after the libraries are loaded; one thread cannot use more than one core."""
    results = set()
    for when, number in (('before', 1), ('after', 1), ('after', 2), ('never', 0)):
        variables = {name: value for name, value in os.environ.items() if name not in environment.THREAD_VARIABLES}
        done = subprocess.run(
            [sys.executable, '-c', MEASURE_CORES, when, str(number)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=variables,
        )
        assert done.returncode == 0, done.stderr
        cores, pools, result = done.stdout.strip().split('; ')
        results.add(result)
        if when != 'never':
            assert float(cores) < number + 0.1 and pools == f'{{{number}}}', (when, number, cores, pools)
    assert len(results) == 1
