"""Train the unfinished networks of results/paper/cells.toml and store their results as JSON.

::

    python results/run.py --data fashion-mnist:DIR --runs runs/paper
    python results/run.py --list
    python results/run.py --table results/digits/cells.toml

A run resumes after an interruption if its directory still exists. A run whose JSON is in ``--cells`` is not
trained again, on any machine. Two processes with the same ``--runs`` train two runs at a time: each run has
a lock, which ends with its process. SIGTERM saves a checkpoint and stops.

Each run trains a cell of ``danetc compare`` (its axes, directory and seed) and then takes the measures of
``danetc measure``. All results of a page should come from one installed version. Each JSON records the
commit of the work tree that contains this file.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TABLE = HERE / "paper" / "cells.toml"
MEASURED = ("firing-rate", "gradient-stability", "potential")
DIVERGED = "is no longer finite"
"""Part of the error message of a training that diverged."""
EPOCH = (
    "phase", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds",
)  # fmt: skip
"""Stored fields of an epoch."""


@dataclass(frozen=True)
class Group:
    """The runs of one ``danetc compare`` of a spec."""

    spec: Path
    name: str
    item: int
    network: str
    axes: Mapping[str, list[Any]]
    seeds: tuple[int, ...]
    minutes: float
    recipe: str
    data: str

    @property
    def command(self) -> str:
        """The command for the whole group, with all seeds from 0."""
        grid = "".join(
            f" --grid {name}={','.join(_written(value) for value in values)}"
            for name, values in self.axes.items()
        )
        return (
            f"danetc compare {self.spec.relative_to(HERE.parent)} -n {self.network}{grid} "
            f"--recipe {self.recipe} --seeds {max(self.seeds) + 1} --data {self.data}"
        )


@dataclass(frozen=True)
class Run:
    """One training. ``request`` is a TrainingRequest without the directory and the seed."""

    group: Group
    cell: str
    axes: Mapping[str, Any]
    seed: int
    request: Any

    @property
    def name(self) -> str:
        recipe = "" if self.group.recipe == "one_step" else f",{self.group.recipe}"
        return f"{self.cell}{recipe},seed={self.seed}"


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_groups(path: Path) -> list[Group]:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    recipe, data = table.get("recipe", "one_step"), table.get("data", "fashion-mnist:DIR")
    return [
        Group(
            (path.parent / table["spec"]).resolve(),
            each["name"],
            each["item"],
            each["network"],
            each["axes"],
            tuple(each["seeds"]),
            each["minutes"],
            each.get("recipe", recipe),
            data,
        )
        for each in table["group"]
    ]


def all_runs(groups: list[Group], data: str | None = None) -> Iterator[Run]:
    """Return all runs in the order of training, without repetitions.

    Each run uses ``data``, or the data named in its table.
    """
    from danetc.requests import TrainingRequest
    from danetc.tasks.grid.cells import Axis, combinations, find_networks, make_cell

    seen = set()
    networks = {
        spec: {each.name: each for each in find_networks([str(spec)], [])}
        for spec in {group.spec for group in groups}
    }
    for group in groups:
        axes = [Axis(name, tuple(values)) for name, values in group.axes.items()]
        base = TrainingRequest("", data or group.data, recipe=group.recipe)
        chosen = [networks[group.spec][group.network]]
        for network, values in combinations(chosen, axes, base):
            cell = make_cell(network, values, base, Path())
            for seed in group.seeds:
                run = Run(group, cell.name, cell.axes, seed, cell.request)
                if run.name not in seen:
                    seen.add(run.name)
                    yield run


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Yield True if this process holds the lock, False if another one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def train(run: Run, folder: Path) -> float:
    """Train a run to its end. Return the CPU seconds of this process and earlier ones."""
    from danetc.tasks.training.progress import TrainingProgress
    from danetc.tasks.training.trials import run as training

    folder.mkdir(parents=True, exist_ok=True)
    spent = folder.with_name(f"{folder.name}.seconds")
    before = float(spent.read_text()) if spent.exists() else 0.0
    began = time.process_time()
    try:
        with TrainingProgress(sys.stdout, quiet=False) as progress:
            training(
                replace(run.request, output=folder, seed=run.seed),
                observer=progress,
                note=progress.on_notice,
            )
    finally:
        total = before + time.process_time() - began
        spent.write_text(f"{total:.1f}")
    return total


def measure(run: Run, folder: Path) -> dict[str, Any]:
    """Return the measures of the trained network on 256 test images, as in measures.json."""
    from danetc.requests import MeasuredOn
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.measure import measure_subject

    subject = open_subject(str(folder), None, {}, run.seed, None)
    asked = MeasuredOn(data=run.request.data, only=MEASURED)
    _, found = measure_subject(run.name, subject, asked, "running", run.seed, silent=True)
    return found


def kept(run: Run, folder: Path, measured: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the JSON of a run. `v` of a layer is the mean and deviation of the membrane potential."""
    rates = {each["layer"]: each for each in measured["firing_rate"]["layers"]}
    potentials = {each["layer"]: each["distribution"] for each in measured["potential"]["layers"]}
    stability = measured["gradient_stability"]
    layers = [
        {
            "layer": each["layer"],
            "main": each["main"],
            "interblock": each["interblock"],
            "rate": _short(rates[each["layer"]]["rate"]),
            "dodv": _short(each["stability"]),
            "v": [_short(potentials[each["layer"]][name]) for name in ("mean", "std")],
        }
        for each in stability["layers"]
    ]
    return {
        **asked_of(run),
        "depth": measured["depth"],
        "connection": measured["connection"],
        "rule": measured["rule"],
        "T": measured["steps"],
        "made": made(folder, seconds),
        "measured_on": {"split": "test", "images": measured["images"]},
        "firing_rate": measured["firing_rate"]["mean_of_layers"],
        "log10_product": stability["log10_overall"],
        "dodv_a_layer": stability["geometric_mean"],
        "epochs": epochs(folder),
        "layers": layers,
    }


