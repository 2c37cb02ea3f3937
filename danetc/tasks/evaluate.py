"""`danetc.evaluate`: what ``danetc eval`` does, called from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from danetc.arguments import takes
from danetc.errors import UserError
from danetc.output.console import image_bar, in_notebook
from danetc.output.echo import Note, note
from danetc.output.plots import LinePanel, line_figure
from danetc.output.returned import Returned, frame
from danetc.pretrained import directory_of
from danetc.requests import EvaluationRequest
from danetc.runtime.kernels.announcing import Silent, announced_by
from danetc.runtime.training.evaluation import in_words
from danetc.tasks.evaluator import DirectoryEvaluator, Figures
from danetc.tasks.model_directory import TRIALS
from danetc.tasks.trained import Trained, data_of, open_trained

if TYPE_CHECKING:
    import pandas


Bar: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows progress over so many images under a label: gives what is called with each batch's size."""


@dataclass(frozen=True, repr=False)
class Evaluated(Returned):
    """How well a network of a directory classifies a split of a data set."""

    directory: Path
    data: str
    network: str
    trained_steps: int
    """The T that it was trained with."""
    checkpoint: str | None
    conditions: dict[str, Any]
    """Everything that decides the figures: batch, precision, backend, seeds, device."""
    described: str
    """The conditions in a line."""
    unlike_training: tuple[str, ...] | None
    """What of them is not as in the training's own tests, in words; None without a training."""
    results: tuple[Figures, ...]
    """At each T that was asked for."""
    over_time: tuple[Figures, ...]
    """At each T = 1 .. the largest, of the mean output of the first T steps."""
    notes: tuple[str, ...]
    """What the command says beside the result."""

    def as_dict(self) -> dict[str, Any]:
        """The record that ``danetc eval --json`` prints."""
        return {
            "directory": str(self.directory),
            "data": self.data,
            "network": self.network,
            "trained_steps": self.trained_steps,
            "checkpoint": self.checkpoint,
            "conditions": self.conditions,
            "unlike_training": list(self.unlike_training or ()),
            "results": [item.as_dict() for item in self.results],
            "over_time": [item.as_dict() for item in self.over_time],
        }

    def frame(self) -> pandas.DataFrame:
        """A row for each T that was asked for, else for each over time. Raises UserError without
        pandas."""
        return frame(item.as_dict() for item in self.results or self.over_time)

    def figure(self) -> Any:
        """Accuracy (where numbers are learned, the loss) over time steps T, as a figure of matplotlib.
        Raises UserError without matplotlib."""
        return evaluations_figure([self])

    def _line(self) -> str:
        listed = ", ".join(
            f"T = {each.steps}: {each.text}" for each in self.results or self.over_time
        )
        return f"{self.network} on {self.data}: {listed}"


def evaluations_figure(found: Sequence[Evaluated]) -> Any:
    """Return a figure of accuracy (of the loss if numbers are learned) over T, for several networks."""
    accuracy = all(
        each.top1 is not None for one in found for each in (*one.results, *one.over_time)
    )
    lines = {}
    for one in found:
        name = f"{one.directory.name}, " if len(found) > 1 else ""
        for what, items in (
            ("mean of the first T steps", one.over_time),
            ("a run at T", one.results),
        ):
            if items:
                items = tuple(sorted(items, key=lambda each: each.steps))
                values = [100 * (each.top1 or 0) if accuracy else each.loss for each in items]
                lines[name + what] = [each.steps for each in items], values
    up = "top-1 accuracy [%]" if accuracy else "loss"
    return line_figure([LinePanel("time steps T", up, lines, found[0].network, from_zero=True)])


@takes(EvaluationRequest)
def evaluate(request: EvaluationRequest) -> Evaluated:
    """Evaluate the weights in a directory on a data set, as ``danetc eval`` does.

    What is left out is as in the tests of the training, whose last test accuracy comes out again.

    Return loss, top-1 and top-5 accuracy (from 0 to 1) at each T. Raises UserError where the
    directory, the data or an argument is wrong, SpecError for a spec.danet that was changed.
    """
    if (directory_of(request.directory) / TRIALS).is_file():
        raise UserError(
            f"{request.directory} holds trials; choose one of {request.directory}/seed-..."
        )
    trained = open_trained(os.fspath(request.directory))
    if in_notebook() if request.progress is None else request.progress:
        return evaluate_trained(trained, request, bar=image_bar, say=note)
    with announced_by(Silent()):
        return evaluate_trained(trained, request)


@contextmanager
def no_bar(label: str, images: int) -> Iterator[Callable[[int], None]]:
    """Shows no progress."""
    yield lambda count: None


def evaluate_trained(
    trained: Trained,
    asked: EvaluationRequest,
    *,
    bar: Bar = no_bar,
    say: Note = lambda text: None,
) -> Evaluated:
    """Return the figures at each of the requested T, else at the network's own, and over time.

    ``bar`` shows the progress of each run, ``say`` gets notes as they arise. Raises as ``evaluate``.
    """
    asked = replace(asked, data=asked.data or data_of(trained))
    steps = tuple(dict.fromkeys(asked.steps))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as `train`; see determinism
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        say(text)

    if trained.evaluation is None:
        tell(f"{trained.path} holds no training: its weights are taken as they are")
    each = DirectoryEvaluator(trained, asked, tell)
    line: list[Figures] = []
    if asked.over_time:
        most = max((*steps, each.steps))
        with bar(f"{each.graph.name}, T = 1 .. {most}", each.images(most)) as done:
            line = each.up_to(most, done)
    results = []
    for number in steps or (() if asked.over_time else (each.steps,)):
        with bar(f"{each.graph.name}, T = {number}", each.images(number)) as done:
            results.append(each.at(number, done))
    for notice in each.notices:
        tell(notice)
    unlike = each.unlike
    others = [str(number) for number in steps if number != each.steps]
    others += [f"1 .. {line[-1].steps}"] if line else []
    if others:
        unlike = [*unlike, f"T = {', '.join(others)} (was: T = {each.steps})"]
    return Evaluated(
        trained.path,
        str(asked.data),
        each.graph.name,
        each.steps,
        asked.checkpoint,
        each.conditions.as_dict(),
        in_words(each.conditions),
        None if each.recorded is None else tuple(unlike),
        tuple(results),
        tuple(line),
        tuple(notes),
    )
