"""Processes that are forked from one that has imported torch: a new start of Python takes seconds."""

import multiprocessing as mp
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import chdir
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def forked() -> Any:
    """A context that forks processes from one that has imported torch and has no models of tests;
    on Windows, processes are started.

    The fork server is started in the repository: it looks for the modules to import in its working
    directory, which tests change, and ignores missing ones silently.
    """
    if not hasattr(os, "fork"):
        return mp.get_context("spawn")
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["tests.runtime.training.preloaded"])
    with chdir(ROOT):
        ensure_running()
    return context


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def as_rank(rank: int, world: int, port: int) -> None:
    """Make this process a rank, as ``torchrun`` does."""
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
