"""The directory of a run: a model directory, plus the files needed to repeat and resume the run.

==================== =============================================================
model.py, ...        as in a model directory, with the weights after the last epoch
run.json             settings that determine the results, and facts about the run
training.json        results of every epoch
metrics.csv          the same results as a table
tensorboard/         the same results as curves, with danetc[tensorboard]
checkpoints/         see ``danetc.runtime.training.checkpoints``
.lock                held by the process that trains here
==================== =============================================================

Each trial has such a directory, ``seed-K``, beside a common trials.json.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError
from danetc.runtime.model.weight_files import tensor_file
from danetc.runtime.system.files import (
    DamagedError,
    digest,
    file_digest,
    replace_file,
    save_record,
    within,
)
from danetc.runtime.system.locks import locked
from danetc.runtime.training.checkpoints import read_checkpoint
from danetc.runtime.training.observer import PARTS
from danetc.tasks.model_directory import (
    LOCK,
    PICTURE,
    RUN,
    TRAINING,
    TRIALS,
    WEIGHTS,
    record_if_any,
    refuse_unless_replaceable,
)

if TYPE_CHECKING:
    from torch import Tensor

    from danetc.output.echo import Note
    from danetc.requests import TrainingRequest
    from danetc.runtime.training.checkpoints import Snapshot

FORMAT = 1
CHECKPOINTS = "checkpoints"
METRICS = "metrics.csv"
MOVING = ("danetc", "torch", "device", "processes", "threads", "git", "callbacks")
"""Facts in run.json that may differ when a run is resumed."""
_FIGURES = (
    "phase", "epoch", "learning_rate", "train_loss", "train_accuracy", "train_top5",
    "test_loss", "test_accuracy", "test_top5", "seconds", "images_per_second", "skipped",
)  # fmt: skip

_GROUPS = {"share": "shares", "term": "terms", "test": "scores", "val": "val_scores"}


@dataclass(frozen=True)
class RunDirectory:
    """A directory that this process locks. ``known`` is its run.json, or None for a new run."""

    path: Path
    known: Mapping[str, Any] | None

    @property
    def checkpoints(self) -> Path:
        return within(self.path, CHECKPOINTS)

    def write_run(
        self, settings: Mapping[str, Any], facts: Mapping[str, Any], changes: list[str]
    ) -> None:
        """Write run.json. ``changes`` lists settings that are overridden.

        Earlier changes are kept, and so are earlier facts if any of ``MOVING`` has changed.
        """
        known = self.known or {}
        before = known.get("facts")
        others = list(known.get("earlier", []))
        if before is not None and any(before.get(key) != facts.get(key) for key in MOVING):
            others.append({key: before.get(key) for key in (*MOVING, "command", "began")})
        record = {
            "format": FORMAT,
            "settings": dict(settings),
            "facts": dict(facts),
            "changes": [*known.get("changes", []), *([changes] if changes else [])],
            "earlier": others,
        }
        save_record(record, self.path / RUN)

    def write_model(self, files: Mapping[str, bytes]) -> None:
        """Write the ``model_files`` that have changed."""
        if PICTURE not in files:  # the existing picture is outdated
            (self.path / PICTURE).unlink(missing_ok=True)
        for name, data in files.items():
            try:
                same = file_digest(within(self.path, name)) == digest(data)
            except DamagedError:
                same = False
            if not same:
                replace_file(self.path / name, data)

    def write_results(self, weights: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Write weights, and the results with the digest of the weights."""
        data = tensor_file(weights)
        replace_file(self.path / WEIGHTS, data)
        save_record({**record, "weights": digest(data)}, self.path / TRAINING)
        replace_file(self.path / METRICS, metrics_csv(record["epochs"]).encode())


