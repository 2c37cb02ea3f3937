"""Detection of processes that have died, on any number of machines.

A collective whose partner has died fails at once with gloo, and never returns with NCCL. Therefore each
process updates its own key in the store every ``BEAT`` seconds and watches the key of the next rank. If
that key stops changing, it publishes a verdict, a single key that all processes read.
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
    """Thread that gives signs of life of this process and watches the next rank.

    ``store`` is a connection of its own, which may block; ``hosts`` are the machines of all processes by
    rank. The thread ends this process on a verdict, unless the main thread waits for it in ``verdict``.
    """

    def __init__(self, store: Any, rank: int, hosts: Sequence[str]) -> None:
        self._store, self._rank, self._hosts = store, rank, hosts
        self._next = (rank + 1) % len(hosts)
        self._last, self._silent, self._beats = b"", 0, 0
        self._found: str | None = None
        self._stop, self._awaited = Event(), Event()
        self._thread = Thread(target=self._run, name="liveness", daemon=True)
        self.sign()

    def __enter__(self) -> Liveness:
        """Start. All processes must have been created."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop watching: other processes may end before this one."""
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
        """Give a sign of life and look for that of the next rank. Return the verdict if there is one."""
        self.sign()
        if self._store.check([VERDICT]):
            return str(self._store.get(VERDICT), "utf-8")
        last, self._last = self._last, self._store.get(str(self._next))
        self._silent = self._silent + 1 if self._last == last else 0
        if self._silent >= SILENCE:
            where, seconds = self._hosts[self._next], SILENCE * BEAT
            self.publish(f"rank {self._next} on {where} has sent no sign of life for {seconds:g} s")
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
