"""The plain ways and the scene that the benchmark compares with, on small inputs."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks import plain
from benchmarks.benchmark import table
from benchmarks.measure import measured, memory, side_by_side
from benchmarks.scene import dice, rough, scan
from benchmarks.stages import (
    ROOT,
    STAGES,
    alone,
    as_process,
    dask_cluster,
    of_cases,
    of_memory,
    of_processes,
    of_slices,
    predicted,
    scored_case,
    trainers,
)
from net.ResUNet import ResUNet
from tests.Densecrf.test_crf import brute_force
from tests.Densecrf.test_crf import scene as crf_scene
from utilities.evaluation.calculate_metrics import calculate_metrics
from utilities.image.post_process import keep_liver


def test_scene_looks_like_a_networks_answer():
    ct, label, geometry = scan(96, 160, 2.4)
    mask = rough(label, islands=12, holes=6)
    assert ct.shape == label.shape == mask.shape == (96, 160, 160) and geometry.spacing == (2.4, 2.4, 2.4)
    assert 0.5 < dice(label, mask) < 0.99 and ndimage.label(mask)[1] > 5
    liver = keep_liver(mask, 5e4)
    np.testing.assert_array_equal(plain.keep_liver(mask, 5e4), liver)
    theirs, ours = plain.metrics(label, liver, geometry.spacing), calculate_metrics(label, liver, geometry.spacing)
    assert theirs == pytest.approx({name: ours[name] for name in theirs})


def test_plain_network_takes_the_same_weights():
    ours, plainly, ct = ResUNet(training=True, drop_rate=0), plain.Network(drop_rate=0), torch.randn(1, 1, 8, 16, 16)
    plainly.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(plainly(ct), ours(ct), rtol=1e-5, atol=1e-5)


def test_both_trainers_take_the_same_steps():
    plain_step, ours = trainers(2, 8, 16, torch.device('cpu'))
    np.testing.assert_allclose([plain_step() for _ in range(2)], [ours().item() for _ in range(2)], atol=1e-4)


@pytest.mark.parametrize('seed', [0, 1])
def test_exact_crf_is_that_of_the_crf_tests(seed):
    image, mask = crf_scene((6, 9, 10), seed)
    np.testing.assert_array_equal(plain.exact_crf(image, mask, 1, 10, 10, 20), brute_force(image, mask, 1, 10, 10, 20))


def test_measures_both_ways():
    row, theirs, mine = side_by_side(lambda: np.ones(10_000_000), lambda: np.ones(1000), 3)
    assert len(theirs) == 10_000_000 and len(mine) == 1000 and row['plain_s'] > 0 and row['ours_s'] > 0
    assert 70 < row['plain_mb'] < 100 and row['ours_mb'] < 5
    assert measured(lambda: 7)[2] == 7


def test_table_tells_what_was_missed_and_what_was_not_measured():
    row = dict(
        stage='zoom',
        plain_s=4.0,
        ours_s=0.5,
        plain_mb=2000.0,
        ours_mb=10.0,
        goal='>= 20 x',
        reached=False,
        agreement='identical',
    )
    rows = list(table([row, {'stage': 'on a GPU'}]))
    assert rows[2] == ('zoom', '4', '0.5', '8.0', '>= 20 x **missed**', '2,000', '10', 'identical')
    assert rows[3] == ('on a GPU', 'not measured', *[''] * 6) and len({len(r) for r in rows}) == 1


def test_table_leaves_empty_what_has_no_plain_way_and_no_goal():
    rows = list(table([{'stage': 'val.py', **alone(21.06, 6600.0, 'float32')}]))
    assert rows[2] == ('val.py', '', '21.1', '', '', '', '6,600', 'float32') and len(rows[2]) == len(rows[0])


def test_start_and_seconds_a_case_come_apart():
    """4 s to start and 1.5 s a case: 5.5 s for one, 10 s for four."""
    row = of_cases('val.py', (5.5, 300.0), (10.0, 400.0), 4)
    assert (row['start_s'], row['case_s'], row['ours_s'], row['ours_mb']) == (4, 1.5, 10, 400)
    assert row['stage'].startswith('val.py, 4 cases of ') and row['agreement'] == '4 s to start, 1.5 s a case'


def test_a_process_is_measured_alone(tmp_path):
    """300 MB and half a second of its own; not the 1.6 GB that the one who starts it held before."""
    script = tmp_path / 'script.py'
    script.write_text('import sys, time\nkept = b"1" * 300_000_000\ntime.sleep(0.5)\nsys.exit(int(sys.argv[1]))\n')
    np.ones(200_000_000)
    seconds, megabytes = as_process([script, '0'], tmp_path)
    assert 0.5 < seconds < 5 and 300 < megabytes < max(350, memory('VmRSS') / 1e6 + 100)
    with pytest.raises(RuntimeError, match=r'script\.py ended with status'):
        as_process([script, '3'], tmp_path)


def test_a_process_is_held_to_so_many_cores(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text('import os, sys\nsys.exit(len(os.sched_getaffinity(0)) != int(sys.argv[1]))\n')
    as_process([script, '1'], tmp_path, 1)
    as_process([script, str(len(os.sched_getaffinity(0)))], tmp_path)


def test_peak_memory_is_told_a_voxel_and_held_against_what_is_reckoned_with():
    """500 MB and 3 bytes a voxel: 530 MB with 10 million voxels, 590 MB with 30."""
    peaks = {30_000_000: 590.0, 10_000_000: 530.0}
    row = of_memory(7.5, peaks, 3, 500e6)
    assert row['reached'] and row['ours_mb'] == 590 and row['agreement'].endswith(': 3.0 bytes a voxel')
    assert row['goal'] == 'at most 3 bytes a voxel and 500 MB'
    assert not of_memory(7.5, peaks, 2.9, 500e6)['reached'] and not of_memory(7.5, peaks, 3, 499e6)['reached']


def test_two_processes_are_held_against_one_where_that_has_one_core():
    took = {'one core': (17.0, 400.0), '1': (17.0, 450.0), '2': (10.0, 420.0)}
    row = of_processes('prepare', took, False)
    assert (row['plain_s'], row['ours_s'], row['plain_mb'], row['ours_mb'], row['reached']) == (17, 10, 450, 420, True)
    assert row['goal'] == '>= 1.7 x' and '1.70 x one process on one core' in row['agreement']
    slower = {**took, '1': (16.9, 450.0)}
    assert not of_processes('prepare', slower, False)['reached']
    assert (
        of_processes('CRF', slower, True)['reached']
        and 'takes all cores' in of_processes('CRF', slower, True)['agreement']
    )


def test_seconds_of_a_case_and_of_a_slice_come_apart():
    """0.5 s a case and 2 ms a slice: 0.7 s for 100 slices, 1.5 s for 500."""
    row = of_slices('prepare', {500: 1.5, 100: 0.7}, 300.0)
    assert (row['case_s'], row['slice_s']) == pytest.approx((0.5, 0.002)) and row['ours_s'] == 1.5
    assert row['agreement'] == '0.5 s and 2 ms a slice'
    assert of_slices('prepare', {100: 0.1, 500: 1.5}, 300.0)['case_s'] == 0


@pytest.mark.parametrize('stage', ['check', 'prepare', 'crf'])
def test_one_case_is_done_alone(tmp_path, stage):
    scored_case(tmp_path, *scan(96, 64, 1.0))
    seconds, megabytes = as_process([ROOT / 'benchmarks/one_case.py', stage, tmp_path], tmp_path)
    made = {'check': [], 'prepare': ['ct.nii', 'seg.nii'], 'crf': ['crf/crf.nii']}[stage]
    assert seconds > 0 and megabytes > 100 and all((tmp_path / name).is_file() for name in made)


def test_a_cluster_is_there_and_gone(tmp_path):
    distributed = pytest.importorskip('distributed')
    with dask_cluster(tmp_path) as scheduler:
        with distributed.Client(scheduler_file=scheduler) as client:
            client.wait_for_workers(2, 30)
            processes = [*client.run(os.getpid).values(), client.run_on_scheduler(os.getpid)]
    deadline = time.monotonic() + 10
    while any(Path(f'/proc/{process}').exists() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(set(processes)) == 3 and not any(Path(f'/proc/{process}').exists() for process in processes)


def test_the_scripts_find_what_the_benchmark_lays_out(tmp_path, script):
    """Two cases, refined and reported without a complaint."""
    (tmp_path / 'of').mkdir()
    row = scored_case(tmp_path / 'of', *scan(96, 160, 2.4))
    assert 0.5 < row['dice'] < 1
    predicted(tmp_path, 2, tmp_path / 'of', row)
    refined = script('Densecrf/3D-CRF.py', visdom_server='')
    assert refined.returncode == 0 and '2 cases written' in refined.stdout
    reported = script('scripts/write_report.py', visdom_server='')
    assert reported.returncode == 0 and 'not drawn' not in reported.stdout + reported.stderr
    page = (tmp_path / 'pred/report.html').read_text()
    assert all(text in page for text in ('volume-0', 'volume-1', 'Losses of the training', '3D CRF'))


def test_stages_say_what_they_are():
    assert all(stage.__doc__ for stage in STAGES.values())
