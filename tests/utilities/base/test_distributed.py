"""The processes of one run: who they are, and that they meet whoever was there before them."""

import threading

import pytest
from torch.distributed import HashStore

from utilities.base import distributed


def test_alone_without_a_launcher(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'TORCHELASTIC_RUN_ID'):
        monkeypatch.delenv(name, raising=False)
    assert (
        distributed.world_size(),
        distributed.rank(),
        distributed.local_world_size(),
        distributed.local_rank(),
        distributed.launcher_id(),
    ) == (1, 0, 1, 0, '')
    assert (
        distributed.is_main_process()
        and distributed.broadcast(3) == 3
        and distributed.all_gather(3) == [3]
        and distributed.all_reduce_max(3) == 3
        and not distributed.is_lost_rank(OSError())
    )
    monkeypatch.setenv('WORLD_SIZE', '4')  # of something else: no rank
    assert distributed.world_size() == 1


def test_ranks_meet_in_a_store_with_what_an_earlier_start_left(monkeypatch):
    """Each rank comes to the same fresh name, whatever the order in which they come."""
    store, here = HashStore(), threading.local()
    monkeypatch.setattr(distributed, 'rank', lambda: here.rank)
    monkeypatch.setattr(distributed, 'world_size', lambda: 3)
    names = set()
    for attempt, order in enumerate(((0, 1, 2), (2, 1, 0), (1, 0, 2))):
        met = {}

        def come(rank):
            here.rank = rank
            met[rank] = distributed.rendezvous(store)

        threads = [threading.Thread(target=come, args=(rank,), daemon=True) for rank in order]
        for thread in threads:
            thread.start()
            thread.join(0.1)
        for thread in threads:
            thread.join(10)
        assert len(met) == 3, f'attempt {attempt}: only {sorted(met)} met'
        assert [met[rank].add('count', 1) for rank in order] == [1, 2, 3]  # one counter, and a new one
        names.add(met[0].underlying_store.get('hello/1'))
    assert len(names) == 3


def test_ranks_that_do_not_come_are_named(monkeypatch):
    monkeypatch.setattr(distributed, 'START_TIMEOUT', 0.2)
    monkeypatch.setattr(distributed, 'world_size', lambda: 3)
    store = HashStore()
    store.set('hello/1', 'one that is gone')
    with pytest.raises(RuntimeError, match=r'\[1, 2\] came'):
        distributed.rendezvous(store)


def test_scripts_for_one_process_say_so(script, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    done = script('Densecrf/3D-CRF.py')
    assert (
        done.returncode == 1
        and done.stderr == 'error: torchrun is for train_ds.py and val.py; start this script with python\n'
    )
