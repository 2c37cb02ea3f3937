"""Detection of processes that have died, on any number of machines.

A collective whose partner has died fails at once with gloo, and never returns with NCCL. Therefore each process sets a
key of its own in their store every ``BEAT`` seconds. The first process of a machine watches the keys of its machine,
rank 0 watches the first processes, and the last rank watches rank 0. The one that finds a key that has stopped
publishes a verdict, and all processes read this one key. The load of the store is linear in the number of processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from danetc.dsl.diagnostics.visible import visible_lines

BEAT = 2.0
"""Seconds between two signs of life."""
SILENCE = 20
"""Beats without a sign of life after which a process counts as dead."""
VERDICT = "verdict"


class Liveness:
    """Signs of life of this process, and its watch over others, in a thread.

    ``store`` is a connection of its own, which may block; ``hosts`` are the machines of all processes by rank. The thread ends
    this process on a verdict, unless the main thread waits for it in ``verdict``.
    """

    def __init__(self, store: Any, rank: int, hosts: Sequence[str]) -> None:
        self._store, self._rank, self._hosts = store, rank, hosts
        first: dict[str, int] = {}
        for other, host in enumerate(hosts):
            first.setdefault(host, other)
        watched = set(first.values()) if rank == 0 else set()
        if rank == first[hosts[rank]]:
            watched |= {other for other, host in enumerate(hosts) if host == hosts[rank]}
        if rank == len(hosts) - 1:
            watched.add(0)
        self._watched = sorted(watched - {rank})
        self._silent = dict.fromkeys(self._watched, 0)
        self._last: dict[int, bytes] = {}
        self._beats = 0
        self._found: str | None = None
        self._stop, self._awaited = Event(), Event()
        self._thread = Thread(target=self._run, name="liveness", daemon=True)
        self.sign()

    def __enter__(self) -> Liveness:
        """Start. All processes must have been created."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(2 * BEAT)  # longer only if the store does not answer

    def publish(self, verdict: str) -> None:
        """End all processes with a message, if the store still answers."""
        with suppress(RuntimeError):
            self._store.set(VERDICT, verdict)

    def verdict(self) -> str | None:
        """Wait for the verdict after a collective has failed; None if there is none in time.

        On a single machine there is nothing to wait for: the launcher reports which process ended.
        """
        self._awaited.set()
        if len(set(self._hosts)) > 1:
            self._thread.join((SILENCE + 3) * BEAT)
        return self._found

    def sign(self) -> None:
        """Set the key of this process."""
        self._beats += 1
        self._store.set(str(self._rank), str(self._beats))

    def beat(self) -> str | None:
        """Give a sign of life and look for those of others. Return the verdict if there is one."""
        self.sign()
        if self._store.check([VERDICT]):
            found: str = self._store.get(VERDICT).decode()
            return found
        signs = self._store.multi_get([str(each) for each in self._watched])
        for other, sign in zip(self._watched, signs, strict=True):
            stopped = self._last.get(other) == sign
            self._silent[other] = self._silent[other] + 1 if stopped else 0
            self._last[other] = sign
            if self._silent[other] >= SILENCE:
                self.publish(
                    f"rank {other} on {self._hosts[other]} has sent no sign of life for "
                    f"{SILENCE * BEAT:g} s"
                )
        return None

    def _run(self) -> None:
        while self._found is None and not self._stop.wait(BEAT):
            try:
                self._found = self.beat()
            except RuntimeError as error:  # such as torch.distributed.DistError
                reason = str(error).partition("\n")[0]
                self._found = f"the store of the processes, on {self._hosts[0]}, is gone: {reason}"
        if self._found is not None and not self._stop.is_set() and not self._awaited.is_set():
            text = f"danetc: rank {self._rank} ends: {self._found}\n"
            sys.stderr.write(visible_lines(text))
            sys.stderr.flush()
            os._exit(1)
