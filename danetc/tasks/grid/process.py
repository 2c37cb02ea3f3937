"""Training in a separate process, which all engines use.

``python -m danetc.tasks.grid.process REQUEST`` runs the training of a ``TrainingRequest`` in JSON. Its
standard input is a pipe from the process that started it. The pipe closes when that process ends for
any reason; the training then saves its state and stops, as after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from danetc.runtime.system.files import append_own
from danetc.runtime.system.locks import LOCK, alone

if TYPE_CHECKING:
    from danetc.requests import TrainingRequest

POLL = 0.2
"""Seconds between two checks of a training."""
PATIENCE = 120.0
"""Seconds to wait for a training of a killed grid that is still saving its state."""


def train(
    request: str,
    log: str,
    look: Callable[[], bool] = lambda: False,
    *,
    threads: int | None = None,
    folder: str | None = None,
) -> int:
    """Train in a new process, which appends its output to ``log``, and return its exit status.

    ``look`` is called regularly, and returns True to stop the training. It is also stopped, and
    waited for, if an exception ends this function.
    """
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with append_own(Path(log)) as stream:
        # -P: the working directory may hold somebody else's modules. In a new session, Ctrl-C
        # reaches this process alone, which then stops the others. (Windows has no SIGTERM to send.)
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "danetc.tasks.grid.process", request],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env=environment,
            cwd=folder,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    assert child.stdin is not None
    try:
        while child.poll() is None:
            if look():
                child.stdin.close()
            time.sleep(POLL)
    finally:
        child.stdin.close()
        child.wait()
    return child.returncode


def main(text: str) -> int:
    """Run the training of a request as ``danetc train`` does, and return the exit status."""
    from danetc.main import reported
    from danetc.requests import TrainingRequest

    threading.Thread(target=_end_with_starter, daemon=True).start()
    request = TrainingRequest.from_json(text)
    sys.argv = request.command()  # for run.json
    assert request.output is not None
    if os.path.isdir(request.output):
        with alone(Path(request.output) / LOCK, PATIENCE):
            pass
    return reported(lambda: _run(request))


def _run(request: TrainingRequest) -> int:
    from danetc.output.echo import echo
    from danetc.runtime.system.machine import keep_freed_memory
    from danetc.runtime.training.signals import Stopped
    from danetc.tasks.training.progress import TrainingProgress, result
    from danetc.tasks.training.trials import run

    keep_freed_memory()
    try:
        with TrainingProgress(sys.stdout) as progress:
            directory, record = run(request, observer=progress, note=progress.on_notice)
    except Stopped as stopped:
        echo(f"danetc: {stopped}", err=True)
        return stopped.status
    echo(f"{result(record)}; written to {directory}")
    return 0


def _end_with_starter() -> None:
    while os.read(0, 1024):
        pass
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
