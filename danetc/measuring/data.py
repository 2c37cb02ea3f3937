"""What ``danetc measure`` measures on: the model of a run or a file, and batches of a data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from danetc.api import compile_spec, emit_model, load
from danetc.dsl.recipe_schema import ITEMS
from danetc.dsl.recipe_values import Item
from danetc.errors import UserError
from danetc.options import Setting
from danetc.runtime.augment import ImageTransform, image_transform
from danetc.runtime.data import Batches, DataError, DataSet, check_fit, open_data, with_channels
from danetc.runtime.model import Model
from danetc.runtime.seeds import epoch_order

if TYPE_CHECKING:
    from torch import Tensor

Statistics = Literal["running", "batch"]
_RECORDS = "run.json", "training.json"


@dataclass(frozen=True)
class Subject:
    """A network to measure. ``evaluate`` are the steps of its recipe for test images, ``notices``
    what to tell of it."""

    source: str
    model: Model
    trained: bool
    evaluate: tuple[Item, ...]
    notices: tuple[str, ...]

    @property
    def statistics(self) -> Statistics:
        """Whose statistics its norms know: nobody's yet where none has seen a batch."""
        counts = [
            value
            for name, value in self.model.named_buffers()
            if name.endswith("num_batches_tracked")
        ]
        return "batch" if counts and not any(int(count) for count in counts) else "running"


def open_subject(
    source: str, network: str | None, settings: Mapping[str, Setting], seed: int
) -> Subject:
    """The trained model of a run's directory, or an untrained one of a spec.

    Raises SpecError, UserError.
    """
    if not Path(source).is_dir():
        graph = compile_spec(source, network=network, settings=settings).graph
        notice = f"{graph.name} is untrained: its weights are the initial ones of seed {seed}"
        return Subject(source, emit_model(graph, seed, "eager"), False, (), (notice,))
    if settings or network is not None:
        raise UserError(
            f"{source} is the directory of a run, whose network is fixed; --set and --network are "
            "for spec files"
        )
    model = load(source, backend="eager", memory="none")
    record = training_record(Path(source))
    notices: tuple[str, ...] = ()
    if record is None:
        notices = (f"{source} holds no training: its weights are taken as they are",)
    return Subject(source, model, record is not None, evaluate_items(source, record), notices)


def training_record(directory: Path) -> Mapping[str, Any] | None:
    """What a training wrote of its settings."""
    for name in _RECORDS:
        path = directory / name
        if path.is_file():
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, UnicodeDecodeError) as error:
                raise UserError(f"{path} is damaged: {error}") from error
            return record if isinstance(record, dict) else {}
    return None


def evaluate_items(source: str, record: Mapping[str, Any] | None) -> tuple[Item, ...]:
    """The steps for test images of the recipe's last phase."""
    if record is None:
        return ()
    items = []
    for step in last_phase(record).get("evaluate", ()):
        if step.get("name") not in ITEMS["evaluate"]:
            raise UserError(f"{source} was trained with a step that is not known: {step}")
        items.append(item_of(step))
    return tuple(items)


def last_phase(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the recipe's last phase, in the record of a training. Empty without any."""
    recipe = record.get("settings", record).get("recipe", {})
    phases = recipe.get("phases", {})
    found = list(phases.values() if isinstance(phases, dict) else phases)
    return found[-1] if found else {}


def item_of(record: Mapping[str, Any]) -> Item:
    """An optimizer, a loss or a step, from its JSON data."""
    given = ((key, value) for key, value in record.items() if key != "name")
    return Item(
        record["name"],
        tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in given),
    )


def open_set(
    text: str, subject: Subject, classes: int | None, subset_seed: int, output: str | None = None
) -> tuple[DataSet, ImageTransform]:
    """The data set for a subject, and what is done to its images. Raises UserError.

    ``output`` is the one whose classes are the data set's, where the network has several.
    """
    signature = subject.model.signature
    steps = subject.evaluate
    try:
        data = open_data(text, classes=classes, subset_seed=subset_seed, frames=signature.steps)
        data = with_channels(data, signature.input[0])
        if not steps and data.shape is None:
            steps, told = _usual(signature.input[-1])
            data = replace(data, notices=(*data.notices, told))
        transform = image_transform(steps, events=data.events)
        check_fit(
            data,
            signature,
            augment=transform,
            evaluate=transform,
            classes=signature.outputs[output or next(iter(signature.outputs))][-1],
        )
    except DataError as error:
        raise UserError(f"{subject.source}: {error}") from error
    return data, transform


def _usual(size: int) -> tuple[tuple[Item, ...], str]:
    """What is done to images of all sizes where no recipe says it, and a notice of it."""
    larger = round(size * 256 / 224)
    items = (Item("resize", (("size", larger),)), Item("center_crop", (("size", size),)))
    return (
        items,
        f"no recipe says how images are brought to size: resize({larger}) -> center_crop({size})",
    )


def batches_of(
    data: DataSet, transform: ImageTransform, *, split: str, batch: int, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first ``count`` batches of a split, in its order: images (frames T first) and labels.

    Samples are taken in an order that mixes the classes, the same in every run. Raises UserError.
    """
    source = data.train if split == "train" else data.test
    order = epoch_order(len(source), 0, 0)
    source = source.select(order, source.labels[order])
    try:
        made = Batches(source, transform, batch=batch, seed=0, train=False)
        for _, each in zip(range(count), made.epoch(0), strict=False):
            images = each.images.transpose(0, 1) if data.events else each.images
            yield images.contiguous(), each.labels
    except DataError as error:
        raise UserError(f"{data.name}: {error}") from error
