"""Signs of life of the processes of a training, so that one that dies is named to the others.

Each process counts up a key of the store that they met at; a key that stands still is that of a
process that is gone or stuck. A collective that has lost a partner says so at once on gloo and
never on NCCL: the watch ends the process in both cases.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from torch.distributed.rendezvous import rendezvous

from danetc.dsl.diagnostics.visible import visible_lines

BEAT = 1.0
"""Seconds between two signs of life."""
SILENCE = 60.0
"""Seconds without one after which a process counts as dead."""
SUSPECTED = 5.0
"""The same once a collective has failed."""

DONE, FAILED = "done", "failed: "


class Heartbeat:
    """Gives this process's signs of life and watches those of the others, in a thread of its own.

    ``hint`` is asked for what is said of the last good checkpoint.
    """

    def __init__(self, store: Any, rank: int, world: int) -> None:
        self._store = store.clone()  # a store serves one thread at a time
        self._store.set_timeout(timedelta(seconds=30))
        self._rank = rank
        self._world = world
        self._stop = threading.Event()
        self._silence = SILENCE
        self._seen: dict[int, tuple[str, float]] = {}
        self.hint: Callable[[], str] = lambda: ""
        self._store.set(self._key(rank), self._sign(0))
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, once every process has made its own."""
        self._thread.start()

    def done(self) -> None:
        """Say that this process has ended well, and stop."""
        self._end(DONE)

    def failed(self, message: str) -> None:
        """Tell the others what this process dies of, and give them the time to hear it: the store
        may be kept by this process, and torchrun ends the others as soon as this one has.
        """
        ignore_termination()
        self._end(FAILED + message)
        time.sleep(3 * BEAT)

    def all_fail(self) -> None:
        """End where every process meets the same error: rank 0 tells it, the others wait for that.

        (torchrun sends SIGTERM to those that are left as soon as one has ended.)
        """
        ignore_termination()
        self.done()
        end = time.monotonic() + SILENCE
        with suppress(RuntimeError):
            while self._rank and time.monotonic() < end:
                if self._store.get(self._key(0)).decode().startswith((DONE, FAILED)):
                    return
                time.sleep(0.1)

    def find_the_dead(self) -> None:
        """Wait, after a collective has failed, until the watch ends this process; at most as long
        as it takes to see that all are alive.
        """
        ignore_termination()
        self._silence = SUSPECTED
        self._seen.clear()
        self._thread.join(SUSPECTED + 5 * BEAT)

    # ----------------------------------------------------------------------------------------------

    def _end(self, value: str) -> None:
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5.0)
        with suppress(RuntimeError):  # the store may have gone with the process that kept it
            self._store.set(self._key(self._rank), value)

    def _run(self) -> None:
        beats = 0
        while not self._stop.wait(BEAT):
            beats += 1
            try:
                self._store.set(self._key(self._rank), self._sign(beats))
                found = self._look()
            except RuntimeError as error:  # torch.distributed's are
                if not self._stop.is_set():
                    self._leave(
                        "the meeting point of the processes (torchrun, or rank 0) is gone: "
                        f"{str(error).splitlines()[0]}"
                    )
                return
            if found is not None:
                self._leave(found)

    def _look(self) -> str | None:
        """What is wrong with another process, or None."""
        now = time.monotonic()
        others = [rank for rank in range(self._world) if rank != self._rank]
        for rank, data in zip(
            others, self._store.multi_get([self._key(rank) for rank in others]), strict=True
        ):
            value = data.decode()
            if value.startswith(FAILED):
                return f"rank {rank} has failed: {value.removeprefix(FAILED)}"
            if value == DONE:
                continue
            last = self._seen.get(rank)
            if last is None or last[0] != value:
                self._seen[rank] = value, now
            elif now - last[1] > self._silence:
                where = value.partition(" ")[2]
                return f"rank {rank} ({where}) has died: no sign of life for {self._silence:g} s"
        return None

    def _leave(self, message: str) -> None:
        """End this process at once: its main thread may wait for a partner that is gone."""
        hint = self.hint()
        text = f"danetc: {message}; rank {self._rank} ends{hint}\n"
        sys.stderr.write(visible_lines(text))
        sys.stderr.flush()
        os._exit(1)

    def _sign(self, beats: int) -> str:
        return f"{beats} process {os.getpid()} on {platform.node()}"

    @staticmethod
    def _key(rank: int) -> str:
        return f"danetc/alive/{rank}"


def ignore_termination() -> None:
    """Live through torchrun's SIGTERM for as long as it takes to tell what has happened."""
    with suppress(ValueError):  # handlers belong to the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def meet(timeout: timedelta) -> tuple[Any, int, int]:
    """The store, rank and number of processes that torchrun's environment names."""
    store, rank, world = next(iter(rendezvous("env://", timeout=timeout)))
    return store, rank, world
