"""The directory of a run: a model directory, and all that is needed to repeat and to resume it.

==================== =============================================================
model.py, ...        as in a model directory; the weights are those after the last epoch
run.json             the settings that decide the numbers, and facts of the run
training.json        what came out: the figures of every epoch
metrics.csv          the same as a table
tensorboard/         the same as curves, where danetc[tensorboard] is installed
checkpoints/         see ``danetc.runtime.training.checkpoints``
.lock                held by the process that trains here
==================== =============================================================

Trials have such a directory each, ``seed-K`` in a common one, with trials.json beside them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError
from danetc.runtime.model.weight_files import tensor_file
from danetc.runtime.system import locks
from danetc.runtime.system.errors import CheckpointError
from danetc.runtime.system.files import (
    DamagedError,
    digest,
    file_digest,
    replace_file,
    save_record,
    within,
)
from danetc.runtime.training.checkpoints import read_checkpoint
from danetc.tasks.model_directory import (
    LOCK,
    LOCKS,
    PICTURE,
    RUN,
    TRAINING,
    TRIALS,
    WEIGHTS,
    model_files,
    refuse_unless_replaceable,
)
from danetc.tasks.records import inside, record_if_any
from danetc.tasks.training.metrics import METRICS, metrics_csv

if TYPE_CHECKING:
    from torch import Tensor

    from danetc.output.echo import Note
    from danetc.runtime.training.checkpoints import Snapshot
    from danetc.tasks.networks import CompiledNetwork

FORMAT = 1
CHECKPOINTS = "checkpoints"
MOVING = ("danetc", "torch", "device", "processes", "threads", "git")
"""Facts of run.json that may not be the same where a run is resumed."""


@dataclass(frozen=True)
class RunDirectory:
    """A directory that this process may write to, and what stood there: ``known`` is the record in
    its run.json, None where the run is new.
    """

    path: Path
    known: Mapping[str, Any] | None

    @property
    def checkpoints(self) -> Path:
        return inside(self.path, CHECKPOINTS)

    def write_run(
        self, settings: Mapping[str, Any], facts: Mapping[str, Any], changes: list[str]
    ) -> None:
        """Write run.json. ``changes`` are settings that were overridden; those of before are kept, and
        so are the facts of before, where any of ``MOVING`` has changed.
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

    def write_model(
        self,
        compiled: CompiledNetwork,
        *,
        seed: int,
        init: str | None,
        memory: Mapping[str, object] | None,
        note: Note,
    ) -> None:
        """Write what a model directory holds beside the weights, each file in its old one's place."""
        files = model_files(compiled, seed=seed, init=init, memory=memory, note=note)
        if PICTURE not in files:  # one of before would be of another network
            (self.path / PICTURE).unlink(missing_ok=True)
        for name, data in files.items():
            if not _holds(self.path / name, data):
                replace_file(self.path / name, data)

    @property
    def has_results(self) -> bool:
        """Whether an epoch is finished, whose weights stand beside the network's files."""
        return (self.path / TRAINING).is_file()

    def write_results(self, weights: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Write the weights and the figures that are theirs, which name them by their digest."""
        data = tensor_file(weights)
        replace_file(self.path / WEIGHTS, data)
        save_record({**record, "weights": digest(data)}, self.path / TRAINING)
        replace_file(self.path / METRICS, metrics_csv(record["epochs"]).encode())


def checkpoint_in(path: Path, checkpoint: str) -> Snapshot:
    """A run's checkpoint by its name. Raises UserError."""
    folder = inside(path, CHECKPOINTS)
    there = sorted(each.name for each in folder.glob("[!.]*")) if folder.is_dir() else []
    if checkpoint not in there:
        listed = f"there are {', '.join(there)}" if there else "there are none"
        raise UserError(f"{path} has no checkpoint `{checkpoint}`; {listed}")
    try:
        return read_checkpoint(folder / checkpoint)
    except CheckpointError as error:
        raise UserError(str(error)) from error


def weights_of(snapshot: Snapshot) -> Mapping[str, Tensor]:
    """The weights to use of a checkpoint: their running mean, where it has one."""
    return snapshot.tensors.get("ema") or snapshot.tensors["model"]


@contextmanager
def opened(
    path: Path,
    settings: Mapping[str, Any],
    *,
    fresh: bool,
    override: bool,
    allow_changed: Collection[str] = (),
    note: Note,
) -> Iterator[tuple[RunDirectory, list[str]]]:
    """The directory for a run of these settings, and the differences to the run in it that are
    overridden.

    A new run needs a new directory, an empty one or one of ``danetc build``. A run that exists is
    resumed if its settings are the same. If they differ it is resumed with ``override``, and moved
    aside with ``fresh``. Raises UserError in all other cases, and where another process
    trains there.
    """
    known = None if fresh else read_run(path, allow_changed)
    if not (path / RUN).is_file():
        _refuse_trials(path)
        refuse_unless_replaceable(path)
    elif fresh:
        with locked(path) as release:
            moved = _aside(path, release)
        note(f"the run in {path} is now in {moved}")
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        _sweep(path)
        if not _any_checkpoint(path):
            known = None  # nothing was trained yet, so there is nothing to resume or to lose
        differences = [] if known is None else compare(known["settings"], settings)
        if differences and not override:
            listed = "\n  ".join(differences)
            raise UserError(
                f"{path} holds a run under other settings:\n  {listed}\n"
                "choose another place with -o DIR, resume under the new ones with --override, or "
                "begin anew with --fresh (the old run is moved aside)"
            )
        yield RunDirectory(path, known), differences


def state_of(path: Path, settings: Mapping[str, Any], allow_changed: Collection[str] = ()) -> str:
    """What a training under these settings would find there, in words. Nothing is written.

    Raises UserError where it could not begin, whatever its settings.
    """
    known = read_run(path, allow_changed)
    if known is None:
        _refuse_trials(path)
        refuse_unless_replaceable(path)
        return "new"
    differences = compare(known["settings"], settings)
    if not differences:
        return "holds a run under these settings, which is resumed"
    listed = "; ".join(differences)
    return f"holds a run under other settings ({listed}), so --override or --fresh is needed"


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ, one a line: what was, what is. Of the network's text words count,
    not where lines end."""
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
            found.append(f"{key}: {_shown(old.get(key))} there, {_shown(new.get(key))} now")
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


# -- what is there ---------------------------------------------------------------------------------


def read_run(path: Path, allow_changed: Collection[str] = ()) -> Mapping[str, Any] | None:
    """What stands in run.json; None where there is none. Raises UserError where it is damaged."""
    place = path / RUN
    try:
        record = record_if_any(place, allow_changed)
    except UserError as error:
        raise UserError(
            f"{error}\nuntil then nobody knows which settings the run there has; begin anew with "
            "-o DIR or --fresh, and see its checkpoints for what is left of it"
        ) from error
    if record is None:
        return None
    if not isinstance(record.get("settings"), dict) or type(record.get("format")) is not int:
        raise UserError(f"{place} does not say which settings the run there has")
    if record["format"] > FORMAT:
        raise UserError(
            f"{place} was written by a newer danetc, in format {record['format']} of runs; this one reads "
            f"{FORMAT}"
        )
    return record


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there that has these bytes."""
    try:
        return file_digest(within(path.parent, path.name)) == digest(data)
    except DamagedError:
        return False


def _refuse_trials(path: Path) -> None:
    if (path / TRIALS).is_file():
        raise UserError(
            f"{path} holds trials; choose one of {path}/seed-..., or another place with -o DIR"
        )


def refuse_run(path: Path) -> None:
    """Raise UserError where trials are to stand in the directory of a single run."""
    if (path / RUN).is_file():
        raise UserError(f"{path} holds a single run, not trials; choose another place with -o DIR")


def _any_checkpoint(path: Path) -> bool:
    folder = inside(path, CHECKPOINTS)
    return folder.is_dir() and any(each.is_dir() for each in folder.iterdir())


def _sweep(path: Path) -> None:
    """Remove files that a process was writing when it died."""
    for left in path.glob(".*"):
        if left.is_file() and left.name not in LOCKS:
            left.unlink()


def _aside(path: Path, release: Callable[[], None]) -> Path:
    """Move a directory that is locked out of the way, to a name that says what it was."""
    number = 1
    while (moved := path.with_name(f"{path.name}.before-{number}")).exists():
        number += 1
    try:
        path.rename(moved)
    except PermissionError:  # Windows moves no folder in which a file is open, as the lock is
        release()
        path.rename(moved)
    return moved


@contextmanager
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """Keep others from training here, until the end or a call of what is given. Raises UserError
    where another process does."""
    try:
        with locks.locked(path / LOCK) as release:
            yield release
    except locks.LockHeld as other:
        raise UserError(f"another process ({other}) is training in {path}") from None
