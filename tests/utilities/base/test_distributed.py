"""The ranks of one run: their numbers, and that they find each other in a store that earlier starts have used."""

import subprocess
import sys
import threading

import pytest
from torch.distributed import HashStore

from tests.conftest import ROOT
from utilities.base import distributed


def test_a_process_without_a_launcher_is_rank_0_of_1(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'TORCHELASTIC_RUN_ID'):
        monkeypatch.delenv(name, raising=False)
    assert distributed.world_size() == distributed.local_world_size() == 1
    assert distributed.rank() == distributed.local_rank() == 0
    assert distributed.launcher_id() == ''
    assert distributed.is_main_process()
    assert distributed.broadcast(3) == 3
    assert distributed.all_gather(3) == [3]
    assert distributed.all_reduce_max(3) == 3
    assert not distributed.is_lost_rank(OSError())
    monkeypatch.setenv('WORLD_SIZE', '4')  # Without RANK it belongs to another program.
    assert distributed.world_size() == 1


def test_ranks_meet_in_a_store_that_an_earlier_start_used(monkeypatch):
    """All ranks of a start get the same fresh key prefix, in whatever order they start."""
    store, thread_values = HashStore(), threading.local()
    monkeypatch.setattr(distributed, 'rank', lambda: thread_values.rank)
    monkeypatch.setattr(distributed, 'world_size', lambda: 3)
    tokens = set()
    for attempt, order in enumerate(((0, 1, 2), (2, 1, 0), (1, 0, 2))):
        stores = {}

        def start_rank(rank, stores=stores):
            thread_values.rank = rank
            stores[rank] = distributed.rendezvous(store)

        threads = [threading.Thread(target=start_rank, args=(rank,), daemon=True) for rank in order]
        for thread in threads:
            thread.start()
            thread.join(0.1)
        for thread in threads:
            thread.join(10)
        assert len(stores) == 3, f'attempt {attempt}: only {sorted(stores)} met'
        assert [stores[rank].add('count', 1) for rank in order] == [1, 2, 3]  # one counter, and a new one
        tokens.add(stores[0].underlying_store.get('token/1'))
    assert len(tokens) == 3


def test_the_error_names_ranks_that_do_not_start(monkeypatch):
    monkeypatch.setattr(distributed, 'START_TIMEOUT', 0.2)
    monkeypatch.setattr(distributed, 'world_size', lambda: 3)
    store = HashStore()
    store.set('token/1', 'of a process that is gone')
    with pytest.raises(RuntimeError, match=r'ranks \[1, 2\] did not start'):
        distributed.rendezvous(store)


@pytest.mark.slow
@pytest.mark.parametrize('by_torchrun', [0, 2])
def test_a_rank_ends_without_threads_of_its_process_group(by_torchrun):
    """Such a thread may abort the process while the main process is still saving."""
    script = str(ROOT / 'tests/torture/rank_ends.py')
    command = [sys.executable, script, '--runs=2', f'--torchrun={by_torchrun}', '--busy=0']
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and '2 of 2 runs ended with status 0' in done.stdout, done.stdout + done.stderr


def test_a_script_for_one_process_refuses_to_run_under_torchrun(script, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    finished = script('Densecrf/3D-CRF.py')
    assert finished.returncode == 1
    assert finished.stderr == 'error: torchrun is for train_ds.py and val.py; start this script with python\n'
