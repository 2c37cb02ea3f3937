"""``danetc.train``, the Python interface of ``danetc train``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import parse_memory, takes
from danetc.errors import UserError
from danetc.output.console import shows_progress
from danetc.output.echo import Note
from danetc.output.returned import LinePanel, Returned, frame, line_figure
from danetc.requests import TrainingRequest
from danetc.runtime.kernels.announcing import unannounced
from danetc.runtime.training.observer import Callback, Callbacks
from danetc.runtime.training.signals import BY_CODE, Stopped, StopRequest
from danetc.tasks.model_directory import TRAINING, TRIALS, record_if_any
from danetc.tasks.training.progress import TrainingProgress, result
from danetc.tasks.training.trials import run

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Training(Returned):
    """A finished training, or one that a callback has stopped.

    Attributes:
        directory: Directory of the run, for ``danetc.load``, ``danetc.evaluate`` and ``danetc.export``.
        record: Contents of its training.json, with the figures of each epoch; for several trials,
            contents of trials.json, with the test accuracy of each, their mean and deviation.
        notes: Notes that the command prints, such as which backend is used and why.
        stopped: True if a callback has stopped it; the same call resumes.
    """

    directory: Path
    record: Mapping[str, Any]
    notes: tuple[str, ...]
    stopped: bool = False

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy from 0 to 1 after the last epoch, or the mean of trials; None for numbers, and
        before the end of a training with validation images.
        """
        found: float | None = self.record["test_accuracy"]
        return found

    def frame(self) -> pandas.DataFrame:
        """Return a row for each epoch, or for each trial. Raises UserError without pandas."""
        return frame(self.record["epochs" if "epochs" in self.record else "trials"])

    def figure(self) -> Any:
        """Return a matplotlib figure of the loss and the accuracy over the epochs.

        Raises UserError without matplotlib, and for several trials, each of which has a directory.
        """
        if "epochs" not in self.record:
            raise UserError(f"{self.directory} holds trials, whose curves are in its subfolders")
        panels = []
        for key, label, scale in (("loss", "loss", 1), ("accuracy", "accuracy [%]", 100)):
            lines: dict[str, Any] = {}
            for split in ("train", "val", "test"):
                values = enumerate((x.get(f"{split}_{key}") for x in self.record["epochs"]), 1)
                points = [(number, scale * value) for number, value in values if value is not None]
                if points:
                    lines[split] = tuple(zip(*points, strict=True))
            if lines:
                panels.append(LinePanel("epoch", label, lines))
        return line_figure(panels)

    def _line(self) -> str:
        epochs = self.record.get("epochs")
        done = "" if epochs is None else f"{len(epochs)} epochs, "
        stopped = ", stopped" if self.stopped else ""
        return f"{self.directory}: {done}{'no test yet' if epochs == [] else result(self.record)}{stopped}"


@takes(TrainingRequest)
def train(request: TrainingRequest) -> Training:
    """Train a network on a data set by a recipe, as ``danetc train`` does.

    ``data`` may also be arrays (x, y), a Dataset or a DataLoader, a pair (train, test) of these, or a
    mapping of them by split, as in ``{"train": (x, y), "val": 0.1, "test": 0.2}``.

    A run that is in ``output`` already is resumed bit-identically if it was stopped, and is left as it
    is if it is finished. Under torchrun every process calls this.

    Raises SpecError for errors in the spec or in ``set``, UserError for the data, for an argument and
    for errors of the training itself, such as a loss that is not finite. SIGINT and SIGTERM end it
    after the step they arrive in, with its state saved, as
    ``danetc.runtime.training.signals.Stopped``.
    """
    if (request.spec is None) == (request.text is None):
        raise TypeError("give either a spec or text=...")
    try:
        request = replace(request, memory=parse_memory(str(request.memory)))
    except ValueError as error:
        raise UserError(str(error)) from error
    for each in request.callbacks:
        if not isinstance(each, Callback):
            raise UserError(f"a callback is a danetc.Callback, not {type(each).__name__}")
    notes = _Notes()
    stop = StopRequest()
    with ExitStack() as stack:
        shown: Callback = notes
        if shows_progress(request.progress):
            progress = TrainingProgress(sys.stdout)
            shown = stack.enter_context(progress)
            notes.shown = progress.on_notice
        else:
            stack.enter_context(unannounced())
        observer = Callbacks([shown, *request.callbacks], stop)
        try:
            directory, record = run(request, observer=observer, note=notes.on_notice, stop=stop)
        except Stopped as stopped:
            if stopped.signum != BY_CODE or stopped.directory is None:
                raise
            directory = stopped.directory
            found = record_if_any(directory / TRAINING) or record_if_any(directory / TRIALS)
            record = found or {"epochs": [], "test_accuracy": None}
            return Training(directory, record, tuple(notes.found), stopped=True)
    return Training(directory, record, tuple(notes.found))


class _Notes(Callback):
    """Collects the notes of a training, and passes them on to its progress."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.shown: Note = lambda text: None

    def on_notice(self, text: str) -> None:
        self.found.append(text)
        self.shown(text)
