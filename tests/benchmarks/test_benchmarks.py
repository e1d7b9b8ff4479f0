"""The plain ways, the scene and the measurements of the benchmark, on small inputs."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks import one_case, plain
from benchmarks.benchmark import table
from benchmarks.case_files import write_case, write_finished_run
from benchmarks.dask_workers import dask_cluster
from benchmarks.measure import measure_call, process_memory, run_process, side_by_side
from benchmarks.rows import (
    row_of_one_core,
    row_of_peak_memory,
    row_of_script,
    row_of_throughput,
    row_without_plain_way,
)
from benchmarks.scene import dice, make_rough_mask, make_scan
from benchmarks.stages import NAMES, import_stage, main_process
from benchmarks.trainers import make_trainers
from net.ResUNet import ResUNet
from tests.conftest import ROOT
from tests.Densecrf.test_crf import brute_force
from tests.Densecrf.test_crf import scene as crf_scene
from utilities.evaluation.calculate_metrics import calculate_metrics
from utilities.image.post_process import keep_liver


def test_the_rough_mask_looks_like_a_networks_answer():
    ct, label, geometry = make_scan(96, 160, 2.4)
    mask = make_rough_mask(label, islands=12, holes=6)
    assert ct.shape == label.shape == mask.shape == (96, 160, 160) and geometry.spacing == (2.4, 2.4, 2.4)
    assert 0.5 < dice(label, mask) < 0.99 and ndimage.label(mask)[1] > 5
    liver = keep_liver(mask, 5e4)
    np.testing.assert_array_equal(plain.keep_liver(mask, 5e4), liver)
    theirs, ours = plain.metrics(label, liver, geometry.spacing), calculate_metrics(label, liver, geometry.spacing)
    assert theirs == pytest.approx({name: ours[name] for name in theirs})


def test_the_plain_network_takes_the_same_weights():
    our_network, plain_network = ResUNet(training=True, drop_rate=0), plain.Network(drop_rate=0)
    plain_network.load_state_dict(our_network.state_dict())
    ct = torch.randn(1, 1, 8, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(plain_network(ct), our_network(ct), rtol=1e-5, atol=1e-5)


def test_both_trainers_make_the_same_steps():
    plain_step, our_step = make_trainers(2, 8, 16, torch.device('cpu'))
    plain_losses, our_losses = [plain_step() for _ in range(2)], [our_step().item() for _ in range(2)]
    np.testing.assert_allclose(plain_losses, our_losses, atol=1e-4)


@pytest.mark.parametrize('seed', [0, 1])
def test_the_exact_crf_is_that_of_the_crf_tests(seed):
    image, mask = crf_scene((6, 9, 10), seed)
    np.testing.assert_array_equal(plain.exact_crf(image, mask, 1, 10, 10, 20), brute_force(image, mask, 1, 10, 10, 20))


def test_side_by_side_measures_both_functions():
    row, theirs, ours = side_by_side(lambda: np.ones(10_000_000), lambda: np.ones(1000), 3)
    assert len(theirs) == 10_000_000 and len(ours) == 1000 and row['plain_s'] > 0 and row['ours_s'] > 0
    assert 70 < row['plain_mb'] < 100 and row['ours_mb'] < 5
    assert measure_call(lambda: 7)[2] == 7


def test_the_table_shows_missed_goals_and_what_was_not_measured():
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
    assert rows[3] == ('on a GPU', 'not measured', *[''] * 6) and len({len(row) for row in rows}) == 1


def test_the_table_leaves_cells_empty_without_a_plain_way_and_a_goal():
    rows = list(table([{'stage': 'val.py', **row_without_plain_way(21.06, 6600.0, 'float32')}]))
    assert rows[2] == ('val.py', '', '21.1', '', '', '', '6,600', 'float32') and len(rows[2]) == len(rows[0])


def test_row_of_script_separates_the_start_from_the_cases():
    """4 s to start and 1.5 s for each case: 5.5 s for one, 10 s for four."""
    row = row_of_script('val.py', (5.5, 300.0), (10.0, 400.0), 4)
    assert (row['start_s'], row['case_s'], row['ours_s'], row['ours_mb']) == (4, 1.5, 10, 400)
    assert row['stage'].startswith('val.py, 4 cases of ') and row['agreement'] == '4 s to start, 1.5 s a case'


def test_run_process_measures_the_process_alone(tmp_path):
    """300 MB and half a second of its own, without the 800 MB of its parent; and the number of cores."""
    script = tmp_path / 'script.py'
    script.write_text(
        'import os, sys, time\n'
        'status, cores = map(int, sys.argv[1:])\n'
        'data = b"1" * 300_000_000\n'
        'time.sleep(0.5)\n'
        'sys.exit(status or len(os.sched_getaffinity(0)) != cores)\n'
    )
    np.ones(100_000_000)
    seconds, megabytes = run_process([script, '0', '1'], tmp_path, 1)
    assert 0.5 < seconds < 5 and 300 < megabytes < max(350, process_memory('VmRSS') / 1e6 + 100)
    run_process([script, '0', str(len(os.sched_getaffinity(0)))], tmp_path)
    with pytest.raises(RuntimeError, match=r'script\.py ended with status'):
        run_process([script, '3', '1'], tmp_path)


def test_peak_memory_is_compared_with_what_is_reserved():
    """500 MB and 3 bytes for each voxel: 530 MB with 10 million voxels, 590 MB with 30."""
    peaks = {30_000_000: 590.0, 10_000_000: 530.0}
    row = row_of_peak_memory(7.5, peaks, 3, 500e6)
    assert row['reached'] and row['ours_mb'] == 590 and row['agreement'].endswith(': 3.0 bytes a voxel')
    assert row['goal'] == 'at most 3 bytes a voxel and 500 MB'
    assert not row_of_peak_memory(7.5, peaks, 2.9, 500e6)['reached']
    assert not row_of_peak_memory(7.5, peaks, 3, 499e6)['reached']


def test_a_second_process_must_pay_where_one_uses_one_core():
    runs = {'one core': (17.0, 400.0), '1': (17.0, 450.0), '2': (10.0, 420.0)}
    row = row_of_throughput('prepare', runs, False)
    assert (row['plain_s'], row['ours_s'], row['plain_mb'], row['ours_mb'], row['reached']) == (17, 10, 450, 420, True)
    assert row['goal'] == '>= 1.7 x' and '1.70 x one process on one core' in row['agreement']
    slower = {**runs, '1': (16.9, 450.0)}
    assert not row_of_throughput('prepare', slower, False)['reached']
    row = row_of_throughput('CRF', slower, True)
    assert row['reached'] and 'takes all cores' in row['agreement']


def test_row_of_one_core_separates_the_slices_from_the_case():
    """0.5 s for a case and 2 ms for each slice: 0.7 s for 100 slices, 1.5 s for 500."""
    row = row_of_one_core('prepare', {500: 1.5, 100: 0.7}, 300.0)
    assert (row['case_s'], row['slice_s']) == pytest.approx((0.5, 0.002)) and row['ours_s'] == 1.5
    assert row['agreement'] == '0.5 s and 2 ms a slice'
    assert row_of_one_core('prepare', {100: 0.1, 500: 1.5}, 300.0)['case_s'] == 0


def test_each_stage_runs_one_case(tmp_path):
    write_case(tmp_path, *make_scan(96, 64, 1.0))
    seconds, megabytes = run_process([ROOT / 'benchmarks/one_case.py', 'check', tmp_path], tmp_path)
    assert seconds > 0 and megabytes > 100
    for function, outputs in (('prepare', ['ct.nii', 'seg.nii']), ('crf', ['crf/crf.nii'])):
        one_case.main(function, tmp_path)
        assert all((tmp_path / name).is_file() for name in outputs)


def test_the_dask_cluster_starts_and_ends(tmp_path):
    distributed = pytest.importorskip('distributed')
    with dask_cluster(tmp_path) as scheduler:
        with distributed.Client(scheduler_file=scheduler) as client:
            client.wait_for_workers(2, 30)
            processes = [*client.run(os.getpid).values(), client.run_on_scheduler(os.getpid)]
    deadline = time.monotonic() + 10
    while any(Path(f'/proc/{process}').exists() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(set(processes)) == 3 and not any(Path(f'/proc/{process}').exists() for process in processes)


def test_the_main_process_stage_measures_every_engine(tmp_path, monkeypatch):
    pytest.importorskip('distributed')
    monkeypatch.setattr(main_process, 'CHECKED_CASES', 3)
    monkeypatch.setattr(main_process, 'CASES', 20)
    row = main_process.measure(tmp_path, 1)
    assert all(row[name] > 0 for name in ('look_s', 'process_s', 'dask_s', 'rank_s', 'table_s'))


def test_the_scripts_accept_the_finished_run(tmp_path, script):
    """Two cases, refined and reported without a complaint."""
    (tmp_path / 'case').mkdir()
    row = write_case(tmp_path / 'case', *make_scan(96, 160, 2.4))
    assert 0.5 < row['dice'] < 1
    write_finished_run(tmp_path, 2, tmp_path / 'case', row)
    refined = script('Densecrf/3D-CRF.py', visdom_server='')
    assert refined.returncode == 0 and '2 cases written' in refined.stdout
    reported = script('scripts/write_report.py', visdom_server='')
    assert reported.returncode == 0 and 'not drawn' not in reported.stdout + reported.stderr
    page = (tmp_path / 'pred/report.html').read_text()
    assert all(text in page for text in ('volume-0', 'volume-1', 'Losses of the training', '3D CRF'))


def test_every_stage_has_a_name_and_a_measurement():
    stages = [import_stage(name) for name in NAMES]
    assert all(stage.STAGE and callable(stage.measure) for stage in stages)
    assert len({stage.STAGE for stage in stages}) == len(NAMES)
