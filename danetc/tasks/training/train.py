"""`danetc.train`: what ``danetc train`` does, called from Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import parse_memory, takes
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.output.figures import percent
from danetc.output.notebook import NotebookProgress, in_notebook
from danetc.output.returned import Returned, epochs_html, frame, html_table, training_curves
from danetc.requests import TrainingRequest
from danetc.runtime.kernels.announcing import Silent, announced_by
from danetc.runtime.training.observer import Observer, Observers
from danetc.runtime.training.signals import BY_CODE, Stopped, StopRequest
from danetc.tasks.model_directory import TRAINING, TRIALS
from danetc.tasks.records import record_if_any
from danetc.tasks.training.callbacks import Callback, Calling
from danetc.tasks.training.printing import result
from danetc.tasks.training.progress import TrainingProgress
from danetc.tasks.training.trials import run

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Training(Returned):
    """A training that is finished, or that a callback has stopped."""

    directory: Path
    """Its directory, for ``danetc.load``, ``danetc.evaluate`` and ``danetc.export``."""
    record: Mapping[str, Any]
    """What stands in its training.json: a row of figures for each epoch. Of several trials, what
    stands in trials.json: the test accuracy of each, their mean and sample standard deviation."""
    notes: tuple[str, ...]
    """What the command would have said beside the result, such as which backend was taken and why."""
    stopped: bool = False
    """Whether a callback has stopped it: the same call resumes. Its record has the epochs so far."""

    @property
    def test_accuracy(self) -> float | None:
        """After the last epoch, from 0 to 1, of images or pixels; of several trials, their mean. None
        where numbers are learned."""
        found: float | None = self.record["test_accuracy"]
        return found

    def frame(self) -> pandas.DataFrame:
        """A row for each epoch; of several trials, one for each. Raises UserError without pandas."""
        return frame(self.record["epochs" if "epochs" in self.record else "trials"])

    def figure(self) -> Any:
        """Loss and accuracy over the epochs, as a figure of matplotlib. Raises UserError without
        matplotlib, and of several trials, each of which has its own directory."""
        return training_curves(self._epochs())

    def _epochs(self) -> list[Mapping[str, Any]]:
        if "epochs" not in self.record:
            raise UserError(
                f"{self.directory} holds trials, each with curves of its own in {self.directory}/"
                "seed-...; `danetc.compare` draws their mean"
            )
        epochs: list[Mapping[str, Any]] = self.record["epochs"]
        return epochs

    def _line(self) -> str:
        epochs = self.record.get("epochs")
        done = "" if epochs is None else f"{len(epochs)} epochs, "
        stopped = ", stopped" if self.stopped else ""
        return f"{self.directory}: {done}{'no test yet' if epochs == [] else result(self.record)}{stopped}"

    def _repr_html_(self) -> str:
        if "trials" in self.record:
            rows = [
                (each["seed"], percent(each["test_accuracy"])) for each in self.record["trials"]
            ]
            return html_table(("seed", "test top-1"), rows)
        return epochs_html(self._epochs())


@takes(TrainingRequest)
def train(request: TrainingRequest) -> Training:
    """Train a network on a data set by a recipe, as ``danetc train`` does.

    A run that is in ``output`` already is resumed bit-identically if it was stopped, and is left as it
    is if it is finished. Under torchrun every process calls this.

    Raises SpecError for errors in the spec or in ``set``, UserError for the data, for an argument and
    for errors of the training itself, such as a loss that is no number. SIGINT and SIGTERM end it
    after the step they arrive in, with its state saved, as
    ``danetc.runtime.training.signals.Stopped``.
    """
    if (request.spec is None) == (request.text is None):
        raise TypeError("give either a spec or text=...")
    try:
        request = replace(request, memory=parse_memory(str(request.memory)))
    except ValueError as error:
        raise UserError(str(error)) from error
    callbacks = request.callbacks
    for each in callbacks:
        if not isinstance(each, Callback):
            raise UserError(
                f"a callback is an object of danetc.Callback, not {type(each).__name__}"
            )
    notes: list[str] = []
    stop = StopRequest()
    calling = Calling(callbacks, stop)
    if not (in_notebook() if request.progress is None else request.progress):
        watcher = Observers([_Noting(notes), calling])
        with announced_by(Silent()):
            return _run(request, watcher, notes.append, stop, notes)
    with NotebookProgress() if in_notebook() else TrainingProgress(sys.stdout) as shown:

        def note(message: str) -> None:
            notes.append(message)
            shown.note(message)

        return _run(request, Observers([shown, calling]), note, stop, notes)


def _run(
    request: TrainingRequest, observer: Observer, note: Note, stop: StopRequest, notes: list[str]
) -> Training:
    """The training, and what there is of one that a callback has stopped."""
    try:
        directory, record = run(request, observer=observer, note=note, stop=stop)
    except Stopped as stopped:
        if stopped.signum != BY_CODE or stopped.directory is None:
            raise
        directory = stopped.directory
        found = record_if_any(directory / TRAINING, request.allow_changed)
        if found is None:
            found = record_if_any(directory / TRIALS, request.allow_changed)
        record = found if found is not None else {"epochs": [], "test_accuracy": None}
        return Training(directory, record, tuple(notes), stopped=True)
    return Training(directory, record, tuple(notes))


class _Noting(Observer):
    """Keeps what a training would say meanwhile."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def notice(self, text: str) -> None:
        self._notes.append(text)
