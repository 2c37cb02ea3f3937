"""`danetc.train`: what ``danetc train`` does, called from Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import parse_memory
from danetc.errors import UserError
from danetc.output.curves import epochs_html, html_table, training_curves
from danetc.output.data_frames import frame
from danetc.output.figures import percent
from danetc.output.notebook import NotebookProgress, in_notebook
from danetc.output.returned import Returned
from danetc.output.text import Note
from danetc.runtime.data import Policy
from danetc.runtime.kernels.announcing import Silent, announced_by
from danetc.runtime.training.observer import Observer, Observers
from danetc.runtime.training.signals import BY_CODE, Stopped, StopRequest
from danetc.setting import Setting
from danetc.tasks.model_directory import TRAINING, TRIALS
from danetc.tasks.records import record_if_any
from danetc.tasks.training.callbacks import Callback, Calling
from danetc.tasks.training.printing import result
from danetc.tasks.training.progress import TrainingProgress
from danetc.tasks.training.request import TrainingRequest
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


def train(
    spec: str | os.PathLike[str] | None = None,
    data: str = "digits",
    *,
    text: str | None = None,
    network: str | None = None,
    set: Mapping[str, Setting] | None = None,
    recipe: str | None = None,
    output: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    init: str | os.PathLike[str] | None = None,
    backend: str | None = None,
    memory: str = "none",
    channels_last: bool = False,
    train_output: str | None = None,
    deterministic: bool = True,
    classes: int | None = None,
    subset_seed: int = 0,
    on_unreadable: Policy = "stop",
    fresh: bool = False,
    override: bool = False,
    allow_changed: Collection[str] = (),
    no_code: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
) -> Training:
    """Train a network on a data set by a recipe, as ``danetc train`` does.

    A run that is in ``output`` already is resumed bit-identically where it was stopped, and is left as
    it is where it is finished. Under torchrun every process calls this.

    Args:
        spec: a spec file or the name of a shipped spec.
        data: the data set, as in ``"digits"`` or ``"folder:DIR"``.
        text: the spec itself, in place of ``spec``.
        network: which network of the file, where it has several.
        set: parameters and settings to change, as in ``danetc.build``; those of the recipe by their
            path, as in ``{"recipe.epochs": 5}``. ``recipe.batch`` is the global batch size.
        recipe: one that the file sees; by default its own, else the one named as the data set.
        output: the directory of the run; by default ``runs/NETWORK``.
        seed: of all that is random; by default the recipe's.
        seeds: how many trials to run, with consecutive seeds, each in a directory of its own.
        init: a file of weights to start from (safetensors, or a state dict of tensors alone).
        backend: ``fused``, ``eager`` or ``spikingjelly``; by default ``fused`` where its kernels
            can be compiled, else ``eager``.
        memory: ``none``, ``recompute``, or a size as in ``"8GB"``, as in ``danetc.build``.
        channels_last: whether feature maps lie in memory with channels last.
        train_output: the output that the loss is of, where the network has several.
        deterministic: on a GPU, kernels that give the same bits each time.
        classes: how many classes of the data set to draw at random; by default all.
        subset_seed: by which these classes are drawn.
        on_unreadable: what a file that cannot be read does, ``stop`` or ``skip``.
        fresh: begin anew; a run that is there is moved aside.
        override: resume a run although its settings have changed.
        allow_changed: files of the run that were changed on purpose.
        no_code: refuse a recipe that runs a file of Python (``loss = python(...)``).
        callbacks: objects of ``danetc.Callback``, called after steps and epochs; one that raises
            ``danetc.StopTraining`` stops the training, with its state saved.
        progress: show progress and notes, as the command does; by default in a notebook alone. Else
            nothing is printed.

    Raises SpecError for what is wrong in the spec or in ``set``, UserError for the data, for an
    argument and for what the training itself ends with, such as a loss that is no number. SIGINT and
    SIGTERM end it after the step they arrive in, with its state saved, as
    ``danetc.runtime.training.signals.Stopped``.
    """
    if (spec is None) == (text is None):
        raise TypeError("give either a spec or text=...")
    try:
        policy = parse_memory(memory)
    except ValueError as error:
        raise UserError(str(error)) from error
    request = TrainingRequest(
        spec="<text>" if spec is None else os.fspath(spec),
        text=text,
        data=data,
        network=network,
        recipe=recipe,
        output=None if output is None else Path(output),
        settings=dict(set or {}),
        seed=seed,
        seeds=seeds,
        init=None if init is None else os.fspath(init),
        backend=backend,
        memory=policy,
        channels_last=channels_last,
        train_output=train_output,
        deterministic=deterministic,
        classes=classes,
        subset_seed=subset_seed,
        on_unreadable=on_unreadable,
        fresh=fresh,
        override=override,
        allow_changed=tuple(allow_changed),
        no_code=no_code,
    )
    for each in callbacks:
        if not isinstance(each, Callback):
            raise UserError(
                f"a callback is an object of danetc.Callback, not {type(each).__name__}"
            )
    notes: list[str] = []
    stop = StopRequest()
    calling = Calling(callbacks, stop)
    if not (in_notebook() if progress is None else progress):
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
