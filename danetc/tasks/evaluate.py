"""Evaluation of a trained network on a data set, at its own T, at others, and at all up to one; predictions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danetc.arguments import takes
from danetc.compiler.analysis.summary import why_not_stepwise
from danetc.compiler.ir.at_node import why_fixed
from danetc.dsl.recipe.text import read_setting
from danetc.errors import UserError
from danetc.output.console import image_bar, shows_progress
from danetc.output.echo import Note, note
from danetc.output.figures import percent, scores
from danetc.output.returned import LinePanel, Returned, confusion_figure, frame, line_figure
from danetc.requests import EvaluationRequest, PredictionRequest
from danetc.runtime.data.batches import Prepared
from danetc.runtime.data.fit import read_samples
from danetc.runtime.model.built import Model, to_channels_last
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.system.devices import arithmetic, device_name, find_device, has_streams
from danetc.runtime.system.machine import usable_cores
from danetc.runtime.training.checkpoints import BEST
from danetc.runtime.training.evaluation import Evaluation, unlike
from danetc.runtime.training.losses import Objective, main_output, over_time
from danetc.runtime.training.state import autocast, determinism, own_random_state, seed_everything
from danetc.runtime.training.totals import Totals, added_up
from danetc.tasks.exporting import at_checkpoint, with_steps
from danetc.tasks.model_directory import Trained, data_of, load, open_trained
from danetc.tasks.training.plan import backend_on
from danetc.tasks.training.tested import open_set


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a split of a data set at T = ``steps``.

    Accuracies are from 0 to 1, and None if numbers are learned; ``scores`` has ``miou`` of pixels and
    ``rmse`` of numbers. ``confusion`` counts the images of each class (rows) by the class that they are
    taken for (columns), if that was requested.
    """

    steps: int
    images: int
    loss: float
    top1: float | None
    top5: float | None
    skipped: int
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)
    confusion: Sequence[Sequence[int]] | None = None

    @property
    def text(self) -> str:
        """Accuracy and scores, as in ``96.20%`` or, of numbers, ``RMSE 0.125``."""
        accuracy = [] if self.top1 is None else [percent(self.top1)]
        return ", ".join([*accuracy, *([scores(self.scores)] if self.scores else [])])


def accuracy_figure(lines: Mapping[str, Sequence[Figures]], title: str) -> Any:
    """Return a figure of matplotlib: accuracy over T, or of the loss for regression.

    Raises UserError without matplotlib.
    """
    accuracy = all(each.top1 is not None for items in lines.values() for each in items)
    drawn: dict[str, Any] = {}
    for name, items in lines.items():
        if points := [(x.steps, x.loss if x.top1 is None else 100 * x.top1) for x in items]:
            drawn[name] = tuple(zip(*points, strict=True))
    what = "top-1 accuracy [%]" if accuracy else "loss"
    return line_figure([LinePanel("time steps T", what, drawn, title)])


