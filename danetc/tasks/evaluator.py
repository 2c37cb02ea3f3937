"""Evaluating a trained network on a data set, at its own T, at others, and at all up to one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from danetc.compiler.analysis.summary import why_not_stepwise
from danetc.compiler.ir.at_node import why_fixed
from danetc.compiler.ir.graph import Graph
from danetc.dsl.recipe.text import read_setting
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.output.figures import percent, scores
from danetc.requests import EvaluationRequest
from danetc.runtime.data import DataError, Prepared, Target
from danetc.runtime.model.built import Model, to_channels_last
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.machine import usable_cores
from danetc.runtime.training.distributed import device_name
from danetc.runtime.training.evaluation import Evaluation, unlike
from danetc.runtime.training.losses import Objective, main_output, over_time
from danetc.runtime.training.settings import autocast, determinism
from danetc.runtime.training.state import own_random_state, seed_everything
from danetc.runtime.training.totals import Sums, Totals, added_up
from danetc.tasks.exporting import open_checkpoint, with_steps
from danetc.tasks.measuring.data import open_set
from danetc.tasks.model_directory import load
from danetc.tasks.trained import Trained, data_of
from danetc.tasks.training.plan import default_backend

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a split of a data set at T = ``steps``. Accuracies are from 0 to 1, and None where numbers are
    learned; ``scores`` has what there is of pixels and numbers: ``miou``, ``rmse``."""

    steps: int
    images: int
    loss: float
    top1: float | None
    top5: float | None
    skipped: int
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The accuracy and what else there is: ``96.20%``; ``RMSE 0.125`` of numbers."""
        accuracy = [] if self.top1 is None else [percent(self.top1)]
        return ", ".join([*accuracy, *([scores(self.scores)] if self.scores else [])])

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class DirectoryEvaluator:
    """Evaluates one directory on one data set.

    Everything is as in the tests of the training in the directory, so that its figures come out
    again to the last digit, unless ``asked`` says otherwise: ``unlike`` lists what is not. Raises
    UserError and SpecError.
    """

    def __init__(self, trained: Trained, asked: EvaluationRequest, note: Note) -> None:
        self.trained, self._asked = trained, asked
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        checkpoint = None
        if asked.checkpoint is not None:
            checkpoint = open_checkpoint(trained.path, asked.checkpoint)
            self.trained = trained = replace(trained, evaluation=checkpoint.tested)
        self.recorded = before = trained.evaluation
        backend = asked.backend or (default_backend(note) if before is None else before.backend)
        self.model = load(trained.path, backend=backend, memory="none")
        if checkpoint is not None:
            self.model = checkpoint.of(self.model, backend)
        self.conditions = self._conditions(backend)
        if self.conditions.channels_last:
            to_channels_last(self.model)
        self._other: Model | None = None  # the network at the T that was asked for last
        self._opened: tuple[int, Prepared] | None = None  # the T for which, and the data set
        self.notices: list[str] = []

    def _conditions(self, backend: str) -> Evaluation:
        """How it is evaluated: as it was in the training, but for what is asked."""
        asked, before = self._asked, self.recorded
        now = before or Evaluation(steps=self.model.signature.steps)
        if asked.batch is not None:
            now = replace(now, batch=asked.batch, processes=1)
        if asked.seed is not None:
            now = replace(now, seed=asked.seed, phase_index=0, epoch=0)
        return replace(
            now,
            backend=backend,
            precision=asked.precision or now.precision,
            output=asked.train_output or now.output,
            device=device_name(self.device),
            threads=_threads(now.threads),
        )

    @property
    def graph(self) -> Graph:
        graph = self.model.topology
        assert isinstance(graph, Graph)
        return graph

    @property
    def steps(self) -> int:
        return self.conditions.steps

    @property
    def unlike(self) -> list[str]:
        """What is not as in the training's own test, in words. Empty without a training."""
        if self.recorded is None:
            return []
        split = ["the training images (was: the test images)"] * (self._asked.split != "test")
        return [*split, *unlike(self.conditions, self.recorded)]

    def images(self, steps: int | None = None) -> int:
        """How many images the split has."""
        model = self._at(steps or self.steps)
        return len(self._data(model).data.split(self._asked.split))

    def at(self, steps: int, on_progress: Progress = lambda images: None) -> Figures:
        """The figures of the network at T = ``steps``, whatever T it was trained with."""
        model = self._at(steps)
        images = self._data(model)
        loss = self._loss(model, images.data.target)

        def run(x: Tensor, labels: Tensor, sums: Sequence[Totals]) -> None:
            outputs = model(x)
            sums[0].add(over_time(loss.output(outputs)), labels, loss(outputs, labels))

        (found,), seconds = self._each(model, images, run, 1, on_progress)
        return _figures(steps, found, seconds)

    def up_to(self, steps: int, on_progress: Progress = lambda images: None) -> list[Figures]:
        """The figures at each T = 1 .. ``steps``, from one run: those of the mean output of the
        first T steps. Raises UserError where that is another value than the output at T.
        """
        reason = why_not_stepwise(self.graph, self._output(self.model))
        if reason is not None:
            raise UserError(
                f"the accuracy of {self.graph.name} at each T does not follow from one run: "
                f"{reason}; --steps 1,2,4 runs it at each"
            )
        own = any(why_fixed(self.graph, node) for node in self.graph.nodes.values())
        model = self.model.to(self.device) if own and steps <= self.steps else self._at(steps)
        images = self._data(model)
        loss = self._loss(model, images.data.target)

        def run(x: Tensor, labels: Tensor, sums: Sequence[Totals]) -> None:
            states: Any = None
            steps: list[Sequence[Tensor]] = []
            for t, totals in enumerate(sums):
                found, states = model.stream(x[t] if images.data.events else x, states)
                steps.append([found] if isinstance(found, Tensor) else found)
                each = [torch.stack(output) for output in zip(*steps, strict=True)]
                so_far = each[0] if isinstance(found, Tensor) else each
                totals.add(over_time(loss.output(so_far)), labels, loss(so_far, labels))

        sums, seconds = self._each(model, images, run, steps, on_progress)
        return [_figures(t, totals, seconds) for t, totals in enumerate(sums, 1)]

    # -- what it needs -----------------------------------------------------------------------------

    def _at(self, steps: int) -> Model:
        """The network with another T, its weights the same."""
        if steps == self.steps:
            return self.model.to(self.device)
        if self._other is not None and self._other.signature.steps == steps:
            return self._other
        timed = next((n for n in self.graph.nodes.values() if why_fixed(self.graph, n)), None)
        if timed is not None:
            raise UserError(
                f"{self.graph.name} runs at T = {self.steps} alone, not {steps}: `{timed.path}` "
                f"has {why_fixed(self.graph, timed)} for each step"
            )
        model = with_steps(self.model, self.trained.path, steps, self.conditions.backend)
        model.load_state_dict(self.model.state_dict())
        if self.conditions.channels_last:
            to_channels_last(model)
        self._other = model.to(self.device)
        return self._other

    def _data(self, model: Model) -> Prepared:
        """The data set; recordings of events anew for each T, into which they may be cut."""
        asked, steps = self._asked, model.signature.steps
        if self._opened is not None:
            known, images = self._opened
            if known == steps or not images.data.events:
                return images
        found = open_set(
            asked.data or data_of(self.trained),
            model.signature,
            self.trained,
            classes=asked.classes,
            subset_seed=asked.subset_seed,
            evaluate=None
            if asked.prepare is None
            else read_setting("evaluate", asked.prepare, "--evaluate"),
            output=self._output(model),
            split=asked.split,
        )
        if self._opened is None:
            self.notices += found.data.notices
            self.conditions = replace(
                self.conditions, evaluate=found.steps, data=found.data.describe()
            )
        self._opened = steps, found
        return found

    def _output(self, model: Model) -> str:
        """The name of the output that accuracy is of."""
        try:
            return main_output(self.conditions.loss, model.signature, self.conditions.output)
        except TrainingError as error:
            raise UserError(f"{self.trained.path}: {error}") from error

    def _loss(self, model: Model, target: Target) -> Objective:
        """The loss of a model."""
        now = self.conditions
        try:
            return Objective(now.loss, model.signature, now.output, target=target)
        except TrainingError as error:
            raise UserError(f"{self.trained.path}: {error}") from error

    def _each(
        self,
        model: Model,
        images: Prepared,
        run: Callable[[Tensor, Tensor, Sequence[Totals]], None],
        count: int,
        on_progress: Progress,
    ) -> tuple[list[Sums], float]:
        """``run`` on every batch, as each process of the training had them, one process after the
        other. Gives the sums of ``count`` totals, which ``run`` has added to, and the seconds.
        """
        began = time.perf_counter()
        parts: list[list[Sums]] = [[] for _ in range(count)]
        model.eval()
        now = self.conditions
        with (
            _threaded(now.threads),
            determinism(self.device, now.deterministic),
            own_random_state(self.device),
        ):
            for rank in range(now.processes):
                seed_everything(*now.seeds(rank))
                sums = self._part(model, images, run, count, rank, on_progress)
                for part, totals in zip(parts, sums, strict=True):
                    part.append(totals.read())
        seconds = time.perf_counter() - began
        return [added_up(part) for part in parts], seconds

    def _part(
        self,
        model: Model,
        images: Prepared,
        run: Callable[[Tensor, Tensor, Sequence[Totals]], None],
        count: int,
        rank: int,
        on_progress: Progress,
    ) -> list[Totals]:
        """The totals of one process's images."""
        asked, now = self._asked, self.conditions
        data = images.data
        sums = [Totals(self.device, data.target, data.classes) for _ in range(count)]
        try:
            batches = images.batches(
                split=asked.split, batch=now.batch, rank=rank, world=now.processes,
                workers=asked.workers, pin=self.device.type == "cuda",
            )  # fmt: skip
            try:
                for batch in batches.epoch(0, device=self.device):
                    x = batch.images.transpose(0, 1) if images.data.events else batch.images
                    with torch.inference_mode(), autocast(now.precision, self.device):
                        run(x, batch.labels, sums)
                    on_progress(len(batch) + batch.skipped)
                for totals in sums:
                    totals.skip(batches.skipped)
            finally:
                batches.close()
        except DataError as error:
            raise UserError(f"{images.data.name}: {error}") from error
        return sums


def _threads(recorded: int | None) -> int:
    """Those of the training, by which sums may round, where there are cores for them and nobody has
    said another number.
    """
    own = torch.get_num_threads()
    if recorded is None or "OMP_NUM_THREADS" in os.environ or recorded > usable_cores():
        return own
    return recorded


@contextmanager
def _threaded(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _figures(steps: int, sums: Sums, seconds: float) -> Figures:
    if not sums.images:
        raise UserError("none of the images can be read")
    return Figures(
        steps, sums.images, sums.loss, sums.top1, sums.top5, sums.skipped, seconds, sums.scores
    )  # fmt: skip