def metrics_csv(epochs: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a row for each epoch; ``row`` counts the epochs of all phases from 1.

    The file is always replaced as a whole, so a killed run neither repeats nor loses a row.
    """
    stream = io.StringIO()
    shares, scores = [f"share_{part}" for part in PARTS], ["test_miou", "test_rmse"]
    scores += ["test_perplexity"] * any("perplexity" in e.get("scores", {}) for e in epochs)
    columns = ["row", *_FIGURES, *shares, *scores]
    if any("val_loss" in epoch for epoch in epochs):
        columns += [name.replace("test", "val") for name in columns if name.startswith("test")]
    columns += dict.fromkeys(f"term_{name}" for epoch in epochs for name in epoch.get("terms", {}))
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for number, epoch in enumerate(epochs, 1):
        row = {
            f"{column}_{name}": value
            for column, key in _GROUPS.items()
            for name, value in epoch.get(key, {}).items()
        }
        writer.writerow({"row": number, **epoch, **row})
    return stream.getvalue()


def checkpoint_in(path: Path, checkpoint: str) -> Snapshot:
    """Return a run's checkpoint by its name. Raises UserError."""
    folder = within(path, CHECKPOINTS)
    there = sorted(each.name for each in folder.glob("[!.]*")) if folder.is_dir() else []
    if checkpoint not in there:
        listed = f"there are {', '.join(there)}" if there else "there are no checkpoints"
        raise UserError(f"{path} has no checkpoint `{checkpoint}`; {listed}")
    return read_checkpoint(folder / checkpoint)


def weights_of(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """Return the weights of a checkpoint, or their moving average if there is one."""
    return snapshot.tensors.get("ema") or snapshot.tensors["model"]


@contextmanager
def opened(
    path: Path, settings: Mapping[str, Any], request: TrainingRequest, note: Note
) -> Iterator[tuple[RunDirectory, list[str]]]:
    """Lock the directory for a run, and yield it with the differences that are overridden.

    A new run needs a new directory, an empty one or one of ``danetc build``. An existing run is
    resumed if its settings are the same or the request overrides them, and moved aside if the
    request is ``fresh``. Raises UserError in all other cases, and if another process trains there.
    """
    known = None if request.fresh else read_run(path)
    if not (path / RUN).is_file():
        _refuse_others(path)
    elif request.fresh:
        with locked(path) as release:
            moved = _aside(path, release)
        note(f"the run in {path} is now in {moved}")
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        for left in path.glob(".*"):  # temporary files of a killed process
            if left.is_file() and left.name != LOCK:
                left.unlink()
        folder = within(path, CHECKPOINTS)
        if not folder.is_dir() or not any(each.is_dir() for each in folder.iterdir()):
            known = None  # there is nothing to resume or to lose
        differences = [] if known is None else compare(known["settings"], settings)
        if differences and not request.override:
            listed = "\n  ".join(differences)
            raise UserError(
                f"{path} holds a run with other settings:\n  {listed}\n"
                "choose another directory with -o DIR, resume with the new settings with "
                "--override, or start over with --fresh (the old run is moved aside)"
            )
        yield RunDirectory(path, known), differences


def state_of(path: Path, settings: Mapping[str, Any]) -> str:
    """Describe the state of a directory, without writing to it.

    Raises UserError if no run could start there, regardless of its settings.
    """
    known = read_run(path)
    if known is None:
        _refuse_others(path)
        return "new"
    differences = compare(known["settings"], settings)
    if not differences:
        return "holds a run with these settings, which is resumed"
    listed = "; ".join(differences)
    return f"holds a run with other settings ({listed}), so --override or --fresh is needed"


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings that differ, with both values. Line breaks in the text are ignored."""
    old, new = _flat(before), _flat(now)
    found = []
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) == new.get(key):
            continue
        if key == "spec":
            texts = str(old[key]), str(new[key])
            if texts[0].split() != texts[1].split():
                found.append(f"the network's text:{_text_difference(*texts)}")
        else:
            name = "digest of the data" if key == "data.fingerprint" else key
            found.append(f"{name}: {_shown(old.get(key))} there, {_shown(new.get(key))} now")
    return found


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: list(value) if isinstance(value, tuple) else value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value) if not isinstance(value, str) else value


def _text_difference(before: str, now: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=0)
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    shown = changed[:6] + (["..."] if len(changed) > 6 else [])
    return "".join(f"\n    {line}" for line in shown)


def read_run(path: Path) -> Mapping[str, Any] | None:
    """Return the run.json of a directory, or None. Raises UserError if it is damaged."""
    place = path / RUN
    try:
        record = record_if_any(place)
    except UserError as error:
        raise UserError(
            f"{error}\nwithout it, the settings of the run are unknown; start over with -o DIR or "
            "--fresh (checkpoints are kept)"
        ) from error
    if record is None:
        return None
    if not isinstance(record.get("settings"), dict) or type(record.get("format")) is not int:
        raise UserError(f"{place} does not contain the settings of the run")
    if record["format"] > FORMAT:
        raise UserError(
            f"{place} was written by a newer danetc, in format {record['format']} of runs; this "
            f"version reads {FORMAT}"
        )
    return record


def _refuse_others(path: Path) -> None:
    """Raise UserError if a directory without a run holds trials, or files that are not danetc's."""
    if (path / TRIALS).is_file():
        raise UserError(
            f"{path} holds trials; choose one of {path}/seed-... or another directory (-o DIR)"
        )
    refuse_unless_replaceable(path)


def refuse_run(path: Path) -> None:
    """Raise UserError if the directory for trials contains a single run."""
    if (path / RUN).is_file():
        raise UserError(f"{path} holds a single run; choose another directory with -o DIR")


def _aside(path: Path, release: Callable[[], None]) -> Path:
    """Move a locked directory out of the way, and return its new name."""
    number = 1
    while (moved := path.with_name(f"{path.name}.before-{number}")).exists():
        number += 1
    try:
        path.rename(moved)
    except PermissionError:  # Windows cannot move a folder with an open file, such as the lock
        release()
        path.rename(moved)
    return moved