class DirectoryEvaluator:
    """Evaluates one directory, or the model that ``asked`` has, on one data set.

    Everything is as in the tests of the training in the directory, so that its figures come out
    again to the last digit, unless ``asked`` says otherwise.
    Methods raise UserError and SpecError.
    """

    def __init__(
        self,
        trained: Trained,
        asked: EvaluationRequest,
        note: Note = lambda text: None,
        silent: bool = True,
    ) -> None:
        self.asked, self.note, self.silent = asked, note, silent
        before, given = trained.evaluation, isinstance(asked.model, Model)
        if isinstance(asked.model, Model):
            self.model, backend = asked.model, asked.model.backend
            self.device = next(iter(self.model.state_dict().values()), torch.empty(0)).device
        else:
            self.device = find_device(asked.device)
            wanted = asked.backend or (before.backend if before else None)
            backend = backend_on(self.device, wanted, note)
            self.model = load(trained.path, backend=backend, memory="none")
        if asked.checkpoint is not None:
            self.model, before = at_checkpoint(self.model, trained.path, asked.checkpoint, backend)
            selected_on = before.data or {}
            if (asked.checkpoint, asked.split) == (BEST, "test") and "val" not in selected_on:
                note("the best epoch was selected on test images, so its accuracy is optimistic")
        self.recorded, self.trained = before, replace(trained, evaluation=before)
        now = before or Evaluation(steps=self.model.signature.steps)
        threads = now.threads  # the rounding of sums depends on the number of threads
        if threads is None or "OMP_NUM_THREADS" in os.environ or threads > usable_cores():
            threads = torch.get_num_threads()
        if asked.batch is not None:
            now = replace(now, batch=asked.batch, processes=1)
        if asked.seed is not None:
            now = replace(now, seed=asked.seed, phase_index=0, epoch=0)
        if asked.prepare is not None:
            now = replace(now, evaluate=read_setting("evaluate", asked.prepare, "--evaluate"))
        self.conditions = replace(
            now,
            backend=backend,
            precision=asked.precision or now.precision,
            output=asked.train_output or now.output,
            device=device_name(self.device),
            threads=threads,
        )
        if now.channels_last and not given:
            to_channels_last(self.model)
        self._images: Prepared | None = None
        self.graph, self.steps = self.model.topology, now.steps

    def at(self, steps: int, label: str = "") -> Figures:
        """Return the figures of the network at T = ``steps``, whatever T it was trained with."""
        model, images, loss = self._data(steps)
        per_class, classes = self.asked.per_class, images.data.classes
        if per_class and images.data.target != "classes":
            raise UserError(
                f"{images.data.text} has no class for each image: leave out --per-class"
            )
        counts = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)

        def add(x: Tensor, labels: Tensor, sums: Sequence[Totals]) -> None:
            outputs = model(x)
            found = loss.answers(outputs)
            sums[0].add(found, labels, loss(outputs, labels))
            if per_class:
                one = torch.ones_like(labels)
                counts.index_put_((labels, found.argmax(1)), one, accumulate=True)

        (figures,) = self._each(label or f"T = {steps}", model, images, add, [steps])
        return replace(figures, confusion=counts.tolist()) if per_class else figures

    def up_to(self, steps: int) -> list[Figures]:
        """Return the figures at each T = 1 .. ``steps``, from one run: those of the mean output of the
        first T steps. Raises UserError if that is another value than the output at T.
        """
        output = main_output(self.conditions.loss, self.model.signature, self.conditions.output)
        reason = why_not_stepwise(self.graph, output)
        if reason is not None:
            raise UserError(
                f"the accuracy of {self.graph.name} at each T does not follow from one run: "
                f"{reason}; --steps 1,2,4 runs it at each"
            )
        model, images, loss = self._data(steps)

        def add(x: Tensor, labels: Tensor, sums: Sequence[Totals]) -> None:
            states: Any = None
            steps: list[Sequence[Tensor]] = []
            for t, totals in enumerate(sums):
                found, states = model.stream(x[t] if images.data.events else x, states)
                steps.append(outputs_of(found))
                so_far = [torch.stack(output) for output in zip(*steps, strict=True)]
                totals.add(loss.answers(so_far), labels, loss(so_far, labels))

        return self._each(f"T = 1 .. {steps}", model, images, add, range(1, steps + 1))

    def at_steps(self, steps: int) -> Model:
        """Return the network with another T and the same weights."""
        if steps == self.steps:
            return self.model.to(self.device)
        timed = next((n for n in self.graph.nodes.values() if why_fixed(self.graph, n)), None)
        if timed is not None:
            raise UserError(
                f"{self.graph.name} runs at T = {self.steps} alone, not {steps}: `{timed.path}` "
                f"has {why_fixed(self.graph, timed)} for each step"
            )
        if self.model is self.asked.model and self.model.directory is None:
            raise UserError(
                f"build the model at T = {steps}: danetc.build(..., set={{'steps': {steps}}})"
            )
        model = with_steps(self.model, self.trained.path, steps, self.conditions.backend)
        model.load_state_dict(self.model.state_dict())
        if self.conditions.channels_last:
            to_channels_last(model)
        return model.to(self.device)

    def _data(self, steps: int) -> tuple[Model, Prepared, Objective]:
        """Return the network at a T, the data set and the loss; recordings of events are cut anew for each T."""
        model, asked, now, found = self.at_steps(steps), self.asked, self.conditions, self._images
        if found is None or found.data.events:
            found = open_set(
                asked.data or data_of(self.trained),
                model.signature,
                self.trained,
                classes=asked.classes,
                subset_seed=asked.subset_seed,
                evaluate=now.evaluate,
                output=main_output(now.loss, model.signature, now.output),
                split=asked.split,
            )
        if self._images is None:
            for notice in found.data.notices:
                self.note(notice)
            self.conditions = replace(now, evaluate=found.steps, data=found.data.describe())
        self._images = found
        loss = Objective(now.loss, model.signature, now.output, target=found.data.target)
        return model, found, loss

    def _each(
        self,
        label: str,
        model: Model,
        images: Prepared,
        add: Callable[[Tensor, Tensor, Sequence[Totals]], None],
        steps: Sequence[int],
    ) -> list[Figures]:
        """Return the figures of totals, one for each T of ``steps``, to which ``add`` adds each batch.

        Each process of the training had its part of the images; they follow one another.
        """
        asked, now, data = self.asked, self.conditions, images.data
        name = f"{self.graph.name}, {label}"
        began, parts = time.perf_counter(), []
        threads, modes = torch.get_num_threads(), [(m, m.training) for m in model.modules()]
        torch.set_num_threads(now.threads or threads)
        model.eval()
        try:
            with (
                image_bar(name, len(data.split(asked.split)), silent=self.silent) as advance,
                determinism(self.device, now.deterministic),
                arithmetic(now.precision, self.device),
                own_random_state(self.device),
            ):
                for rank in range(now.processes):
                    seed_everything(*now.seeds(rank))
                    totals = [Totals(self.device, data.target, data.classes) for _ in steps]
                    made = images.batches(
                        split=asked.split, batch=now.batch, rank=rank, world=now.processes,
                        workers=asked.workers, pin=has_streams(self.device),
                    )  # fmt: skip
                    with closing(made) as batches:
                        for batch in batches.epoch(0, device=self.device):
                            x = batch.images.transpose(0, 1) if data.events else batch.images
                            with torch.inference_mode(), autocast(now.precision, self.device):
                                add(x, batch.labels, totals)
                            advance(len(batch) + len(batch.unreadable))
                    for each in totals:
                        each.skip(made.skipped)
                    parts.append([each.read() for each in totals])
        finally:
            torch.set_num_threads(threads)
            for module, mode in modes:
                module.training = mode
        seconds = time.perf_counter() - began
        sums = [added_up(part) for part in zip(*parts, strict=True)]
        if not sums[0].images:
            raise UserError("none of the images can be read")
        return [
            Figures(t, x.images, x.loss, x.top1, x.top5, x.skipped, seconds, x.scores)
            for t, x in zip(steps, sums, strict=True)
        ]


