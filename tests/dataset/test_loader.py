"""Batches depend on seed and epoch only, not on who reads them or where an epoch is resumed."""

import multiprocessing
import os
import signal
from contextlib import closing, nullcontext
from itertools import islice

import numpy as np
import pytest
import torch

from dataset.dataset import Dataset
from dataset.loader import Loader
from utilities.base.errors import InputError
from utilities.volumes.geometry import Geometry
from utilities.volumes.read_write import write_volume


@pytest.fixture
def samples(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        write_volume(
            tmp_path / f'ct/volume-{number}.nii',
            rng.integers(-200, 201, (12, 8, 8)).astype(np.int16),
            Geometry((1, 1, 1)),
        )
        write_volume(
            tmp_path / f'seg/segmentation-{number}.nii',
            rng.integers(0, 2, (12, 16, 16)).astype(np.uint8),
            Geometry((1, 1, 1)),
        )
    return Dataset(tmp_path / 'ct', tmp_path / 'seg', 8, samples_per_case=5)


def assert_same_batches(expected, got):
    assert len(expected) == len(got)
    for (expected_names, expected_micro_batches), (names, micro_batches) in zip(expected, got):
        assert expected_names == names and len(expected_micro_batches) == len(micro_batches)
        for pair in zip(expected_micro_batches, micro_batches):
            assert all(torch.equal(one, other) for one, other in zip(*pair))


def test_an_epoch_holds_each_sample_once_and_epochs_differ(samples):
    loader = Loader(samples, 2)
    keys = [key for batch in loader.batch_keys(0) for key in batch]
    assert sorted(index for index, _ in keys) == list(range(15)) and len(loader) == 8 == len(loader.batch_keys(0))
    assert loader.batch_keys(0) != loader.batch_keys(1)
    assert loader.batch_keys(0) != Loader(samples, 2, seed=1).batch_keys(0)
    assert all(0 <= start_fraction < 1 for _, start_fraction in keys)
    for names, [(ct, label, weights)] in loader.batches(0):
        assert len(names) == len(ct) == len(label) and ct.shape[1:] == (1, 8, 8, 8) and label.shape[1:] == (8, 16, 16)
        assert weights.tolist() == [[1 / len(ct)]] * len(ct)


@pytest.mark.parametrize('ranks', [1, 2, 3, 5])
@pytest.mark.parametrize('micro_batch_size', [0, 1, 2])
def test_ranks_and_micro_batches_split_each_batch(samples, monkeypatch, ranks, micro_batch_size):
    """Fifteen samples, four a step and three in the last: each counts once, and the weights of a step add up to one."""
    whole = list(Loader(samples, 4).batches(1))
    monkeypatch.setenv('WORLD_SIZE', str(ranks))
    seen = [[] for _ in whole]
    for rank in range(ranks):
        monkeypatch.setenv('RANK', str(rank))
        with closing(Loader(samples, 4, micro_batch_size=micro_batch_size, num_workers=rank % 2)) as loader:
            for (names, micro_batches), (whole_names, _), step in zip(loader.batches(1), whole, seen):
                assert names == whole_names and micro_batches
                for ct, _, weights in micro_batches:
                    assert len(ct) <= (micro_batch_size or 4)
                    step += zip(ct, weights.flatten().tolist())
    for step, (names, [(whole_ct, _, _)]) in zip(seen, whole):
        counted = [ct for ct, weight in step if weight]
        assert len(counted) == len(names) and sum(weight for _, weight in step) == pytest.approx(1)
        assert all(any(torch.equal(ct, other) for other in counted) for ct in whole_ct)
        assert len(step) == max(len(names), ranks)  # A rank without a sample has a dummy sample of weight 0.


def test_workers_do_not_change_the_batches_or_the_global_generator(samples):
    whole = list(Loader(samples, 2).batches(3))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with closing(Loader(samples, 2, num_workers=2)) as loader:
        list(loader.batches(2))
        assert_same_batches(whole, list(loader.batches(3)))
        assert_same_batches(whole[5:], list(loader.batches(3, first=5)))
    # Dropout draws from this generator, and must not depend on where an epoch was resumed.
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_batches([], list(Loader(samples, 2).batches(3, first=8)))


def test_loading_continues_with_one_worker_fewer_if_a_worker_is_killed(samples, capsys):
    whole = list(Loader(samples, 2).batches(0))
    with closing(Loader(samples, 2, num_workers=2)) as loader:
        batches = loader.batches(0)
        first = next(batches)
        for worker in loader.workers:
            os.kill(worker.pid, signal.SIGKILL)
        assert_same_batches(whole, [first, *batches])
    assert loader.num_workers == 1 and capsys.readouterr().err.count('was killed') == 1


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_file_that_is_cut_short_is_reported_in_one_line(samples, num_workers):
    with open(samples.cases[1].ct, 'r+b') as file:
        file.truncate(360)
    with pytest.raises(InputError, match=r'^\S+volume-1.nii: the file is damaged or cut short') as error:
        with closing(Loader(samples, 2, num_workers=num_workers)) as loader:
            list(loader.batches(0))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('fails', [False, True])
def test_no_worker_is_alive_after_close(samples, fails):
    """Also in the middle of an epoch and after an error. The loader can be used again afterwards."""
    before = multiprocessing.active_children()
    all_batches = list(Loader(samples, 2).batches(0))
    loader = Loader(samples, 2, num_workers=2)
    with pytest.raises(ZeroDivisionError) if fails else nullcontext(), closing(loader):
        batches = loader.batches(0)
        assert_same_batches(all_batches[:2], list(islice(batches, 2)))
        workers = [child for child in multiprocessing.active_children() if child not in before]
        assert len(workers) == 2
        if fails:
            raise ZeroDivisionError
    assert not any(worker.is_alive() for worker in workers) and multiprocessing.active_children() == before
    assert_same_batches(all_batches, list(loader.batches(0)))
    loader.close()
    loader.close()
    assert multiprocessing.active_children() == before
