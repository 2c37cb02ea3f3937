"""Train the unfinished networks of results/paper/cells.toml and store their results as JSON.

::

    python results/run.py --dir DIR --runs runs/paper
    python results/run.py --list
    python results/run.py --table results/digits/cells.toml

A run resumes after an interruption if its directory still exists. A run whose JSON is in ``--cells`` is not
trained again, on any machine. Two processes with the same ``--runs`` train two runs at a time: each run has
a lock, which ends with its process. SIGTERM saves a checkpoint and stops.

Each run trains a cell of ``danetc compare`` (its axes, directory and seed) and then takes the measures of
``danetc measure``. All results of a page should come from one installed version. Each JSON records the
commit of the work tree that contains this file.

A group of a table has one of the following, and ``test = false`` if its networks are only candidates, whose
test accuracies are not stored ::

    network = NAME, axes = {AXIS = [VALUE, ...], ...}         # every combination
    rows = LIST                                               # a list of drawn.json beside the table
    best = {of = [GROUP, ...], keep = NUMBER, by = [AXIS, ...]}   # of the runs of earlier groups

``best`` keeps the cells with the highest validation accuracy after the last epoch, a mean over their seeds
(0 for one that diverged; the earlier one of equals), separately for each combination of the axes in ``by``.
Its runs are known once all runs of those groups have a JSON.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import shlex
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
TABLE = HERE / "paper" / "cells.toml"
MEASURED = ("firing-rate", "gradient-stability", "potential", "operations")
DIVERGED = "is no longer finite"
"""Part of the error message of a training that diverged."""
EPOCH = (
    "phase", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss",
    "test_accuracy", "seconds",
)  # fmt: skip
"""Stored fields of an epoch, as far as they are known."""


@dataclass(frozen=True)
class Group:
    """Networks that are trained by a recipe with each of the seeds; ``chosen`` selects the networks."""

    spec: Path
    name: str
    item: int
    chosen: Mapping[str, Any]
    seeds: tuple[int, ...]
    minutes: float
    recipe: str
    data: str
    gradients: bool
    test: bool
    drawn: Path

    def rows(self, known: Mapping[str, Sequence[Run]], cells: Path) -> list[Row] | None:
        """Return the networks, or None if a group that decides about them has unfinished runs."""
        if (best := self.chosen.get("best")) is not None:
            runs = [run for name in best["of"] for run in known[name]]
            return choose(runs, cells, best["keep"], best.get("by", ()))
        if (name := self.chosen.get("rows")) is not None:
            return [(each["network"], each["axes"]) for each in _read(self.drawn)[name]]
        axes = self.chosen["axes"]
        found = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
        return [(self.chosen["network"], each) for each in found]


Row = tuple[str, Mapping[str, Any]]
"""Name of a network, and the value on each axis."""


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

    @property
    def varied(self) -> Mapping[str, Any]:
        """The value on each axis but the network."""
        return {name: value for name, value in self.axes.items() if name != "network"}

    @property
    def command(self) -> str:
        """The ``danetc train`` command of this run, with ``DIR`` as in its table."""
        spec = self.group.spec.relative_to(HERE.parent)
        shown = replace(self.request, spec=spec, data=self.group.data, output=None, seed=self.seed)
        return shlex.join(shown.command())


def choose(runs: Sequence[Run], cells: Path, keep: int, by: Sequence[str] = ()) -> list[Row] | None:
    """Return the best networks of these runs (see ``best`` above), or None if one is unfinished."""
    if not runs or not all((cells / f"{run.name}.json").exists() for run in runs):
        return None
    scores: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    rows: dict[str, Row] = {}
    for run in runs:
        record = _read(cells / f"{run.name}.json")
        score = 0.0 if "diverged" in record else record["epochs"][-1]["val_accuracy"]
        kind = scores.setdefault(tuple(run.axes[name] for name in by), {})
        kind.setdefault(run.cell, []).append(score)
        rows[run.cell] = run.request.network, run.varied
    return [
        rows[cell]
        for kind in scores.values()
        for cell in sorted(kind, key=lambda cell: -mean(kind[cell]))[:keep]
    ]


def read_groups(path: Path) -> list[Group]:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    recipe, data = table.get("recipe", "one_step"), table.get("data", "fashion-mnist:DIR")
    return [
        Group(
            (path.parent / table["spec"]).resolve(),
            each["name"],
            each["item"],
            {name: each[name] for name in ("network", "axes", "rows", "best") if name in each},
            tuple(each["seeds"]),
            each["minutes"],
            each.get("recipe", recipe),
            each.get("data", data),
            each.get("gradients", False),
            each.get("test", True),
            path.parent / "drawn.json",
        )
        for each in table["group"]
    ]


def runs_of(
    group: Group, known: Mapping[str, Sequence[Run]], cells: Path, place: str = "DIR"
) -> list[Run]:
    """Return the runs of a group, none if they are not known yet.

    ``known`` has the runs of earlier groups by the group's name. The data is read from ``place``.
    """
    from danetc.requests import TrainingRequest
    from danetc.tasks.grid.cells import check_axes, make_cell

    base = TrainingRequest("", group.data.replace("DIR", place), recipe=group.recipe)
    runs = []
    for name, axes in group.rows(known, cells) or ():
        network = networks_of(group.spec)[name]
        check_axes([network], list(axes), base)
        cell = make_cell(network, axes, base, Path())
        runs += [Run(group, cell.name, cell.axes, seed, cell.request) for seed in group.seeds]
    return runs


@cache
def networks_of(spec: Path) -> Mapping[str, Any]:
    from danetc.tasks.grid.cells import find_networks

    return {each.name: each for each in find_networks([str(spec)], [])}


def all_runs(groups: Sequence[Group], cells: Path, place: str = "DIR") -> Iterator[Run]:
    """Return all runs in the order of training, without repetitions.

    The runs of a group are computed when those before it have been taken, from the JSON in ``cells``.
    """
    known: dict[str, list[Run]] = {}
    seen = set()
    for group in groups:
        known[group.name] = runs_of(group, known, cells, place)
        for run in known[group.name]:
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
    from danetc.runtime.training.observer import Callbacks
    from danetc.runtime.training.signals import StopRequest
    from danetc.tasks.training.progress import TrainingProgress
    from danetc.tasks.training.trials import run as training

    folder.mkdir(parents=True, exist_ok=True)
    stop = StopRequest()
    spent = folder.with_name(f"{folder.name}.seconds")
    before = float(spent.read_text()) if spent.exists() else 0.0
    began = time.process_time()
    try:
        with TrainingProgress(sys.stdout, quiet=False) as progress:
            training(
                replace(run.request, output=folder, seed=run.seed),
                observer=Callbacks([progress, *watches(run, folder)], stop),
                note=progress.on_notice,
                stop=stop,
            )
    finally:
        total = before + time.process_time() - began
        spent.write_text(f"{total:.1f}")
    return total


def watches(run: Run, folder: Path) -> list[Any]:
    """Return a callback that measures gradients after each epoch, if the group asks for it.

    Those before the training, or of an epoch after which the process was killed, are measured at once.
    """
    from danetc.runtime.training.observer import Callback

    class Watch(Callback):
        def on_epoch_end(self, epoch: Any) -> None:
            add_gradients(run, folder, epoch.epoch)

    if not run.group.gradients:
        return []
    trained = folder / "training.json"
    add_gradients(run, folder, len(_read(trained)["epochs"]) if trained.exists() else 0)
    return [Watch()]


def add_gradients(run: Run, folder: Path, epoch: int) -> None:
    """Add the gradient norms after an epoch to gradients.json of a run, unless they are there.

    They are those of the loss on 256 training images, with the norms' statistics of each batch. ``neurons``
    has the norm of the gradient of each layer's input on the main path, ``weights`` of each weight that is
    not a norm's.
    """
    from danetc.dsl.recipe.text import write_setting
    from danetc.requests import MeasuredOn
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.measure import measure_subject
    from danetc.tasks.training.plan import find_recipe

    file = folder.with_name(f"{folder.name}.gradients.json")
    known = _read(file) if file.exists() else []
    if len(known) > epoch:
        return
    asked = run.request
    if epoch:
        subject = open_subject(str(folder), None, {}, run.seed, None)
    else:
        subject = open_subject(asked.spec, asked.network, asked.set, run.seed, None)
    module = networks_of(run.group.spec)[asked.network].checked.module
    steps = find_recipe(module, asked.recipe, asked.data, {}).phases[-1].evaluate
    prepare = write_setting("evaluate", steps)
    of = MeasuredOn(
        data=asked.data, batches=2, batch=128, split="train", prepare=prepare, only=("gradients",)
    )
    _, found = measure_subject(run.name, subject, of, "batch", run.seed, silent=True)
    norms = found["gradients"]
    neurons = {each["layer"]: _short(each["whole"]) for each in norms["neurons"] if each["main"]}
    weights = {
        each["parameter"]: _short(each["whole"])
        for each in norms["parameters"]
        if each["parameter"].endswith(".weight") and "norm" not in each["parameter"]
    }
    known.append({"epoch": epoch, "loss": norms["loss"], "neurons": neurons, "weights": weights})
    new = file.with_name(f".{file.name}.new")
    new.write_text(json.dumps(known), encoding="utf-8")
    os.replace(new, file)


def measure(run: Run, folder: Path) -> dict[str, Any]:
    """Return the measures of the trained network on 256 images, as in measures.json.

    They are images of the test set, or of the validation set if there is one.
    """
    from danetc.requests import MeasuredOn
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.measure import measure_subject

    subject = open_subject(str(folder), None, {}, run.seed, None)
    split = "val" if ",val=" in run.request.data else "test"
    asked = MeasuredOn(data=run.request.data, only=MEASURED, split=split)
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
        "measured_on": {
            "split": "val" if ",val=" in run.group.data else "test",
            "images": measured["images"],
        },
        "operations": {
            name: _short(measured["operations"][name]) for name in ("additions", "macs", "energy")
        },
        "firing_rate": measured["firing_rate"]["mean_of_layers"],
        "log10_product": stability["log10_overall"],
        "dodv_a_layer": stability["geometric_mean"],
        "epochs": epochs(folder, run.group.test),
        **gradients(run, folder),
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
        "epochs": epochs(folder, run.group.test),
        **gradients(run, folder),
    }


def asked_of(run: Run) -> dict[str, Any]:
    """Return the settings of a run."""
    return {
        "network": run.request.network,
        "axes": dict(run.axes),
        "recipe": run.group.recipe,
        "seed": run.seed,
        "command": run.command,
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


def epochs(folder: Path, test: bool) -> list[dict[str, Any]]:
    """Return the metrics of a run's epochs, with or without those of the test set."""
    names = [name for name in EPOCH if test or not name.startswith("test_")]
    known = _read(folder / "training.json")["epochs"]
    return [{name: epoch[name] for name in names if epoch.get(name) is not None} for epoch in known]