def diverged(run: Run, folder: Path, why: str) -> dict[str, Any]:
    """Return the JSON of a run that diverged."""
    spent = folder.with_name(f"{folder.name}.seconds")
    seconds = float(spent.read_text())
    return {
        **asked_of(run),
        "made": made(folder, seconds),
        "diverged": why,
        "epochs": epochs(folder),
    }


def asked_of(run: Run) -> dict[str, Any]:
    """Return the settings of a run."""
    return {
        "network": run.group.network,
        "axes": dict(run.axes),
        "recipe": run.group.recipe,
        "seed": run.seed,
        "command": run.group.command,
    }


def made(folder: Path, seconds: float) -> dict[str, Any]:
    """Return the versions, machine and time of a run."""
    about = _read(folder / "run.json")["facts"]
    git = about["git"] or {}
    return {
        "danetc": about["danetc"],
        "commit": git.get("commit"),
        "changed": git.get("changed"),
        "torch": about["torch"],
        "python": about["python"],
        "device": about["device"],
        "processor": processor(),
        "threads": about["threads"],
        "began": about["began"],
        "cpu_seconds": round(seconds, 1),
    }


def epochs(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run's epochs."""
    known = _read(folder / "training.json")["epochs"]
    return [{name: epoch[name] for name in EPOCH} for epoch in known]


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def processor() -> str:
    """Return the processor name given by Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")


def write(record: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file atomically, with one line per entry, epoch and layer."""
    lines = []
    for key, value in record.items():
        if isinstance(value, list):
            inner = ",\n".join(f"  {json.dumps(each)}" for each in value)
            lines.append(f"{json.dumps(key)}: [\n{inner}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    new = path.with_name(f".{path.name}.new")
    new.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    os.replace(new, path)


def show(runs: list[Run], cells: Path) -> None:
    """Print the finished and remaining runs by group."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.group.name, []).append(run)
    left = 0.0
    for name, own in groups.items():
        waiting = [run for run in own if not (cells / f"{run.name}.json").exists()]
        left += len(waiting) * own[0].group.minutes
        state = "done" if not waiting else f"{len(own) - len(waiting)} of {len(own)} done"
        print(f"item {own[0].group.item}  {state:<12} {name}")
    print(f"about {left / 60:.1f} CPU-hours are left")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", help="in place of the table's; fashion-mnist:DIR")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"), help="where runs go")
    parser.add_argument("--cells", type=Path, help="where the JSON goes; cells/ beside the table")
    parser.add_argument("--table", type=Path, default=TABLE, help="what is trained")
    parser.add_argument("--list", action="store_true", help="say what is done, and train nothing")
    asked = parser.parse_args()

    asked.cells = asked.cells or asked.table.parent / "cells"
    for name in ("runs", "cells", "table"):  # relative paths refer to the directory of the start
        setattr(asked, name, getattr(asked, name).absolute())
    runs = list(all_runs(read_groups(asked.table), asked.data))
    if asked.list:
        show(runs, asked.cells)
        return 0
    os.chdir(HERE)  # run.json records its commit
    failed = 0
    for run in runs:
        file = asked.cells / f"{run.name}.json"
        with held(asked.runs / "locks" / run.name) as own:
            if not own or file.exists():
                continue
            folder = asked.runs / run.cell / run.group.recipe / f"seed-{run.seed}"
            print(f"== {run.name}", flush=True)
            status, failed = one(run, folder, file, failed)
            if status:
                return status
    return int(failed > 0)


def one(run: Run, folder: Path, file: Path, failed: int) -> tuple[int, int]:
    """Train and measure a run and write its JSON.

    Returns the exit status if a signal has stopped it, otherwise 0, and the number of failed runs. The
    error of a failed run is printed.
    """
    from danetc.errors import UserError
    from danetc.runtime.training.signals import Stopped

    try:
        seconds = train(run, folder)
        write(kept(run, folder, measure(run, folder), seconds), file)
    except Stopped as stopped:
        print(stopped, flush=True)
        return stopped.status, failed
    except UserError as error:
        if DIVERGED not in str(error):
            traceback.print_exc()
            return 0, failed + 1
        print(f"it diverges: {error}", flush=True)
        write(diverged(run, folder, str(error)), file)
    except Exception:
        traceback.print_exc()
        return 0, failed + 1
    return 0, failed


if __name__ == "__main__":
    sys.exit(main())
