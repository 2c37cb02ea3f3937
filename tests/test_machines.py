"""Other operating systems: danetc uses no function that they lack."""

import mmap
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from danetc.errors import UserError
from danetc.runtime.system import locks
from danetc.runtime.system.machine import free_memory, usable_cores
from tests.forked import forked

ROOT = Path(__file__).parent.parent


@pytest.mark.thorough
def test_everything_but_the_fused_backend_works_without_posix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", ROOT / "tests" / "elsewhere.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "# caf\u00e9 \u2192" in (tmp_path / "small.danet").read_text("utf-8")


AGAIN = """
import resource
from danetc.runtime.system.machine import keep_freed_memory
if {keeps}:
    keep_freed_memory()
size = 2**26
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"1" * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's")
@pytest.mark.parametrize(
    ("keeps", "given", "is_new"),
    [(True, {}, False), (False, {}, True), (True, {"MALLOC_TRIM_THRESHOLD_": "1"}, True)],
)
def test_memory_that_is_freed_is_kept(keeps: bool, given: dict[str, str], is_new: bool) -> None:
    """Pages are new without ``keep_freed_memory``, and if the environment sets another threshold."""
    command = [sys.executable, "-c", AGAIN.format(keeps=keeps)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | given
    pages = 2**26 // mmap.PAGESIZE
    assert (
        int(subprocess.check_output(command, env=env)) > pages / 20
    ) == is_new  # huge pages are fewer


def test_cores_and_memory() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert 2**20 < free_memory() < 2**50
    if hasattr(os, "sched_setaffinity"):
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            assert usable_cores() == 1
        finally:
            os.sched_setaffinity(0, before)


# -- locks -----------------------------------------------------------------------------------------

HOLDER = """
import os, sys, time
from pathlib import Path
from danetc.runtime.system.locks import locked
with locked(Path()):
    if hasattr(os, "fork"):
        ready, up = os.pipe()
        if not os.fork():
            os.write(up, b"x")
            time.sleep(60)  # as a loader process of a training that is killed
        os.read(ready, 1)  # it lives, and has given up what it has of the lock
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    """The lock is free after its process is killed, even if a process that it forked lives on."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=tmp_path, stdin=-1, stdout=-1, encoding="utf-8"
    ) as holder:
        pid = int(holder.stdout.readline())
        with pytest.raises(UserError, match="another process"), locks.locked(tmp_path):
            pass
        children = psutil.Process(pid).children() if hasattr(os, "fork") else []
        assert children or not hasattr(os, "fork")
        holder.kill()
        holder.wait()
        with locks.locked(tmp_path) as release:
            release()
            with locks.locked(tmp_path):
                pass
        for child in children:
            child.kill()


def test_no_place_for_a_lock_no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr("filelock.BaseFileLock.acquire", refused)
    with locks.alone(tmp_path / "lock"):
        pass
    with pytest.raises(PermissionError), locks.locked(tmp_path):
        pass


def _enter(lock: Path, log: Path, name: str) -> None:
    with locks.alone(lock):
        for word in ("in", "out"):
            with log.open("a", encoding="utf-8") as stream:
                stream.write(f"{name} {word}\n")


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    context = forked()
    lock, log = tmp_path / "lock", tmp_path / "log"
    others = [context.Process(target=_enter, args=(lock, log, name)) for name in "ab"]
    with locks.alone(lock):
        for each in others:
            each.start()
        assert not log.exists()
    for each in others:
        each.join()
        assert each.exitcode == 0
    first, second, third, fourth = log.read_text("utf-8").splitlines()
    assert first.split()[0] == second.split()[0] != third.split()[0] == fourth.split()[0]
