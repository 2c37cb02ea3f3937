"""Evaluating a trained network on a data set, at its own T, at others, and at all up to one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danetc.api import compile_spec, emit_model, load
from danetc.compiler.graph import Graph, Node
from danetc.compiler.stepwise import why_not_stepwise
from danetc.dsl.recipe_values import Item
from danetc.errors import UserError
from danetc.exporting import set_weights
from danetc.measuring.data import (
    Subject,
    evaluate_items,
    item_of,
    last_phase,
    open_set,
    training_record,
)
from danetc.model_directory import SPEC, SUMMARY
from danetc.runtime.augment import ImageTransform
from danetc.runtime.data import Batches, DataError, DataSet
from danetc.runtime.model import Model
from danetc.runtime.training.errors import TrainingError
from danetc.runtime.training.losses import Loss, chosen_output, make_loss, over_time
from danetc.runtime.training.state import own_random_state, seed_everything
from danetc.runtime.training.totals import Totals

PER_STEP = ("tebn",)
PRECISIONS = {"float32": None, "mixed": torch.float16, "bf16": torch.bfloat16}
Tick = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a split of a data set at T = ``steps``. Accuracies are from 0 to 1."""

    steps: int
    images: int
    loss: float
    top1: float
    top5: float
    skipped: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trained:
    """A directory whose weights are evaluated, and how its training was evaluated."""

    path: Path
    record: Mapping[str, Any] | None
    evaluate: tuple[Item, ...]
    loss: Item | None
    batch: int
    precision: str
    train_output: str | None
    own_data: str | None
    subset: Mapping[str, Any] | None  # the classes that the training has drawn


