"""Reports of data sets, with samples as a network will see them: ``danetc data`` and ``danetc.data``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any

import torch

from danetc.arguments import MOST_STEPS, Classes, Option, Seed, SubsetSeed, in_memory
from danetc.compiler import check_file
from danetc.compiler.ir.ops.user import require_allowed
from danetc.dsl.recipe.settings import Phase
from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.output.returned import Returned, frame
from danetc.output.samples import ShownSample, picture
from danetc.requests import HELD_OUT
from danetc.runtime.data.augment import image_transform, one_thread
from danetc.runtime.data.batches import Batch, Fetcher
from danetc.runtime.data.dataset import DataSet, Source, evenly
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import IGNORED, TokenInput
from danetc.runtime.system.seeds import epoch_order
from danetc.tasks.grid.plan import check_phase
from danetc.tasks.networks import CompiledNetwork, compile_spec, emit_model
from danetc.tasks.training.plan import find_recipe

LOOKED = 256  # number of samples of each split whose values are read, evenly spread
SHOWN = 8  # samples of a class in the picture
CLASSES = 12  # classes in the picture
TIMED, SECONDS = 512, 0.5  # most images loaded to time a worker, and the time after which that ends
PEAK = 989e12  # dense bfloat16 operations that an H100 performs in a second at most


@dataclass(frozen=True, eq=False, repr=False)
class DataReport(Returned):
    """Report of a data set, as ``danetc data`` prints it."""

    record: Mapping[str, Any]
    """All facts, as JSON data."""
    samples: tuple[ShownSample, ...]
    """Training samples in the order of their classes, after the augmentation of the recipe."""

    def frame(self) -> Any:
        """Return a DataFrame with a row for each class or number. Raises UserError without pandas."""
        return frame(self.record["labels"])

    def picture(self) -> Any:
        """Return the samples as an image of Pillow, with a row for each class. Raises UserError for tokens."""
        if self.samples[0].image.dim() < 3:
            raise UserError(f"{self.record['name']} holds tokens, which have no picture")
        return picture(self.samples)

    def _line(self) -> str:
        splits = self.record["splits"].items()
        sizes = ", ".join(f"{split['samples']:,} {name}" for name, split in splits)
        return f"{self.record['name']}: {_targets(self.record)}, samples: {sizes}"


def data(
    data: str | Any,
    *,
    recipe: str | None = None,
    steps: Annotated[int | None, Option(least=1, most=MOST_STEPS)] = None,
    classes: Classes | None = None,
    subset_seed: SubsetSeed = 0,
    seed: Seed = 0,
) -> DataReport:
    """Describe a data set: its shapes, values and classes, and some samples.

    Args:
        data: Data set, as in ``"digits"`` or ``"my_data.npz"``; or arrays or Datasets, as for ``train``.
        recipe: Spec file (of recipes alone, too) or name of a shipped spec; the first phase of its recipe
            augments the samples. ``"FILE:NAME"`` chooses one of several recipes. By default samples are not
            augmented.
        steps: Number of frames that recordings of events are cut into. By default the T of the
            network in ``recipe``.
        classes: Number of classes to draw at random; by default all.
        subset_seed: Seed of the draw of classes.
        seed: Seed of the augmentation.

    Raises UserError if there is no such data set, SpecError for errors in the spec.
    """
    data, compiled, phase = in_memory(data, HELD_OUT), None, None
    if recipe is not None:
        spec, colon, name = recipe.rpartition(":")
        named = bool(colon) and name.isidentifier()
        path = spec if named else recipe
        module = check_file(path).module
        if any(item.kind == "network" for item in module.own.values()):
            compiled = compile_spec(path)
        phase = find_recipe(module, name if named else None, data, {}).phases[0]
        for place in (step["function"] for step in phase.augment if "function" in step):
            require_allowed(place)
        steps = steps or phase.steps or (compiled.graph.steps if compiled is not None else None)
    taken = None if compiled is None else compiled.graph.packed
    tokens = None if taken is None else TokenInput.of(taken.kind, taken.shape)
    found = open_data(
        data,
        classes=classes,
        subset_seed=subset_seed,
        frames=steps,
        on_unreadable="skip",
        tokens=tokens,
    )
    splits = {split: _values(source, found) for split, source in found.splits.items()}
    augment = image_transform(() if phase is None else phase.augment, events=found.events)
    reader = Fetcher(found.train, augment, seed)
    shown = tuple(_samples(found, reader))
    record: dict[str, Any] = {
        **found.describe(),
        "target": found.target,
        "splits": {split: values for split, (values, _) in splits.items()},
        "labels": [
            {
                "number": number,
                "name": name,
                **{split: labels[number] for split, (_, labels) in splits.items()},
            }
            for number, name in enumerate(found.class_names)
        ],
        "notices": list(found.notices),
        "augment": None if phase is None else write_setting("augment", phase.augment),
        "seen": list(shown[0].image.shape),
        "loading": _speed(reader, 1 if phase is None else 32, compiled),
        "network": None if compiled is None else compiled.graph.name,
        "misfit": None if compiled is None or phase is None else _misfit(found, compiled, phase),
    }
    return DataReport(record, shown)


def _speed(
    reader: Fetcher, batch: int, compiled: CompiledNetwork | None
) -> dict[str, float | None]:
    """Measure the images that a worker loads and augments in a second, and return those that an H100
    would train the network with at its peak, three times the operations of a forward pass each.

    ``batch`` is 1 if images may have different sizes.
    """
    order = epoch_order(len(reader.source), reader.seed, 0)[:TIMED].split(batch)
    loaded = 0
    with one_thread():
        reader.__getitems__([0, 0])  # libraries are loaded
        begun = time.perf_counter()
        for indices in order:
            found = reader.__getitems__([0, *indices.tolist()])
            loaded += len(found) if isinstance(found, Batch) else 0
            seconds = time.perf_counter() - begun
            if seconds > SECONDS:
                break
    summary = None if compiled is None else compiled.summary
    operations = 6 * (summary.macs + summary.additions) if summary is not None else 0
    return {
        "images_per_second": loaded / seconds if loaded else None,
        "gpu_images_per_second": PEAK / operations if operations else None,
    }


def _misfit(data: DataSet, compiled: CompiledNetwork, phase: Phase) -> str | None:
    """Return why the network cannot learn the data, or None if it can."""
    try:
        check_phase(data, emit_model(compiled.graph).signature, phase)
    except UserError as error:
        return str(error)
    return None


def _values(source: Source, data: DataSet) -> tuple[dict[str, Any], list[Any]]:
    """Return facts about the values of a split, and the number of samples (or pixels) of each class,
    or the range of each number that is learned.
    """
    shapes: Counter[tuple[int, ...]] = Counter()
    found, dtype = [], ""
    pixels = torch.zeros(data.classes, dtype=torch.int64)
    looked = evenly(len(source), LOOKED)
    for _, sample, label in Fetcher(source, image_transform(()), 0).samples(looked):
        shapes[tuple(sample.shape)] += 1
        dtype = str(sample.dtype).removeprefix("torch.")
        x = sample.double()
        found.append(torch.stack([x.min(), x.max(), x.sum(), x.square().sum(), (x**0).sum()]))
        if data.target in ("steps", "pixels"):
            pixels += label[label != IGNORED].bincount(minlength=data.classes)[: data.classes]
    low, high, total, squares, count = torch.stack(found).unbind(1)
    mean = float(total.sum() / count.sum())
    record = {
        "samples": len(source),
        "looked_at": len(looked),
        "unreadable": len(looked) - len(found),
        "shapes": [{"shape": list(shape), "samples": n} for shape, n in sorted(shapes.items())],
        "dtype": dtype,
        "smallest": float(low.min()),
        "largest": float(high.max()),
        "mean": mean,
        "deviation": max(0.0, float(squares.sum() / count.sum()) - mean**2) ** 0.5,
    }
    if data.target == "classes":
        pixels = source.labels.bincount(minlength=data.classes)
    if data.target != "numbers":
        return record, pixels.tolist()
    return record, [
        {"smallest": float(x.min()), "mean": float(x.mean()), "largest": float(x.max())}
        for x in source.labels.double().T
    ]


def _samples(data: DataSet, reader: Fetcher) -> Iterator[ShownSample]:
    """Yield training samples of each of the first classes after augmentation, before mixing."""
    source = data.train
    chosen = list(range(min(len(source), 3 * SHOWN)))
    if data.target == "classes":
        chosen = [
            index
            for number in source.labels.unique()[:CLASSES]
            for index in (source.labels == number).nonzero().flatten()[:SHOWN].tolist()
        ]
    for _, image, target in reader.samples(chosen):
        text = ", ".join(f"{value:.3g}" for value in target.flatten().tolist()[:4])
        if data.target == "classes":
            text = data.class_names[int(target)]
        mask = target if data.target == "pixels" else None
        yield ShownSample(reader.transform.finish(image), "" if mask is not None else text, mask)


def _targets(record: Mapping[str, Any]) -> str:
    kinds = {"steps": "classes of steps", "pixels": "classes of pixels"}
    return f"{record['classes']} {kinds.get(record['target'], record['target'])}"


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts of a data set as text, each with its name."""
    yield "data", record["text"]
    yield "learns", _targets(record)
    axes = "T x C x H x W" if record["events"] else "C x H x W"
    if len(record["seen"]) < 3:
        axes = "tokens"
    for name, split in record["splits"].items():
        shapes = [" x ".join(map(str, each["shape"])) for each in split["shapes"]]
        several = f"{shapes[0]} to {shapes[-1]}" if len(shapes) > 1 else shapes[0]
        yield name, f"{split['samples']:,} samples, {axes} = {several}, {split['dtype']}"
        some = f", of {split['looked_at']} samples" * (split["looked_at"] < split["samples"])
        yield (
            "",
            f"values from {split['smallest']:.4g} to {split['largest']:.4g}, mean "
            f"{split['mean']:.4g}, standard deviation {split['deviation']:.4g}{some}",
        )
        if split["unreadable"]:
            yield "", f"{split['unreadable']} samples cannot be read"
    yield (
        "seen as",
        f"{' x '.join(map(str, record['seen']))}, after {record['augment'] or 'no recipe'}",
    )
    speed, most = record["loading"].values()
    if speed is not None:
        each = f"{ceil(1000 / speed)} for 1,000 images/s of a GPU"
        yield "loading", f"{speed:,.0f} images/s by one worker, so {each}"
        if most is not None and most < 1000 * speed:  # not for small networks, far below the peak
            trained = f"at most {most:,.0f} images/s of {record['network']}"
            yield "", f"an H100 trains {trained}: {ceil(most / speed):,} workers"
    yield "fingerprint", record["fingerprint"]
    yield from (("note", notice) for notice in record["notices"])
    if record["network"] is not None:
        misfit = record["misfit"]
        can = "can learn them" if misfit is None else f"cannot learn them: {misfit}"
        yield "network", f"{record['network']} {can}"
