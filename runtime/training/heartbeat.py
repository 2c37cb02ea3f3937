"""Heartbeats of the processes of a training, so that the others report which one died.

Each process increments a key of the store that they met at; a key that stops belongs to a dead or
stuck process. A collective that has lost a partner fails at once on gloo and never on NCCL; the
watch ends the process in both cases.
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
"""Seconds between two heartbeats."""
SILENCE = 60.0
"""Seconds without a heartbeat after which a process counts as dead."""
SUSPECTED = 5.0
"""The same after a collective has failed."""

DONE, FAILED = "done", "failed: "


class Heartbeat:
    """Sends the heartbeats of this process and watches those of the others, in a thread.

    ``hint`` returns the end of a message, which names the last good checkpoint.
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
        """Start once every process has created its heartbeat."""
        self._thread.start()

    def done(self) -> None:
        """Report success to the others, and stop."""
        self._end(DONE)

    def failed(self, message: str) -> None:
        """Tell the others why this process ends, and give them time to read it.

        This process may host the store, and torchrun ends the others as soon as this one has ended.
        """
        ignore_termination()
        self._end(FAILED + message)
        time.sleep(3 * BEAT)

    def all_fail(self) -> None:
        """End after an error of every process: rank 0 reports it, and the others wait for that.

        torchrun sends SIGTERM to the others as soon as one process has ended.
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
        """After a failed collective, wait until the watch finds a dead process and ends this one."""
        ignore_termination()
        self._silence = SUSPECTED
        self._seen.clear()
        self._thread.join(SUSPECTED + 5 * BEAT)

    # ----------------------------------------------------------------------------------------------

    def _end(self, value: str) -> None:
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5.0)
        with suppress(RuntimeError):  # the store may be gone with the process that hosted it
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
        """Return a message about another process that has failed or died, or None."""
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
        """End this process at once, because its main thread may wait for a dead partner."""
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
    """Ignore torchrun's SIGTERM while reporting an error."""
    with suppress(ValueError):  # handlers belong to the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def meet(timeout: timedelta) -> tuple[Any, int, int]:
    """Return the store, rank and number of processes of torchrun's environment."""
    store, rank, world = next(iter(rendezvous("env://", timeout=timeout)))
    return store, rank, world
