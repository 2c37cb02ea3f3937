"""A training in a process of its own: ``python -m danetc.tasks.grid.process TRAIN-ARGUMENTS``.

It is ``danetc train``, and stops when whoever started it is gone: its standard input is a pipe of
that process, which ends with it however it ends. The state is saved, as after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from danetc.runtime.system.machine import end_by

PATIENCE = 120.0
"""Seconds for which a run that a killed grid has left is waited for: it saves its state."""


def main(arguments: list[str]) -> int:
    """Run ``danetc train`` with these arguments; its exit status."""
    from danetc.main import main as danetc

    threading.Thread(target=_end_with_starter, daemon=True).start()
    sys.argv = ["danetc", "train", *arguments]  # what run.json notes
    if "-o" in arguments:
        _wait_for(Path(arguments[arguments.index("-o") + 1]))
    return danetc(sys.argv[1:])


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    end_by(signal.SIGTERM)


def _wait_for(directory: Path) -> None:
    """Until nobody trains in a directory, or patience is over (the training then says so)."""
    from danetc.errors import UserError
    from danetc.tasks.training.directory import locked

    end = time.monotonic() + PATIENCE
    while directory.is_dir() and time.monotonic() < end:
        try:
            with locked(directory):
                return
        except UserError:
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
