"""SIGTERM and SIGINT: finish the step, save, stop. A second one ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

BY_CODE = 0
"""Signal number that stands for a stop requested by a callback."""


class StopRequest:
    """Records a signal that arrives inside of the context; the training checks ``signal`` after each step.

    Outside the main thread Python allows no handlers, and none is installed.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    @property
    def wanted(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        # Loader workers inherit this handler. SIGTERM, which their owner sends, ends them; Ctrl-C,
        # which the terminal sends to all processes, is left to the owner.
        forked = os.getpid() != self._process
        if forked and signum == signal.SIGINT:
            return
        if forked or self.wanted:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)  # on Windows, `os.kill` would end the process at once
            return
        self.signal = signum


class Stopped(Exception):
    """Raised when a training stops on request. ``status`` is the exit status of a process that the signal kills."""

    def __init__(self, signum: int, where: str, saved: bool) -> None:
        self.signum = signum
        self.directory: Path | None = None  # of the run, where one is known
        self.status = 128 + signum
        kept = "is saved; the same command resumes from there" if saved else "could not be saved"
        by = "a callback" if signum == BY_CODE else signal.Signals(signum).name
        super().__init__(f"stopped by {by} after {where}; its state {kept}")
