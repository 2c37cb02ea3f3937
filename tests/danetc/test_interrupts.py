"""Ctrl-C during imports: held while torch is imported, one line and status 130 otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import ModuleType

import pytest

from danetc.entry import HoldInterrupts, _held

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes of Windows have no SIGINT")


def test_an_interrupt_is_held_until_an_import_is_over() -> None:
    done = []

    def execute(module: ModuleType) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        done.append(module)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            _held(execute, ModuleType("torch"))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(done) == 1


def test_only_the_import_of_torch_is_held() -> None:
    assert HoldInterrupts().find_spec("click", None) is None


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
