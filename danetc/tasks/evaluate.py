"""`danetc.evaluate`: what ``danetc eval`` does, called from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from danetc.arguments import BACKENDS, MOST_STEPS, PRECISIONS, check_choice, check_whole
from danetc.dsl.recipe.text import read_setting
from danetc.errors import UserError
from danetc.output.console import image_bar
from danetc.output.curves import html_table
from danetc.output.data_frames import frame
from danetc.output.figures import percent, scores
from danetc.output.notebook import in_notebook
from danetc.output.plots import LinePanel, line_figure
from danetc.output.returned import Returned
from danetc.output.text import Note, note
from danetc.pretrained import directory_of
from danetc.runtime.data import Split
from danetc.runtime.kernels.announcing import Silent, announced_by
from danetc.runtime.training.evaluation import in_words
from danetc.tasks.evaluator import DirectoryEvaluator, EvaluationRequest, Figures
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
        named = {"a run at T": self.results, "mean of the first T steps": self.over_time}
        accuracy = all(each.top1 is not None for each in (*self.results, *self.over_time))
        lines = {
            name: (
                [each.steps for each in found],
                [100 * each.top1 if each.top1 is not None else each.loss for each in found],
            )
            for name, found in named.items()
            if found
        }
        up = "top-1 accuracy [%]" if accuracy else "loss"
        return line_figure([LinePanel("time steps T", up, lines)])

    def _line(self) -> str:
        listed = ", ".join(
            f"T = {each.steps}: {each.text}" for each in self.results or self.over_time
        )
        return f"{self.network} on {self.data}: {listed}"

    def _repr_html_(self) -> str:
        rows = [
            (each.steps, percent(each.top1), percent(each.top5), each.loss, scores(each.scores))
            for each in self.results or self.over_time
        ]
        return html_table(("T", "top-1", "top-5", "loss", ""), rows)


def evaluate(
    directory: str | os.PathLike[str],
    *,
    data: str | None = None,
    steps: Sequence[int] = (),
    over_time: bool = False,
    split: Split = "test",
    classes: int | None = None,
    subset_seed: int = 0,
    prepare: str | None = None,
    batch: int | None = None,
    workers: int = 0,
    checkpoint: str | None = None,
    train_output: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    allow_changed: Collection[str] = (),
    progress: bool | None = None,
) -> Evaluated:
    """Evaluate the weights in a directory on a data set, as ``danetc eval`` does.

    What is left out is as in the tests of the training, whose last test accuracy comes out again.

    Args:
        directory: one that ``danetc.train`` or ``danetc build`` has written, or ``pretrained:NAME``.
        data: the data set, as in ``"digits"``; by default what the run was trained on.
        steps: numbers of time steps T to run the network at; by default its own.
        over_time: the accuracy at every T up to the largest, from one run, where the head permits
            it: of the mean output of the first T steps.
        split: ``test`` or ``train``; never augmented.
        classes: how many classes of the data set to draw at random.
        subset_seed: by which these classes are drawn.
        prepare: what is done to images, as a recipe's ``evaluate`` says it:
            ``"resize(256) -> center_crop(224)"``.
        batch: images at once.
        workers: processes that read images.
        checkpoint: weights of the run to take in place of the last ones, as in ``"best"``.
        train_output: the output to evaluate, where the network has several.
        backend: ``fused``, ``eager`` or ``spikingjelly``.
        precision: of the arithmetic, ``float32``, ``mixed`` or ``bf16``.
        seed: of what a network draws, such as random spikes.
        allow_changed: files of the directory that were changed on purpose.
        progress: show bars and notes, as the command does; by default in a notebook alone. Else
            nothing is printed.

    Returns loss, top-1 and top-5 accuracy (from 0 to 1) at each T. Raises UserError where the
    directory, the data or an argument is wrong, SpecError for a spec.danet that was changed.
    """
    check_choice("split", split, ("test", "train"))
    check_choice("backend", backend, BACKENDS)
    check_choice("precision", precision, PRECISIONS)
    check_whole("classes", classes, 2)
    check_whole("subset_seed", subset_seed, 0)
    check_whole("batch", batch, 1)
    check_whole("workers", workers, 0, 1024)
    check_whole("seed", seed, 0, 2**63 - 1)
    for number in steps:
        check_whole("T", number, 1, MOST_STEPS)
    if (directory_of(directory) / TRIALS).is_file():
        raise UserError(f"{directory} holds trials; choose one of {directory}/seed-...")
    items = None
    if prepare is not None:
        items = read_setting("evaluate", prepare, "prepare")
    trained = open_trained(os.fspath(directory), allow_changed)
    asked = EvaluationRequest(
        data=data or data_of(trained),
        classes=classes,
        subset_seed=subset_seed,
        split=split,
        evaluate=items,
        batch=batch,
        workers=workers,
        checkpoint=checkpoint,
        train_output=train_output,
        backend=backend,
        precision=precision,
        seed=seed,
    )
    chosen = tuple(dict.fromkeys(steps))
    if in_notebook() if progress is None else progress:
        return evaluate_trained(trained, asked, chosen, over_time, bar=image_bar, say=note)
    with announced_by(Silent()):
        return evaluate_trained(trained, asked, chosen, over_time)


@contextmanager
def no_bar(label: str, images: int) -> Iterator[Callable[[int], None]]:
    """Shows no progress."""
    yield lambda count: None


def evaluate_trained(
    trained: Trained,
    asked: EvaluationRequest,
    steps: Sequence[int],
    over_time: bool,
    *,
    bar: Bar = no_bar,
    say: Note = lambda text: None,
) -> Evaluated:
    """The figures at each of ``steps``, else at the network's own T, and over time.

    ``bar`` shows the progress of each run, ``say`` gets notes as they arise. Raises as ``evaluate``.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as `train`; see determinism
    notes: list[str] = []

    def tell(text: str) -> None:
        notes.append(text)
        say(text)

    if trained.evaluation is None:
        tell(f"{trained.path} holds no training: its weights are taken as they are")
    each = DirectoryEvaluator(trained, asked, tell)
    line: list[Figures] = []
    if over_time:
        most = max((*steps, each.steps))
        with bar(f"{each.graph.name}, T = 1 .. {most}", each.images(most)) as done:
            line = each.up_to(most, done)
    results = []
    for number in steps or (() if over_time else (each.steps,)):
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
        asked.data,
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
