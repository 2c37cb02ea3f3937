"""Detection of dead processes and joining of processes, on in-memory stores."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
import torch.distributed as dist

from danetc.runtime.system import liveness
from danetc.runtime.system.liveness import SILENCE, Liveness
from danetc.runtime.training import distributed
from danetc.runtime.training.distributed import meet

HOSTS = ["a", "a", "b", "b", "c"]


@pytest.mark.parametrize("dead", range(len(HOSTS)))
def test_a_process_without_a_sign_of_life_is_named_to_all(dead: int) -> None:
    store = dist.HashStore()
    group = [Liveness(store, rank, HOSTS) for rank in range(len(HOSTS))]
    for _ in range(3 * SILENCE):
        assert not any(each.beat() for each in group)
    alive = [each for rank, each in enumerate(group) if rank != dead]
    rounds = [[each.beat() for each in alive] for _ in range(SILENCE + 2)]
    assert not any(rounds[SILENCE - 2])
    assert all(rounds[-1])
    assert rounds[-1][0] is not None
    assert rounds[-1][0].startswith(f"rank {dead} on {HOSTS[dead]} has sent no sign of life")


def test_the_load_is_linear_in_the_number_of_processes() -> None:
    hosts = [f"node{rank // 10}" for rank in range(1000)]
    store = Mock(wraps=dist.HashStore())
    group = [Liveness(store, rank, hosts) for rank in range(len(hosts))]
    store.reset_mock()
    for one in group:
        one.beat()
    assert store.set.call_count == len(hosts)
    reads = Counter(call.args[0] for call in store.get.call_args_list)
    reads.update(key for call in store.check.call_args_list for key in call.args[0])
    assert reads.pop(liveness.VERDICT) == len(hosts)
    assert set(reads.values()) == {1}
    assert reads.total() == len(hosts)


def test_a_published_verdict_ends_a_waiting_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT", 0.01)
    ended = threading.Event()
    monkeypatch.setattr(liveness.os, "_exit", lambda status: ended.set())
    store = dist.PrefixStore("alive", dist.HashStore())
    group = [Liveness(store, rank, ["a", "b"]) for rank in range(2)]
    with group[0], group[1]:
        group[0].publish("rank 0 has failed: no disk")
        assert group[0].verdict() == "rank 0 has failed: no disk"
        assert ended.wait(30), "rank 1 waits for nothing, so its thread ends it"


def test_processes_that_start_again_meet_under_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store: Any = dist.HashStore()
    ranks = threading.local()
    monkeypatch.setattr(distributed, "rendezvous", lambda *a, **k: iter([(store, ranks.own, 3)]))

    def join(rank: int) -> None:
        ranks.own = rank
        met, *found = meet(timedelta(seconds=30))
        assert found == [rank, 3]
        met.set(f"here {rank}", "")
        met.wait([f"here {other}" for other in range(3)])
        assert met.add("count", 1) <= 3, "keys of an earlier start are not seen"

    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(join, range(3)))


def test_a_rank_that_does_not_join_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = dist.HashStore()
    monkeypatch.setattr(distributed, "rendezvous", lambda *a, **k: iter([(store, 0, 2)]))
    with pytest.raises(RuntimeError, match="rank 1 did not join"):
        meet(timedelta(seconds=0.05))