@dataclass(frozen=True, repr=False)
class Evaluated(Returned):
    """Evaluation of a network on a split of a data set.

    Attributes:
        directory: directory of the network; ``the model`` for one that has none.
        conditions: everything that decides the figures: T of the training, batch, precision, backend,
            seeds, device.
        unlike_training: differences from the training's own tests in words; None without a training.
        results: figures at each requested T.
        over_time: figures at each T = 1 .. the largest, of the mean output of the first T steps.
        notes: notes that the command prints, such as that no recipe says how images are prepared.
    """

    directory: Path
    data: str
    split: str
    network: str
    checkpoint: str | None
    conditions: Evaluation
    unlike_training: tuple[str, ...] | None
    results: tuple[Figures, ...]
    over_time: tuple[Figures, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the record that ``danetc eval --json`` prints."""
        more = {"conditions": self.conditions.as_dict(), "class_names": self.conditions.class_names}
        unlike = list(self.unlike_training or ())
        return {**asdict(self), **more, "directory": str(self.directory), "unlike_training": unlike}

    def frame(self) -> Any:
        """Return a DataFrame with a row for each requested T, else for each T over time."""
        rows = map(asdict, self.results or self.over_time)
        return frame({k: v for k, v in row.items() if k != "confusion"} for row in rows)

    def figure(self) -> Any:
        """Return a figure of accuracy (of the loss, if numbers are learned) over T. Raises UserError
        without matplotlib."""
        return evaluations_figure([self])

    def per_class(self) -> list[dict[str, Any]]:
        """Return the images and the accuracy of each class at the first T, and the class that it is most
        often confused with. Raises UserError unless ``per_class`` was requested."""
        found, names = [], self.conditions.class_names
        for number, row in enumerate(self._confusion()):
            total, others = sum(row), [*row[:number], 0, *row[number + 1 :]]
            wrong = max(others)
            found.append(
                {
                    "class": names[number],
                    "images": total,
                    "accuracy": row[number] / total if total else None,
                    "taken_for": names[others.index(wrong)] if wrong else None,
                    "share": wrong / total if total else None,
                }
            )
        return found

    def confusion_figure(self) -> Any:
        """Return a figure of the confusion matrix: shares of the images of each class. Raises UserError
        without matplotlib."""
        return confusion_figure(self._confusion(), self.conditions.class_names)

    def _confusion(self) -> Sequence[Sequence[int]]:
        if not self.results or self.results[0].confusion is None:
            raise UserError("classes were not counted; evaluate with per_class=True")
        return self.results[0].confusion

    def _line(self) -> str:
        listed = [f"T = {each.steps}: {each.text}" for each in self.results or self.over_time]
        return f"{self.network} on {self.data} ({self.split}): {', '.join(listed)}"


def evaluations_figure(found: Sequence[Evaluated]) -> Any:
    """Return a figure of the accuracy (or the loss, for regression) versus T for several networks."""
    lines = {}
    for one in found:
        name = f"{one.directory.name}, " if len(found) > 1 else ""
        lines[f"{name}mean of the first T steps"] = one.over_time
        lines[f"{name}a run at T"] = tuple(sorted(one.results, key=lambda each: each.steps))
    return accuracy_figure(lines, found[0].network)


@takes(EvaluationRequest)
def evaluate(request: EvaluationRequest) -> Evaluated:
    """Evaluate the weights in a directory, or a model, on a data set, as ``danetc eval`` does.

    What is left out is as in the tests of the training, whose last test accuracy comes out again. ``data``
    may also be arrays (x, y), a Dataset or a DataLoader, all of whose samples are used. A model is
    evaluated as it is, on its device; it does not change.

    Return loss, top-1 and top-5 accuracy (from 0 to 1) at each T. Raises UserError where the
    directory, the data or an argument is wrong, SpecError for a spec.danet that was changed.
    """
    model, trained = request.model, Trained(Path("the model"), None)
    if isinstance(model, Model):
        fixed = (request.backend, request.checkpoint, request.device)
        if fixed != (None, None, None):
            raise UserError(
                "backend, checkpoint and device are for a directory; a model has its own"
            )
        if model.directory is not None:
            trained = open_trained(model.directory)
    elif not isinstance(model, str | os.PathLike):
        raise UserError(f"`model` is a model of danetc, or its directory, not {model!r}")
    else:
        trained = open_trained(os.fspath(model))
    shown = shows_progress(request.progress)
    found = evaluate_trained(trained, request, silent=not shown)
    for text in found.notes if shown else ():
        note(text)
    return found


def evaluate_trained(trained: Trained, asked: EvaluationRequest, *, silent: bool) -> Evaluated:
    """Return the figures at each of the requested T, else at the network's own, and over time.

    Unless ``silent``, the progress of each run is shown. Raises as ``evaluate``.
    """
    asked = replace(asked, data=asked.data or data_of(trained))
    steps = tuple(dict.fromkeys(asked.steps))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as `train`; see determinism
    notes: list[str] = []
    if trained.evaluation is None and not isinstance(asked.model, Model):
        notes.append(f"{trained.path} holds no training: its weights are used as they are")
    one = DirectoryEvaluator(trained, asked, notes.append, silent)
    line = one.up_to(max((*steps, one.steps))) if asked.over_time else []
    own = [] if line and not asked.per_class else [one.steps]
    results = [one.at(number) for number in steps or own]
    kind = {"train": "training", "val": "validation"}.get(asked.split)
    differences = [f"the {kind} images (was: the test images)"] if kind else []
    if one.recorded is not None:
        differences += unlike(one.conditions, one.recorded)
    others = [str(number) for number in steps if number != one.steps]
    others += [f"1 .. {line[-1].steps}"] if line else []
    if others:
        differences.append(f"T = {', '.join(others)} (was: T = {one.steps})")
    return Evaluated(
        trained.path,
        str(asked.data),
        asked.split,
        one.graph.name,
        asked.checkpoint,
        one.conditions,
        None if one.recorded is None else tuple(differences),
        tuple(results),
        tuple(line),
        tuple(notes),
    )


# -- predictions ------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False, eq=False)
class Predictions(Returned):
    """Outputs of a network for images.

    Attributes:
        images: Names of the images.
        class_names: Names of the classes, or of the numbers in a regression.
        logits: Outputs [N, classes] of the network, before softmax.
        numbers: True for a regression, False for a classification.
    """

    images: tuple[str, ...]
    class_names: tuple[str, ...]
    logits: Tensor
    numbers: bool = False

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, [N, classes]."""
        return self.logits.softmax(1)

    @property
    def classes(self) -> list[str]:
        """Name of the most probable class of each image."""
        return [self.class_names[number] for number in self.logits.argmax(1).tolist()]

    def as_dict(self, top: int = 5) -> dict[str, Any]:
        """Return JSON data of the ``top`` classes of each image, or of all numbers."""
        found: list[dict[str, Any]] = []
        for image, logits, shares in zip(self.images, self.logits, self.probabilities, strict=True):
            order = logits.argsort(descending=True, stable=True)[:top].tolist()
            best = [
                {
                    "class": self.class_names[n],
                    "logit": float(logits[n]),
                    "probability": None if self.numbers else float(shares[n]),
                }
                for n in (range(len(logits)) if self.numbers else order)
            ]
            found.append({"image": image, "classes": best})
        return {"predictions": found}

    def frame(self) -> Any:
        rows = self.logits if self.numbers else self.probabilities
        return frame(
            {"image": image} | dict(zip(self.class_names, row, strict=True))
            for image, row in zip(self.images, rows.tolist(), strict=True)
        )

    def _line(self) -> str:
        return ", ".join([] if self.numbers else self.classes[:5]) or f"{len(self.images)} images"


@takes(PredictionRequest)
def predict(request: PredictionRequest) -> Predictions:
    """Predict the classes of images, as ``danetc predict`` does.

    Images are prepared as in the tests of the training. Raises UserError where the directory or an
    image is wrong.
    """
    return predict_trained(open_trained(os.fspath(request.directory)), request)


def predict_trained(
    trained: Trained, request: PredictionRequest, note: Note = lambda text: None
) -> Predictions:
    """Return the outputs of a network. ``note`` gets notes. Raises as ``predict``."""
    if not request.images:
        raise UserError("there are no images to predict")
    same = ("prepare", "checkpoint", "backend", "device")
    asked = EvaluationRequest(trained.path, **{name: getattr(request, name) for name in same})
    one = DirectoryEvaluator(trained, asked, note)
    now, data = one.conditions, one.conditions.data or {}
    if data.get("target") in ("pixels", "steps"):
        each = str(data["target"])[:-1]
        raise UserError(
            f"{trained.path} gives a class for each {each}, which predict does not show"
        )
    if now.evaluate is None:
        note("no recipe says how images are prepared: nothing is done to them")
    model = one.at_steps(request.steps or one.steps).eval()
    signature = model.signature
    place = list(signature.outputs).index(main_output(now.loss, signature, now.output))
    x, names = read_samples([*map(str, request.images)], signature, now.evaluate or (), data)
    outputs, how = [], (now.precision, one.device)
    with torch.inference_mode(), arithmetic(*how), autocast(*how):
        for batch in x.split(now.batch, int(signature.sequence)):
            found = outputs_of(model(batch.to(one.device)))[place]
            outputs.append(over_time(found).cpu())
    logits = torch.cat(outputs).float()
    classes = now.class_names or tuple(map(str, range(logits.shape[1])))
    return Predictions(tuple(names), classes, logits, data.get("target") == "numbers")