def gradients(run: Run, folder: Path) -> dict[str, Any]:
    """Return the gradient norms before the training and after each epoch, if they were measured."""
    if not run.group.gradients:
        return {}
    return {"gradients": _read(folder.with_name(f"{folder.name}.gradients.json"))}


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


@dataclass(frozen=True)
class State:
    """Progress of a group: its runs, as far as they are known, and the number of runs and of finished ones."""

    group: Group
    runs: Sequence[Run]
    count: int
    done: int

    @property
    def minutes(self) -> float:
        """Estimated CPU-minutes of the runs that are left."""
        return (self.count - self.done) * self.group.minutes


def states(groups: Sequence[Group], cells: Path) -> list[State]:
    """Return the progress of each group, without runs that an earlier one has too."""
    known: dict[str, list[Run]] = {}
    seen: set[str] = set()
    found = []
    for group in groups:
        known[group.name] = runs_of(group, known, cells)
        own = [run for run in known[group.name] if run.name not in seen]
        seen |= {run.name for run in own}
        count = len(own)
        if not known[group.name] and (best := group.chosen.get("best")):
            of = [run for name in best["of"] for run in known[name]]
            kinds = {tuple(run.axes[name] for name in best.get("by", ())) for run in of}
            count = max(1, len(kinds)) * best["keep"] * len(group.seeds)
        done = sum((cells / f"{run.name}.json").exists() for run in own)
        found.append(State(group, own, count, done))
    return found


