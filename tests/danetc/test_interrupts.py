"""Ctrl-C during imports: one line and status 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from danetc import entry

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes of Windows have no SIGINT")


def test_interrupts_raise_except_during_torch_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = ModuleType("torch")
    torch.__spec__ = ModuleSpec("torch", None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(entry, "_end", lambda: pytest.exit("ended"))
    with pytest.raises(KeyboardInterrupt):
        entry._interrupt(signal.SIGINT, None)
    torch.__spec__._initializing = True  # type: ignore[attr-defined]
    with pytest.raises(pytest.exit.Exception, match="ended"):
        entry._interrupt(signal.SIGINT, None)


def test_an_interrupt_during_the_first_imports_is_one_line() -> None:
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from danetc.entry import run
sys.exit(run())
"""
    done = subprocess.run([sys.executable, "-c", code, "list"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\ninterrupted\n")
