"""`danetc.evaluate`: what ``danetc eval`` does, called from Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import takes
from danetc.errors import UserError
from danetc.output.console import image_bar, in_notebook
from danetc.output.echo import Note, note
from danetc.output.returned import Returned, frame
from danetc.pretrained import directory_of
from danetc.requests import EvaluationRequest
from danetc.runtime.kernels.announcing import Silent, announced_by
from danetc.runtime.training.evaluation import in_words
from danetc.tasks.evaluator import NO_BAR, Bar, DirectoryEvaluator, Figures, accuracy_figure
from danetc.tasks.model_directory import TRIALS
from danetc.tasks.trained import Trained, data_of, open_trained

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Evaluated(Returned):
    """Evaluation of the network of a directory on a split of a data set.

    Attributes:
        trained_steps: T of the training.
        conditions: everything that decides the figures: batch, precision, backend, seeds, device.
        described: the conditions in one line.
        unlike_training: differences from the training's own tests in words; None without a training.
        results: figures at each requested T.
        over_time: figures at each T = 1 .. the largest, of the mean output of the first T steps.
    """

    directory: Path
    data: str
    network: str
    trained_steps: int
    checkpoint: str | None
    conditions: dict[str, Any]
    described: str
    unlike_training: tuple[str, ...] | None
    results: tuple[Figures, ...]
    over_time: tuple[Figures, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the record that ``danetc eval --json`` prints."""
        record = {**asdict(self), "directory": str(self.directory)}
        del record["described"]
        return {**record, "unlike_training": list(self.unlike_training or ())}

    def frame(self) -> pandas.DataFrame:
        """Return a row for each requested T, else for each over time. Raises UserError without pandas."""
        return frame(item.as_dict() for item in self.results or self.over_time)

    def figure(self) -> Any:
        """Return a figure of accuracy (of the loss, if numbers are learned) over T. Raises UserError
        without matplotlib."""
        return evaluations_figure([self])

    def _line(self) -> str:
        listed = [f"T = {each.steps}: {each.text}" for each in self.results or self.over_time]
        return f"{self.network} on {self.data}: {', '.join(listed)}"


def evaluations_figure(found: Sequence[Evaluated]) -> Any:
    """Return a figure of accuracy (of the loss if numbers are learned) over T, for several networks."""
    lines = {}
    for one in found:
        name = f"{one.directory.name}, " if len(found) > 1 else ""
        lines[f"{name}mean of the first T steps"] = one.over_time
        lines[f"{name}a run at T"] = tuple(sorted(one.results, key=lambda each: each.steps))
    return accuracy_figure(lines, found[0].network)


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


def evaluate_trained(
    trained: Trained,
    asked: EvaluationRequest,
    *,
    bar: Bar = NO_BAR,
    say: Note = lambda text: None,
) -> Evaluated:
    """Return the figures at each of the requested T, else at the network's own, and over time.

    ``bar`` shows the progress of each run, ``say`` gets notes. Raises as ``evaluate``.
    """
    asked = replace(asked, data=asked.data or data_of(trained))
    steps = tuple(dict.fromkeys(asked.steps))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as `train`; see determinism
    if trained.evaluation is None:
        say(f"{trained.path} holds no training: its weights are taken as they are")
    each = DirectoryEvaluator(trained, asked, say, bar)
    line = each.up_to(max((*steps, each.steps))) if asked.over_time else []
    results = [each.at(number) for number in steps or ([] if line else [each.steps])]
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
    )