def open_trained(directory: str) -> Trained:
    """What a directory of ``danetc train`` or ``danetc build`` says of itself. Raises UserError."""
    path = Path(directory)
    if not (path / SUMMARY).is_file():
        what = "is no directory of a trained network" if path.exists() else "is not there"
        raise UserError(f"{directory} {what}; `danetc train` writes one, as in runs/NETWORK")
    record = training_record(path)
    try:
        settings: Mapping[str, Any] = (record or {}).get("settings", {})
        phase = last_phase(record or {})
        data = (record or {}).get("facts", {}).get("data", {})
        return Trained(
            path,
            record,
            evaluate_items(directory, record),
            item_of(phase["loss"]) if "loss" in phase else None,
            int(phase.get("batch", 64)),
            str(phase.get("precision", "float32")),
            settings.get("train_output"),
            data.get("text"),
            data.get("subset"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"the record of the training in {directory} is damaged: {error}") from error


class Evaluator:
    """Evaluates one directory on one data set.

    Images are prepared, and the loss is taken, as the training in the directory did; where there
    was none, the loss is the cross entropy. Raises UserError and SpecError.
    """

    def __init__(
        self,
        trained: Trained,
        data: str,
        *,
        classes: int | None = None,
        subset_seed: int = 0,
        split: str = "test",
        batch: int | None = None,
        workers: int = 0,
        checkpoint: str | None = None,
        train_output: str | None = None,
        backend: str = "eager",
        precision: str | None = None,
        seed: int = 0,
    ) -> None:
        self.trained = trained
        self._text, self._classes, self._subset_seed = data, classes, subset_seed
        self._split, self._workers = split, workers
        self.batch = batch or trained.batch
        self._backend, self._seed = backend, seed
        self._output = train_output or trained.train_output
        self.precision = precision or trained.precision
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._loss: Loss = _loss(trained.loss)
        self.model = load(trained.path, backend=backend, memory="none")
        if checkpoint is not None:
            set_weights(self.model, trained.path, checkpoint)
        self._opened: tuple[DataSet, ImageTransform] | None = None
        self.notices: list[str] = []

    @property
    def graph(self) -> Graph:
        graph = self.model.topology
        assert isinstance(graph, Graph)
        return graph

    @property
    def steps(self) -> int:
        return self.model.signature.steps

    def images(self, steps: int | None = None) -> int:
        """How many images the split has."""
        return len(self._source(self._data(self._at(steps or self.steps))[0]))

    def at(self, steps: int, tick: Tick = lambda images: None) -> Figures:
        """The figures of the network at T = ``steps``, whatever T it was trained with."""
        model = self._at(steps)
        data, transform = self._data(model)
        choose, _ = self._chosen(model)
        totals = Totals(self.device)

        def run(images: Tensor, labels: Tensor) -> None:
            output = choose(model(images))
            totals.add(over_time(output), labels, self._loss(output, labels))

        skipped, seconds = self._each(model, data, transform, run, tick)
        totals.skip(skipped)
        return _figures(steps, totals, seconds)

    def up_to(self, steps: int, tick: Tick = lambda images: None) -> list[Figures]:
        """The figures at each T = 1 .. ``steps``, from one run: those of the mean output of the
        first T steps. Raises UserError where that is another value than the output at T.
        """
        reason = why_not_stepwise(self.graph, self._chosen(self.model)[1])
        if reason is not None:
            raise UserError(
                f"the accuracy of {self.graph.name} at each T does not follow from one run: "
                f"{reason}; --steps 1,2,4 runs it at each"
            )
        own = any(_is_per_step(node) for node in self.graph.nodes.values())
        model = self.model.to(self.device) if own and steps <= self.steps else self._at(steps)
        data, transform = self._data(model)
        choose, _ = self._chosen(model)
        sums = [Totals(self.device) for _ in range(steps)]

        def run(images: Tensor, labels: Tensor) -> None:
            states: Any = None
            outputs: list[Tensor] = []
            for t, totals in enumerate(sums):
                frame = images[t] if data.events else images
                found, states = model.stream(frame, states)
                outputs.append(choose(found))
                so_far = torch.stack(outputs)
                totals.add(over_time(so_far), labels, self._loss(so_far, labels))

        skipped, seconds = self._each(model, data, transform, run, tick)
        for totals in sums:
            totals.skip(skipped)
        return [_figures(t, totals, seconds) for t, totals in enumerate(sums, 1)]

    # -- what it needs -----------------------------------------------------------------------------

    def _at(self, steps: int) -> Model:
        """The network with another T, its weights the same."""
        if steps == self.steps:
            return self.model.to(self.device)
        timed = next((n for n in self.graph.nodes.values() if _is_per_step(n)), None)
        if timed is not None:
            raise UserError(
                f"{self.graph.name} runs at T = {self.steps} alone, not {steps}: `{timed.path}` "
                "has parameters for each step"
            )
        path = self.trained.path
        if not (path / SPEC).is_file():
            raise UserError(f"{path} is incomplete: there is no {SPEC} in it")
        graph = compile_spec(path / SPEC, network=self.graph.name, settings={"steps": steps}).graph
        model = emit_model(graph, 0, self._backend)
        model.load_state_dict(self.model.state_dict())
        return model.to(self.device)

    def _data(self, model: Model) -> tuple[DataSet, ImageTransform]:
        """The data set; recordings of events anew for each T, into which they may be cut."""
        if self._opened is not None and not self._opened[0].events:
            return self._opened
        trained = self.trained
        subject = Subject(str(trained.path), model, True, trained.evaluate, ())
        classes, seed = self._classes, self._subset_seed
        if classes is None and trained.subset is not None:
            classes, seed = len(trained.subset["indices"]), int(trained.subset["seed"])
        opened = open_set(self._text, subject, classes, seed, self._chosen(model)[1])
        if self._opened is None:
            self.notices += opened[0].notices
            if self._classes is None and trained.subset is not None:
                self.notices.append(
                    f"of its classes the {classes} that the training has drawn (subset seed {seed})"
                )
        self._opened = opened
        return opened

    def _chosen(self, model: Model) -> tuple[Callable[[Any], Tensor], str]:
        try:
            choose, _ = chosen_output(model.signature, self._output)
        except TrainingError as error:
            raise UserError(f"{self.trained.path}: {error}") from error
        return choose, self._output or next(iter(model.signature.outputs))

    def _source(self, data: DataSet) -> Any:
        return data.train if self._split == "train" else data.test

    def _each(
        self,
        model: Model,
        data: DataSet,
        transform: ImageTransform,
        run: Callable[[Tensor, Tensor], None],
        tick: Tick,
    ) -> tuple[int, float]:
        """``run`` on every batch. Gives the images that could not be read, and the seconds."""
        dtype = PRECISIONS[self.precision]
        autocast = nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)
        skipped, began = 0, time.perf_counter()
        batches = Batches(
            self._source(data), transform, batch=self.batch, seed=0, workers=self._workers,
            train=False, pin=self.device.type == "cuda",
        )  # fmt: skip
        model.eval()
        try:
            with own_random_state(self.device), torch.inference_mode(), autocast:
                seed_everything(self._seed)
                for batch in batches.epoch(0):
                    images = batch.images.transpose(0, 1) if data.events else batch.images
                    run(images.to(self.device), batch.labels.to(self.device))
                    skipped += batch.skipped
                    tick(len(batch) + batch.skipped)
        except DataError as error:
            raise UserError(f"{data.name}: {error}") from error
        finally:
            batches.close()
        return skipped, time.perf_counter() - began


def _is_per_step(node: Node) -> bool:
    return node.op in PER_STEP or bool(node.attrs.get("per_step"))


def _loss(item: Item | None) -> Loss:
    return make_loss(item or Item("cross_entropy", (("label_smoothing", 0.0),)))


def _figures(steps: int, totals: Totals, seconds: float) -> Figures:
    totals.read()
    if not totals.images:
        raise UserError("none of the images can be read")
    return Figures(
        steps, totals.images, totals.loss, totals.top1, totals.top5, totals.skipped, seconds
    )


def trials_in(directory: str) -> list[str]:
    """The directories of the trials in one; itself where it holds a single run."""
    from danetc.training.directory import TRIALS, read_json

    path = Path(directory)
    record = read_json(path / TRIALS) if (path / TRIALS).is_file() else None
    if record is None:
        return [directory]
    return [str(path / trial["directory"]) for trial in record["trials"]]
