"""Signs of life: two processes of a training, each a thread here, on a store in memory."""

from __future__ import annotations

import threading

import pytest
import torch.distributed as dist

from danetc.runtime.training import heartbeat
from danetc.runtime.training.heartbeat import Heartbeat

BEAT = 0.01


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Ranks that would have ended their process, with what they would have printed."""
    found: list[tuple[int, str]] = []
    monkeypatch.setattr(heartbeat, "BEAT", BEAT)
    monkeypatch.setattr(heartbeat, "SUSPECTED", 5 * BEAT)
    monkeypatch.setattr(heartbeat, "ignore_termination", lambda: None)

    def leave(self: Heartbeat, message: str) -> None:
        found.append((self._rank, message + self.hint()))
        self._stop.set()  # the process would have ended

    monkeypatch.setattr(Heartbeat, "_leave", leave)
    return found


def pair() -> tuple[Heartbeat, Heartbeat]:
    store = dist.HashStore()
    return Heartbeat(store, 0, 2), Heartbeat(store, 1, 2)


def joined(beat: Heartbeat) -> None:
    beat._thread.join(10)
    assert not beat._thread.is_alive()


def test_processes_that_live_and_end_well_hear_nothing(left: list[tuple[int, str]]) -> None:
    first, second = pair()
    first.start()
    second.start()
    waited = threading.Event()
    waited.wait(10 * BEAT)
    signs = [first._store.get(first._key(rank)).decode() for rank in (0, 1)]
    assert all(int(sign.split()[0]) > 0 for sign in signs), signs
    second.done()
    waited.wait(5 * BEAT)
    first.done()
    assert left == []


def test_what_a_process_dies_of_is_told_to_the_others(left: list[tuple[int, str]]) -> None:
    first, second = pair()
    second.hint = lambda: "; the last checkpoint is 7"
    second.start()
    first.start()
    first.failed("the disk is full")
    joined(second)
    assert left == [(1, "rank 0 has failed: the disk is full; the last checkpoint is 7")]


def test_a_process_without_a_sign_of_life_is_named(left: list[tuple[int, str]]) -> None:
    """Rank 1 never counts up; rank 0 suspects it after a collective has failed."""
    first, _ = pair()
    first.start()
    first.find_the_dead()
    joined(first)
    ((rank, message),) = left
    assert rank == 0
    assert message.startswith("rank 1 (process ")
    assert message.endswith(f"has died: no sign of life for {5 * BEAT:g} s")


def test_where_all_fail_rank_0_tells_it_and_the_others_wait(left: list[tuple[int, str]]) -> None:
    first, second = pair()
    waiting = threading.Thread(target=second.all_fail)
    waiting.start()
    waiting.join(10 * BEAT)
    assert waiting.is_alive()
    first.failed("no such data")
    waiting.join(10)
    assert not waiting.is_alive()
    assert left == []


def test_a_store_that_is_gone_ends_a_process(
    left: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = pair()

    def gone() -> None:
        raise RuntimeError("Connection reset by peer\nmore")

    monkeypatch.setattr(first, "_look", gone)
    first.start()
    joined(first)
    ((rank, message),) = left
    assert rank == 0
    assert message.endswith("is gone: Connection reset by peer")
