"""Trainings that are killed at random steps, again and again, and end with the bits of one left alone.

python benchmarks/soak.py [--kills 50] [--seed N] [--one-process] [--backend NAME] [--keep DIR]

Two runs of `danetc train` take turns: one process with two loaders, and two gloo processes under
torchrun. Each has dropout, augmentation, mixing, a running mean of the weights, two phases, and a
checkpoint every 3 steps. SIGKILL hits, at a random moment after a checkpoint: a rank, a loader, the
whole group, torchrun alone. After each kill the newest checkpoint must be no older than the one
that was seen before it, and the same command goes on. Whenever a run is complete its weights,
optimizer, random states and figures must be those of the run left alone, and the next one begins.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from danetc.runtime.training.checkpoints import Checkpoints, Position, read_checkpoint

SPEC = """
use std
network soaked {
  input  = image(1, 8, 8)
  steps  = 2
  neuron = LIF
  surrogate = sigmoid(alpha = 4)
  stem   = conv(8) -> norm -> spike
  stages = stage(basic(8), 2) via origin by densely_additive
  head   = avgpool -> mean_over_time -> dropout(0.3) -> linear(10)
}
recipe long {
  phase first { steps = 1; epochs = 3; warmup = 1 }
  phase second { steps = 2; epochs = 4; start = first; precision = bf16 }
  batch = 60; accumulate = 2; clip = 1.0; ema = 0.9
  optimizer = sgd(lr = 0.05, momentum = 0.9, weight_decay = 1e-4); schedule = cosine
  augment = random_crop(8, padding = 1) -> horizontal_flip -> mixup
  checkpoint_every = 3; sync_norm = true
}
"""
UNLIKE = ("seconds", "images_per_second", "shares")
FILES = ("model", "ema", "optimizer", "rank-0")
WAIT = 120.0  # seconds for a process to begin, or to end once it is killed


@dataclass
class Case:
    """A run that is killed: its directory, how it is started, whom the kills hit."""

    name: str
    folder: Path
    processes: int
    workers: int
    victims: tuple[str, ...]
    backend: str = "eager"
    hits: Counter[str] = field(default_factory=Counter)
    completed: int = 0

    @property
    def run(self) -> Path:
        return self.folder / f"run-{self.completed}"

    @property
    def last(self) -> Path:
        return self.run / "checkpoints" / "last" / "state.json"

    def start(self, output: Path) -> subprocess.Popen[str]:
        command = [
            "train", "soaked.danet", "--data", "digits", "--backend", self.backend, "-o", str(output),
            "--quiet", "--set", f"recipe.workers={self.workers}",
        ]  # fmt: skip
        program = [sys.executable, "-m", "danetc"]
        if self.processes > 1:
            program = [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                f"--nproc-per-node={self.processes}", "-m", "danetc",
            ]  # fmt: skip
        return subprocess.Popen(
            [*program, *command], cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--one-process", action="store_true", help="without the two of torchrun")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--keep", type=Path, help="a folder for the runs, which stays")
    given = parser.parse_args()
    print(f"soak: {given.kills} kills, seed {given.seed}", flush=True)
    chance = random.Random(given.seed)
    root = given.keep or Path(tempfile.mkdtemp(prefix="danetc-soak-"))
    cases = [
        Case("one process", root / "one", 1, 2, ("process", "loader", "group"), given.backend),
        Case(
            "two processes",
            root / "two",
            2,
            1,
            ("rank", "loader", "group", "torchrun"),
            given.backend,
        ),
    ]
    cases = cases[: 1 if given.one_process else None]
    for case in cases:
        case.folder.mkdir(parents=True)
        (case.folder / "soaked.danet").write_text(SPEC)
        whole = case.start(case.folder / "whole")
        said, _ = whole.communicate(timeout=10 * WAIT)
        check(whole.returncode == 0, f"{case.name} left alone ended with {whole.returncode}", said)
    for number in range(given.kills):
        case = cases[number % len(cases)]
        kill(case, case.victims[number // len(cases) % len(case.victims)], chance)
        print(f"{number + 1:3}/{given.kills} {case.name}: {dict(case.hits)}", flush=True)
    for case in cases:
        finish(case)
    hits = sum((case.hits for case in cases), Counter[str]())
    completed = sum(case.completed for case in cases)
    print(f"{sum(hits.values())} kills ({dict(hits)}): {completed} runs completed, bit for bit")
    if given.keep is None:
        shutil.rmtree(root)
    return 0


def kill(case: Case, victim: str, chance: random.Random) -> None:
    """One kill of a run that is under way; a run that ends before is compared and begun anew."""
    while True:
        before = newest(case)
        process = case.start(case.run)
        if not began(case, process):
            said, _ = process.communicate(timeout=WAIT)
            check(process.returncode == 0, f"{case.name} ended with {process.returncode}", said)
            compare(case)
            continue
        time.sleep(chance.uniform(0.0, 0.6))
        target = choose(process.pid, victim, chance)
        if target is None or process.poll() is not None:  # it was faster
            process.communicate(timeout=WAIT)
            continue
        seen = newest(case)
        try:
            (os.killpg if victim == "group" else os.kill)(target, signal.SIGKILL)
        except ProcessLookupError:
            process.communicate(timeout=WAIT)
            continue
        said, _ = process.communicate(timeout=WAIT)  # reads to the end of all that hold the pipe
        if process.returncode == 0:  # the loader had nothing more to do
            compare(case)
            continue
        case.hits[victim] += 1
        after = newest(case)
        check(after is not None, f"{case.name}: no checkpoint is left", said)
        assert after is not None
        for known in (before, seen):
            check(known is None or after >= known, f"{case.name}: {known} was lost", said)
        if victim == "loader":
            check("a loader process has died" in said, f"{case.name}: says nothing", said)
        elif victim == "rank":
            check("has died" in said, f"{case.name}: the rank is not named", said)
        return


def finish(case: Case) -> None:
    process = case.start(case.run)
    said, _ = process.communicate(timeout=10 * WAIT)
    check(process.returncode == 0, f"{case.name} ended with {process.returncode}", said)
    compare(case)


def compare(case: Case) -> None:
    """The completed run against the one left alone. The next one begins from nothing."""
    whole, run = case.folder / "whole", case.run
    same = (whole / "weights.safetensors").read_bytes() == (
        run / "weights.safetensors"
    ).read_bytes()
    check(same, f"{case.name}: other weights")
    check(figures(whole) == figures(run), f"{case.name}: other figures")
    for kind in ("last", "best"):
        for file in FILES:
            one, two = (
                (folder / "checkpoints" / kind / f"{file}.safetensors").read_bytes()
                for folder in (whole, run)
            )
            check(one == two, f"{case.name}: another {file} in {kind}")
    case.completed += 1


def figures(run: Path) -> list[dict[str, object]]:
    record = json.loads((run / "training.json").read_text())
    return [{k: v for k, v in row.items() if k not in UNLIKE} for row in record["epochs"]]


def newest(case: Case) -> Position | None:
    """Where the newest whole checkpoint of a run is."""
    folder = case.run / "checkpoints"
    for _ in range(20):  # while it is being replaced, one may go between a look and a read
        try:
            found = Checkpoints(folder, lambda text: None, lambda path: None).latest()
        except Exception:
            time.sleep(0.05)
            continue
        return None if found is None else found.position
    read_checkpoint(folder / "last")
    return None


def began(case: Case, process: subprocess.Popen[str]) -> bool:
    """Whether a checkpoint was written before the process ended."""
    before = stamp(case.last)
    end = time.monotonic() + WAIT
    while process.poll() is None and time.monotonic() < end:
        if stamp(case.last) != before:
            return True
        time.sleep(0.01)
    return False


def stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def choose(pid: int, victim: str, chance: random.Random) -> int | None:
    """The process to kill: the one started, a rank of torchrun's, a loader."""
    if victim in ("process", "group", "torchrun"):
        return pid
    below = list(children(pid))
    ranks = below if not any(map(is_loader, below)) else [pid]
    if victim == "rank":
        return chance.choice(ranks) if ranks else None
    loaders = [each for rank in ranks for each in children(rank) if is_loader(each)]
    return chance.choice(loaders) if loaders else None


def children(pid: int) -> Iterator[int]:
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())
    except OSError:
        return


def is_loader(pid: int) -> bool:
    """A loader is forked from its owner, so its command line is the same."""
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        lines = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, parent)]
    except (OSError, ValueError):
        return False
    return lines[0] == lines[1]


def check(good: bool, what: str, said: str = "") -> None:
    if not good:
        sys.exit(f"soak: {what}\n{said}")


if __name__ == "__main__":
    sys.exit(main())
