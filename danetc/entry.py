"""Entry point of the ``danetc`` command. Ctrl-C ends it with one line, also during imports."""

from __future__ import annotations

import _signal as signal  # the module `signal` takes milliseconds to import
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType
    from typing import Any

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run() -> int:
    """Run the command line and return its exit status.

    Before the first imports are done, and after the command has ended, Ctrl-C ends the process at
    once. In between it raises KeyboardInterrupt, except while torch is imported, whose native code may
    lose the exception or abort.
    """
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as in a background job of a shell
    if not ignored:
        signal.signal(signal.SIGINT, _end)
    try:
        from danetc.main import process

        if not ignored:
            sys.meta_path.insert(0, HoldInterrupts())
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return process()
    except KeyboardInterrupt:  # outside of what `process` handles
        _end()
        raise
    finally:
        if not ignored:
            signal.signal(signal.SIGINT, _end)


def _end(signum: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    os.write(2, b"\ninterrupted\n")
    os._exit(INTERRUPTED)


class HoldInterrupts:
    """Find torch as Python does, and defer Ctrl-C until its import is done."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torch":
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _held(execute, module)  # type: ignore[method-assign]
        return spec


def _held(execute: Any, module: ModuleType) -> None:
    """Execute a module, and handle SIGINT afterwards."""
    held: list[int] = []
    try:
        before = signal.signal(signal.SIGINT, lambda signum, frame: held.append(signum))
    except ValueError:  # in another thread, which gets no KeyboardInterrupt
        execute(module)
        return
    try:
        execute(module)
    finally:
        signal.signal(signal.SIGINT, before)
    if held and callable(before):
        before(signal.SIGINT, None)
