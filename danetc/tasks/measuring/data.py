"""Networks and data sets for tests and measures, prepared as in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from danetc.arguments import Setting
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.text import read_setting, write_setting
from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.runtime.data.batches import Prepared, prepared
from danetc.runtime.data.fit import check_fit, check_together
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import Split
from danetc.runtime.data.samples import read_samples
from danetc.runtime.measure import Statistics
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.devices import find_device
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import epoch_order
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.model_directory import load
from danetc.tasks.networks import CompiledNetwork, compile_spec, emit_model
from danetc.tasks.trained import Trained, data_of, open_trained
from danetc.tasks.training.plan import find_recipe

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Subject:
    """A network to measure: ``trained`` is the record of its directory, ``compiled`` that of its spec,
    ``notice`` is a note on it."""

    source: str
    model: Model
    trained: Trained | None = None
    notice: str = ""
    compiled: CompiledNetwork | None = None

    def steps(self, data: str) -> tuple[Item, ...] | None:
        """Return the preparation of test images in the recipe that ``danetc train`` would use for a
        spec; None without a recipe, and for a directory. Raises SpecError.
        """
        if self.compiled is None:
            return None
        try:
            recipe = find_recipe(self.compiled.checked.module, None, data, {})
        except UserError:  # none, or a choice
            return None
        return recipe.phases[-1].evaluate

    @property
    def evaluation(self) -> Evaluation | None:
        return None if self.trained is None else self.trained.evaluation

    @property
    def output(self) -> str:
        """Name of the trained output, or the first."""
        named = None if self.evaluation is None else self.evaluation.output
        return named or next(iter(self.model.signature.outputs))

    @property
    def statistics(self) -> Statistics:
        """``running`` if its norms have running statistics, else ``batch``."""
        buffers = self.model.named_buffers()
        counts = [int(value) for name, value in buffers if name.endswith("num_batches_tracked")]
        return "batch" if counts and not any(counts) else "running"


def open_subject(
    source: str,
    network: str | None,
    settings: Mapping[str, Setting],
    seed: int,
    device: str | None,
    backend: str = "eager",
) -> Subject:
    """Load the model from the directory of a run, or build it from a spec, on a device by its name.

    Raises SpecError, UserError.
    """
    place = find_device(device)
    if place.type == "mps":
        if device is not None:
            raise UserError("measures sum in float64, which mps does not have; use --device cpu")
        place = find_device("cpu")
    if not directory_of(source).is_dir():
        compiled = compile_spec(source, network=network, settings=settings)
        graph = compiled.graph
        notice = f"{graph.name} is untrained: its weights are the initial ones of seed {seed}"
        model = emit_model(graph, seed, backend).to(place)
        return Subject(source, model, None, notice, compiled)
    if settings or network is not None:
        raise UserError(
            f"{source} is the directory of a run, whose network is fixed; --set and --network are "
            "for spec files"
        )
    model = load(source, backend=backend, memory="none")
    return Subject(source, model.to(place), open_trained(source))


def open_set(
    text: str,
    signature: Signature,
    trained: Trained | None,
    *,
    classes: int | None = None,
    subset_seed: int = 0,
    evaluate: Sequence[Item] | None = None,
    output: str | None = None,
    split: Split = "test",
) -> Prepared:
    """Open a data set for a network, with images prepared as in the tests of its training.

    Args:
        classes: number of classes to draw. The default is that of the training.
        evaluate: steps that replace those of the training. Without any, images are used as they are,
            or resized if their sizes differ, and a notice says so.
        output: the output with the classes of the data set, if the network has several.

    Raises UserError.
    """
    tested = None if trained is None else trained.evaluation
    recorded: Mapping[str, Any] = (None if tested is None else tested.data) or {}
    if classes is None and trained is not None and trained.subset is not None:
        classes, subset_seed = trained.subset
    steps = evaluate if evaluate is not None or tested is None else tested.evaluate
    try:
        check_together(text, signature)
        data = open_data(
            text,
            classes=classes,
            subset_seed=subset_seed,
            on_unreadable="skip" if recorded.get("on_unreadable") == "skip" else "stop",
            frames=signature.steps,
            channels=signature.input[0],
        )
        if steps is None:
            side = signature.input[-1]
            usual = ("resize", round(side * 256 / 224)), ("center_crop", side)
            steps = tuple(
                Item(name, (("size", size),)) for name, size in usual if data.shape is None
            )
            done = write_setting("evaluate", steps) if steps else "nothing is done to them"
            notice = f"no recipe says how images are prepared: {done}"
            data = replace(data, notices=(*data.notices, notice))
        found = prepared(data, steps)
        check_fit(
            data,
            signature,
            evaluate=found.transform,
            split=split,
            output=signature.outputs[output or next(iter(signature.outputs))],
        )
    except DataError as error:
        raise UserError(f"{trained.path if trained else text}: {error}") from error
    return found


def some_images(
    subject: Subject,
    files: Sequence[str],
    data: str | None,
    prepare: str | None,
    *,
    split: Split,
    batch: int,
) -> Tensor:
    """Return the images in files, or ``batch`` images of a data set, by default that of the training,
    as a network takes them: [N, ...] or [T, N, ...]. Raises UserError.
    """
    signature, tested = subject.model.signature, subject.evaluation
    steps = None if prepare is None else read_setting("evaluate", prepare, "--evaluate")
    if files:
        if data is not None:
            raise UserError("images are files or those of --data, not both")
        if steps is None:
            steps = () if tested is None else tested.evaluate
        try:
            described = (None if tested is None else tested.data) or {}
            return read_samples(files, signature, steps or (), described)[0]
        except DataError as error:
            raise UserError(str(error)) from error
    if data is None and subject.trained is None:
        raise UserError("name the images: files, or a data set with --data, as in --data digits")
    data = data or data_of(cast(Trained, subject.trained))
    images = open_set(
        data,
        signature,
        subject.trained,
        evaluate=subject.steps(data) if steps is None else steps,
        output=subject.output,
        split=split,
    )
    (found,) = batches_of(images, split=split, batch=batch, count=1)
    return found[0]


def batches_of(
    images: Prepared, *, split: Split, batch: int, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first ``count`` batches of a split: images (frames with T first) and labels.

    The order of samples mixes the classes and is the same in every run. Raises UserError.
    """
    data = images.data
    order = epoch_order(len(data.split(split)), 0, 0)
    try:
        made = images.batches(split=split, batch=batch, order=order)
        for _, each in zip(range(count), made.epoch(0), strict=False):
            x = each.images.transpose(0, 1) if data.events else each.images
            yield x.contiguous(), each.labels
    except DataError as error:
        raise UserError(f"{data.name}: {error}") from error