def show(groups: Sequence[Group], cells: Path) -> None:
    """Print the finished and remaining runs by group."""
    found = states(groups, cells)
    for each in found:
        state = "done" if each.done == each.count else f"{each.done} of {each.count} done"
        print(f"item {each.group.item}  {state:<14} {each.group.name}")
    print(f"about {sum(each.minutes for each in found) / 60:.1f} CPU-hours are left")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dir", default="DIR", help="folder of the data, DIR in the tables")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"), help="where runs go")
    parser.add_argument("--cells", type=Path, help="where the JSON goes; cells/ beside the table")
    parser.add_argument("--table", type=Path, default=TABLE, help="what is trained")
    parser.add_argument("--list", action="store_true", help="say what is done, and train nothing")
    asked = parser.parse_args()

    asked.cells = asked.cells or asked.table.parent / "cells"
    for name in ("runs", "cells", "table"):  # relative paths refer to the directory of the start
        setattr(asked, name, getattr(asked, name).absolute())
    groups = read_groups(asked.table)
    if asked.list:
        show(groups, asked.cells)
        return 0
    asked.cells.mkdir(parents=True, exist_ok=True)
    os.chdir(HERE)  # run.json records its commit
    failed = 0
    for run in all_runs(groups, asked.cells, asked.dir):
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
