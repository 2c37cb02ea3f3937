"""Entry point of the ``danetc`` command. Ctrl-C ends it with one line, also during imports."""

from __future__ import annotations

import _signal as signal  # the module `signal` takes milliseconds to import
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run() -> int:
    """Run the command line and return its exit status.

    Before the first imports are done, and after the command has ended, Ctrl-C ends the process at
    once; in between as ``_interrupt`` does.
    """
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as in a background job of a shell
    if not ignored:
        signal.signal(signal.SIGINT, _end)
    try:
        from danetc.main import process

        if not ignored:
            signal.signal(signal.SIGINT, _interrupt)
        return process()
    except KeyboardInterrupt:  # raised before or after `process` handles it
        _end()
        raise
    finally:
        if not ignored:
            signal.signal(signal.SIGINT, _end)


def _end(signum: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    os.write(2, b"\ninterrupted\n")
    os._exit(INTERRUPTED)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt. While torch is imported, whose native code may lose an exception or
    abort, end the process instead."""
    spec = getattr(sys.modules.get("torch"), "__spec__", None)
    if getattr(spec, "_initializing", False):
        _end()
    raise KeyboardInterrupt
