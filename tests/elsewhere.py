"""``python -X warn_default_encoding tests/elsewhere.py``: danetc without POSIX.

On a POSIX system, this script removes or imitates what Windows lacks or does differently: modules,
functions and signals are missing, folders cannot be opened, open files cannot be removed or replaced,
and processes are not forked. Then it trains for an epoch and uses the result. It runs in the current
folder, which must be empty.
"""

import importlib
import io
import multiprocessing
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import psutil  # before `resource` is removed, which it needs only on POSIX

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
FUNCTIONS = (
    "chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups",
    "getloadavg", "getpgid", "getpgrp", "getsid", "getuid", "killpg", "lchown", "lockf", "mkfifo",
    "nice", "openpty", "pread", "preadv", "pwrite", "sched_getaffinity", "sched_setaffinity",
    "sendfile", "setsid", "statvfs", "sync", "sysconf", "uname", "wait3", "wait4",
)  # fmt: skip
SIGNALS = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2")

SPEC = """
use std

network small(classes = 2) {
  input = image(3, 8, 8); steps = 2; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), 1) via origin
  head = avgpool -> mean_over_time -> linear(classes)
}

recipe quick {
  epochs = 1
  batch = 4
  augment = random_resized_crop(8) -> horizontal_flip
  evaluate = resize(8) -> center_crop(8)
  optimizer = adamw(lr = 0.01)
}
"""


class Gone(MetaPathFinder):
    """Makes modules missing."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name in MODULES:
            raise ImportError(f"there is no {name} here", name=name)


def in_use(path: str | os.PathLike[str]) -> Iterator[str]:
    """Files of this process at a path, or below it, that are open or mapped into memory. (Files of
    filelock are left out, since filelock removes them only on POSIX.)"""
    there = os.path.abspath(path)

    found = [each.path for each in psutil.Process().open_files()]
    maps = Path("/proc/self/maps")  # exists only on Linux
    if maps.is_file() and there in (text := maps.read_text(encoding="utf-8")):
        found += [f"/{line.partition('/')[2]}" for line in text.splitlines() if there in line]
    for each in found:
        own = ".filelock-" in each
        if not own and f"{each}{os.sep}".startswith(f"{there}{os.sep}"):
            yield each


def unless(wrong: Callable[..., Exception | None], function: Callable[..., Any]) -> Any:
    """A function that raises the exception that ``wrong`` returns for its arguments, if any."""

    def changed(*args: Any, **kwargs: Any) -> Any:
        if (error := wrong(*args)) is not None:
            raise error
        return function(*args, **kwargs)

    return changed


def a_folder(path: Any, *_: Any) -> Exception | None:
    folder = not isinstance(path, int) and os.path.isdir(path)
    return PermissionError(13, "Permission denied", path) if folder else None


def an_open_file(*paths: Any) -> Exception | None:
    for each in (each for path in paths[:2] for each in in_use(path)):
        return PermissionError(13, f"The process cannot access the file ({each})", paths[-1])
    return None


def open_or_there(source: Any, target: Any) -> Exception | None:
    there = os.path.lexists(target)
    return an_open_file(source) or (FileExistsError(17, "File exists", target) if there else None)


def import_libraries() -> None:
    """Import libraries that differ between systems, before POSIX is hidden."""
    for name in (
        "filelock", "platformdirs", "torch.utils.data", "torchvision.datasets",
        "torchvision.transforms.v2",
    ):  # fmt: skip
        importlib.import_module(name)


def hide_posix() -> None:
    usage = shutil.disk_usage(".")
    sys.meta_path.insert(0, Gone())
    for name in MODULES:
        sys.modules.pop(name, None)
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    for name in SIGNALS:
        delattr(signal, name)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    shutil.disk_usage = lambda path: usage  # it differs on Windows
    os.open = unless(a_folder, os.open)
    os.rename = unless(open_or_there, os.rename)
    os.replace = unless(an_open_file, os.replace)
    os.unlink = os.remove = unless(an_open_file, os.unlink)
    os.kill = unless(lambda *_: AssertionError("os.kill ends a process at once"), os.kill)
    multiprocessing.set_start_method("spawn")
    # Code that reads or writes text must name the encoding: each system has its own default.
    warnings.filterwarnings("error", category=EncodingWarning, module=r"danetc\b")
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="cp1252", write_through=True)


def make_images() -> None:
    import PIL.Image

    for split in ("train", "val"):
        for name, level in (("dark", 40), ("light", 200)):
            folder = Path("images", split, name)
            folder.mkdir(parents=True)
            for index in range(4):
                PIL.Image.new("RGB", (8, 8), (level + index,) * 3).save(folder / f"{index}.png")


def main() -> None:
    make_images()
    import_libraries()
    hide_posix()
    Path("small.danet").write_text(f"# caf\u00e9 \u2192\n{SPEC}", encoding="utf-8")
    from danetc.main import main as danetc

    train = "train small.danet --data folder:images --backend eager -o run"
    for line in f"""--version
check small.danet
fmt small.danet
fmt --check small.danet
summary small.danet
draw small.danet -o small.svg
build small.danet -o built
build small.danet -o built
{train} --dry-run
{train} --set recipe.workers=1
{train}
{train} --set recipe.epochs=2 --override
{train} --set recipe.seed=1 --fresh
eval run
train --from run/run.json -o again --quiet
measure run --data folder:images --batches 1
report run -o report.html
export run -o weights.safetensors""".splitlines():
        print("$ danetc", line, flush=True)
        assert danetc(line.split()) == 0, line
    assert Path("run.before-1", "run.json").is_file()


if __name__ == "__main__":
    main()
