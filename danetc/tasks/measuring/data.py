"""Networks to measure or record, and data sets that are prepared as in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from danetc.arguments import Setting
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.text import read_setting
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.pretrained import directory_of
from danetc.runtime.data.batches import Prepared
from danetc.runtime.data.fit import read_samples
from danetc.runtime.data.request import Split
from danetc.runtime.measure import Statistics
from danetc.runtime.model.built import Model
from danetc.runtime.system.devices import find_device
from danetc.runtime.system.seeds import epoch_order
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.model_directory import Trained, data_of, load, open_trained
from danetc.tasks.networks import CompiledNetwork, compile_spec, emit_model
from danetc.tasks.training.plan import find_recipe
from danetc.tasks.training.tested import open_set


@dataclass(frozen=True)
class Subject:
    """A network to measure or record.

    ``trained`` is the record of its training, and ``compiled`` the network of its spec, if it has one.
    """

    source: str
    model: Model
    trained: Trained = Trained(Path("the model"), None)
    compiled: CompiledNetwork | None = None

    @property
    def output(self) -> str:
        """Name of the trained output, or the first."""
        tested = self.trained.evaluation
        return (tested.output if tested else None) or next(iter(self.model.signature.outputs))

    @property
    def statistics(self) -> Statistics:
        """``running`` if its norms have running statistics, else ``batch``."""
        named = self.model.named_buffers()
        counts = [int(x) for name, x in named if name.endswith("num_batches_tracked")]
        return "batch" if counts and not any(counts) else "running"

    def prepared(self, data: str | None, prepare: str | None = None, **options: Any) -> Prepared:
        """Open a data set for the network, by default that of its training.

        Images are prepared by the steps in ``prepare``, else as in the tests of the training, else by
        the recipe that ``danetc train`` would use for the spec. ``options`` are those of ``open_set``.
        Raises UserError, SpecError.
        """
        data = data or data_of(self.trained)
        evaluate = _steps(prepare)
        if evaluate is None and self.compiled is not None:
            with suppress(UserError):  # there is no recipe, or a choice of several
                recipe = find_recipe(self.compiled.checked.module, None, data, {})
                evaluate = recipe.phases[-1].evaluate
        options.setdefault("output", self.output)
        return open_set(data, self.model.signature, self.trained, evaluate=evaluate, **options)

    def images(
        self, files: Sequence[str], data: str | None, prepare: str | None, **options: Any
    ) -> Tensor:
        """Return the images in files, or the first batch of a data set, [N, ...] or [T, N, ...].

        ``options`` are those of ``batches_of``. Raises UserError, SpecError.
        """
        if not files:
            found = self.prepared(data, prepare, split=options["split"])
            return next(batches_of(found, count=1, **options))[0]
        if data is not None:
            raise UserError("images are files or those of --data, not both")
        tested = self.trained.evaluation or Evaluation(steps=0)
        steps = tested.evaluate if prepare is None else _steps(prepare)
        return read_samples(files, self.model.signature, steps or (), tested.data or {})[0]


def _steps(prepare: str | None) -> tuple[Item, ...] | None:
    return None if prepare is None else read_setting("evaluate", prepare, "--evaluate")


def open_subject(
    source: str,
    network: str | None = None,
    settings: Mapping[str, Setting] | None = None,
    seed: int = 0,
    device: str | None = None,
    backend: str = "eager",
    note: Note = lambda text: None,
) -> Subject:
    """Load the model from the directory of a run, or build it from a spec, on a device by its name.

    ``note`` is told that a network of a spec is untrained. Raises SpecError, UserError.
    """
    place = find_device(device)
    if place.type == "mps":
        if device is not None:
            raise UserError("measures sum in float64, which mps does not have; use --device cpu")
        place = find_device("cpu")
    if not directory_of(source).is_dir():
        compiled = compile_spec(source, network=network, settings=settings)
        model = emit_model(compiled.graph, backend, seed=seed).to(place)
        note(f"{compiled.graph.name} is untrained: its weights are the initial ones of seed {seed}")
        return Subject(source, model, Trained(Path(source), None), compiled)
    if settings or network is not None:
        raise UserError(
            f"{source} is the directory of a run, whose network is fixed; --set and --network are "
            "for spec files"
        )
    model = load(source, backend=backend, memory="none")
    return Subject(source, model.to(place), open_trained(source))


def batches_of(
    images: Prepared, *, split: Split, batch: int, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first ``count`` batches of a split: images (frames with T first) and labels.

    The order of samples mixes the classes and is the same in every run. Raises UserError.
    """
    order = epoch_order(len(images.data.split(split)), 0, 0)
    made = images.batches(split=split, batch=batch, order=order)
    for _, each in zip(range(count), made.epoch(0), strict=False):
        x = each.images.transpose(0, 1) if images.data.events else each.images
        yield x.contiguous(), each.labels
