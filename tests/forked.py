"""Processes that are forked from one that has imported torch: to start Python anew takes seconds."""

from __future__ import annotations

import multiprocessing as mp
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

ROOT = Path(__file__).parents[1]
_STARTING = threading.Lock()
"""The working directory belongs to the whole process, and jobs of a grid start in threads."""


def forked() -> Any:
    """Where processes are forked from one that has imported torch, and knows no test's models;
    on Windows they are started.

    It is started in the repository: it looks for what it shall import in the folder that it is
    started in, which tests change, and says nothing where it finds none.
    """
    if not hasattr(os, "fork"):
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["tests.runtime.training.preloaded"])
    with _STARTING, chdir(ROOT):
        ensure_running()
    return context


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def as_rank(rank: int, world: int, port: int) -> None:
    """Make this process one of ``torchrun``'s."""
    import torch

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def in_two(function: Callable[..., object], *arguments: object) -> None:
    """Call ``function(*arguments, rank)`` in two processes, as ``torchrun`` does; both must succeed."""
    context, port = forked(), free_port()
    ranks = [(rank, port, function, arguments) for rank in range(2)]
    group = [context.Process(target=_one_of_two, args=each) for each in ranks]
    for process in group:
        process.start()
    for process in group:
        process.join(120)
    assert [process.exitcode for process in group] == [0, 0]


def _one_of_two(
    rank: int, port: int, function: Callable[..., object], arguments: Sequence[object]
) -> None:
    as_rank(rank, 2, port)
    function(*arguments, rank)


class Popen:
    """What tests and danetc use of ``subprocess.Popen``, for ``[sys.executable, "-P", "-m", module, ...]``.

    The module runs in a forked process. What that starts in this way is forked from it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        stdin: int | None = None,
        stdout: Any = None,
        stderr: Any = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
        creationflags: int = 0,
    ) -> None:
        words = command[command.index("-m") + 1 :]
        assert command[0] == sys.executable
        assert creationflags == 0
        self._child: list[int] = []  # the ends that this process has no use for
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        if stdin == subprocess.PIPE:
            stdin, own = os.pipe()
            self._child.append(stdin)
            self.stdin = open(own, "wb", buffering=0)  # noqa: SIM115
        if stdout == subprocess.PIPE:
            self.stdout, stdout = self._readable()
        if stderr == subprocess.PIPE:
            self.stderr, stderr = self._readable()
        nested = mp.parent_process() is not None
        context: Any = mp.get_context("fork") if nested else forked()
        handles = [None if each is None else _Handle(each) for each in (stdin, stdout, stderr)]
        folder = str(cwd or Path.cwd())
        args = words, folder, dict(env or os.environ), handles, start_new_session
        self._process = context.Process(target=_main, args=args)
        self._process.start()
        self.pid: int = self._process.pid
        for each in self._child:
            os.close(each)

    def _readable(self) -> tuple[IO[bytes], int]:
        own, other = os.pipe()
        self._child.append(other)
        return open(own, "rb"), other

    @property
    def returncode(self) -> Any:
        return self._process.exitcode

    def poll(self) -> Any:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a forked command", timeout or 0.0)
        return int(self.returncode)

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


POPEN = SimpleNamespace(Popen=Popen, PIPE=subprocess.PIPE)
"""For the ``subprocess`` of a module of danetc: its commands are forked."""


class _Handle:
    """A file that the other process gets, however it is started."""

    def __init__(self, file: Any) -> None:
        self.number: int = file if isinstance(file, int) else file.fileno()

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.reduction import DupFd  # of POSIX

        return _received, (DupFd(self.number),)


def _received(handle: Any) -> _Handle:
    return _Handle(handle.detach())


def _main(
    words: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    handles: Sequence[_Handle | None],
    session: bool,
) -> None:
    import torch

    from danetc.tasks.grid import run

    if session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for target, handle in enumerate(handles):
        if handle is not None:
            os.dup2(handle.number, target)
    os.closerange(3, 1024)  # the starter's ends of pipes among them
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        buffering = 1 if name == "stderr" else -1
        setattr(sys, name, open(number, mode, buffering, closefd=False))  # noqa: SIM115
    torch.set_num_threads(1)
    mp.set_start_method("fork", force=True)  # of loaders, as in a process that a shell has started
    run.subprocess = POPEN  # type: ignore[assignment]
    module, *arguments = words
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
