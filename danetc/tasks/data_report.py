"""What a data set is, and samples of it as a network will see them: ``danetc data``, ``danetc.data``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from danetc.arguments import MOST_STEPS, check_whole
from danetc.dsl.recipe.settings import Phase
from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.output.data_frames import frame
from danetc.output.returned import Returned
from danetc.output.samples import ShownSample, picture
from danetc.runtime.data import DataError, DataSet, Source, mix_seed, open_data
from danetc.runtime.data.augment import ImageTransform, batch_transform, image_transform
from danetc.runtime.data.dataset import evenly
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.request import IGNORED
from danetc.runtime.system.errors import TrainingError, UnreadableError
from danetc.runtime.system.seeds import drawn_anew
from danetc.runtime.training.losses import Objective
from danetc.tasks.networks import CompiledNetwork, compile_spec, emit_model
from danetc.tasks.training.plan import find_recipe

if TYPE_CHECKING:
    import pandas
    from PIL.Image import Image

LOOKED = 256
"""Samples of each split whose values are looked at, evenly spread."""
SHOWN = 8
"""Samples of a class in the picture."""
CLASSES = 12
"""Classes in the picture, and in the table that is printed."""


@dataclass(frozen=True, eq=False, repr=False)
class DataReport(Returned):
    """A data set as ``danetc data`` shows it."""

    record: Mapping[str, Any]
    """Everything that is printed, as JSON data."""
    samples: tuple[ShownSample, ...]
    """Training samples, those of one class after the other, augmented as a recipe says."""

    def frame(self) -> pandas.DataFrame:
        """A row for each class, or number. Raises UserError without pandas."""
        return frame(self.record["labels"])

    def picture(self) -> Image:
        """The samples side by side, one row for each class: of Pillow, which notebooks show."""
        return picture(self.samples)

    def _line(self) -> str:
        sizes = {name: split["samples"] for name, split in self.record["splits"].items()}
        return (
            f"{self.record['name']}: {learned(self.record)}, {sizes['train']:,} samples to train on, "
            f"{sizes['test']:,} to test on"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in facts(self.record)
        )
        return f"<table>{rows}</table>"


def data(
    data: str,
    *,
    recipe: str | None = None,
    steps: int | None = None,
    classes: int | None = None,
    subset_seed: int = 0,
    seed: int = 0,
) -> DataReport:
    """Say what a data set is: shapes, classes and how often each is, values; and show samples.

    Args:
        data: the data set, as in ``"digits"`` or ``"my_data.npz"``.
        recipe: a spec file or the name of a shipped spec, whose recipe's first phase augments the
            samples; ``"FILE:NAME"`` chooses one of several. Without it samples are as they are.
        steps: T for recordings of events that are still to be cut into frames; by default the
            network's in ``recipe``.
        classes: how many classes to draw at random; by default all.
        subset_seed: by which these classes are drawn.
        seed: of the augmentation that is shown.

    Raises UserError where there are no such data, SpecError for what is wrong in the spec.
    """
    check_whole("steps", steps, 1, MOST_STEPS)
    check_whole("classes", classes, 2)
    check_whole("subset_seed", subset_seed, 0)
    check_whole("seed", seed, 0, 2**63 - 1)
    compiled, phase = (None, None) if recipe is None else _recipe(recipe, data)
    if steps is None and compiled is not None and phase is not None:
        steps = phase.steps or compiled.graph.steps
    try:
        found = open_data(data, classes=classes, subset_seed=subset_seed, frames=steps)
        return _report(found, compiled, phase, seed)
    except DataError as error:
        raise UserError(str(error)) from error


def _recipe(text: str, data: str) -> tuple[CompiledNetwork, Phase]:
    """The network of a spec, and the first phase of its recipe."""
    spec, mark, name = text.rpartition(":")
    if not mark or not name.isidentifier():
        spec, name = text, ""
    compiled = compile_spec(spec)
    recipe = find_recipe(compiled.checked.module, name or None, data, {})
    return compiled, recipe.phases[0]


def _report(
    data: DataSet, compiled: CompiledNetwork | None, phase: Phase | None, seed: int
) -> DataReport:
    augment = phase.augment if phase is not None else ()
    way = image_transform(augment, events=data.events)
    looks = {"train": _look(data.train, data), "test": _look(data.test, data)}
    shown = tuple(_samples(data, way, phase, seed))
    values = torch.stack([each.image.flatten().double().aminmax()[0] for each in shown])
    highest = torch.stack([each.image.flatten().double().aminmax()[1] for each in shown])
    record: dict[str, Any] = {
        **data.describe(),
        "target": data.target,
        "splits": {name: look.record for name, look in looks.items()},
        "labels": list(_labels(data, looks)),
        "notices": list(data.notices),
        "augment": write_setting("augment", augment) if phase is not None else None,
        "seen": {
            "shape": list(shown[0].image.shape),
            "smallest": float(values.min()),
            "largest": float(highest.max()),
        },
        "network": None if compiled is None else compiled.graph.name,
        "misfit": None if compiled is None or phase is None else _misfit(data, compiled, phase),
    }
    return DataReport(record, shown)


def _misfit(data: DataSet, compiled: CompiledNetwork, phase: Phase) -> str | None:
    """Why a network cannot learn the data, where it cannot."""
    signature = emit_model(compiled.graph, 0, "eager").signature
    try:
        check_fit(
            data,
            signature,
            augment=image_transform(phase.augment, events=data.events),
            evaluate=image_transform(phase.evaluate, events=data.events),
            output=Objective(phase.loss, signature, target=data.target).shape,
            steps=phase.steps,
        )
    except (DataError, TrainingError) as error:
        return str(error)
    return None


# -- what is in a split ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Look:
    """What a split holds, and how often each class is, or what the numbers are."""

    record: dict[str, Any]
    labels: Tensor


def _look(source: Source, data: DataSet) -> _Look:
    shapes: dict[tuple[int, ...], int] = {}
    low, high, total, squares, count, zeros = float("inf"), float("-inf"), 0.0, 0.0, 0, 0
    pixels = torch.zeros(data.classes, dtype=torch.int64)
    unreadable = 0
    dtype = ""
    looked = evenly(len(source), LOOKED)
    for index in looked:
        try:
            sample, label = _read(source, index)
        except UnreadableError:
            unreadable += 1
            continue
        values = sample.double()
        shapes[tuple(sample.shape)] = shapes.get(tuple(sample.shape), 0) + 1
        dtype = str(sample.dtype).removeprefix("torch.")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        total, squares = total + float(values.sum()), squares + float(values.square().sum())
        zeros, count = zeros + int((sample == 0).sum()), count + sample.numel()
        if isinstance(label, Tensor) and data.target == "pixels":
            pixels += label[label != IGNORED].bincount(minlength=data.classes)[: data.classes]
    if not count:
        raise DataError(f"none of the samples of {data.name} that were looked at can be read")
    mean = total / count
    record = {
        "samples": len(source),
        "looked_at": len(looked),
        "unreadable": unreadable,
        "shapes": [{"shape": list(shape), "samples": n} for shape, n in sorted(shapes.items())],
        "dtype": dtype,
        "smallest": low,
        "largest": high,
        "mean": mean,
        "deviation": max(0.0, squares / count - mean**2) ** 0.5,
        "share_of_zeros": zeros / count,
    }
    labels = pixels
    if data.target == "classes":
        labels = source.labels.bincount(minlength=data.classes)
    elif data.target == "numbers":
        labels = source.labels
    return _Look(record, labels)


def _read(source: Source, index: int) -> tuple[Tensor, int | Tensor]:
    with drawn_anew() as seed:
        seed(0, 0, source.number(index))
        return source[index]


def _labels(data: DataSet, looks: Mapping[str, _Look]) -> Iterator[dict[str, Any]]:
    """A row for each class with how often it is, or for each number with its range."""
    for number, name in enumerate(data.class_names):
        row: dict[str, Any] = {"number": number, "name": name}
        for split, look in looks.items():
            if data.target == "numbers":
                values = look.labels[:, number].double()
                row[split] = {
                    "smallest": float(values.min()),
                    "mean": float(values.mean()),
                    "largest": float(values.max()),
                }
            else:
                row[split] = int(look.labels[number])
        yield row


# -- what is shown ---------------------------------------------------------------------------------


def _samples(
    data: DataSet, way: ImageTransform, phase: Phase | None, seed: int
) -> Iterator[ShownSample]:
    """Training samples after augmentation, of each of the first classes some."""
    chosen = _chosen(data)
    source = data.train
    found: list[tuple[Tensor, Tensor]] = []
    for index in chosen:
        with drawn_anew() as draw:
            draw(seed, 0, source.number(index))
            try:
                sample, label = source[index]
            except UnreadableError:
                continue
            draw(seed, 0, index)
            image, target = way.change(sample, torch.as_tensor(label))
        found.append((way.finish(image), target))
    if not found:
        raise DataError(f"none of the first samples of {data.name} can be read")
    mix = None if phase is None else batch_transform(phase.augment, data.classes)
    if mix is not None and data.target == "classes" and len({x.shape for x, _ in found}) == 1:
        labels = torch.stack([label for _, label in found])
        images, shares = mix(
            torch.stack([x for x, _ in found]), labels, seed=mix_seed(seed, 0, 0, 0)
        )
        for image, share in zip(images, shares, strict=True):
            yield ShownSample(image, _mixed(share, data.class_names))
        return
    for image, label in found:
        yield ShownSample(image, _called(label, data), label if data.target == "pixels" else None)


def _chosen(data: DataSet) -> list[int]:
    if data.target != "classes":
        return list(range(min(len(data.train), 3 * SHOWN)))
    labels = data.train.labels
    return [
        index
        for number in labels.unique()[:CLASSES]
        for index in (labels == number).nonzero().flatten()[:SHOWN].tolist()
    ]


def _called(label: Tensor, data: DataSet) -> str:
    if data.target == "classes":
        return data.class_names[int(label)]
    if data.target == "numbers":
        return ", ".join(f"{value:.3g}" for value in label.tolist()[:4])
    return ""


def _mixed(share: Tensor, names: tuple[str, ...]) -> str:
    """The classes of a mixed image, with their shares."""
    some = share.nonzero().flatten().tolist()
    return ", ".join(f"{names[each]} {share[each]:.0%}" for each in some)


def learned(record: Mapping[str, Any]) -> str:
    """What is learned: ``10 classes``."""
    kind = {"classes": "classes", "pixels": "classes of pixels", "numbers": "numbers"}
    return f"{record['classes']} {kind[record['target']]}"


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts of a data set in words, each with its name."""
    yield "data", f"{record['text']}"
    yield "learns", learned(record)
    for name, split in record["splits"].items():
        shapes = [" x ".join(map(str, each["shape"])) for each in split["shapes"]]
        several = f"{shapes[0]} to {shapes[-1]}" if len(shapes) > 1 else shapes[0]
        what = "T x C x H x W" if record["events"] else "C x H x W"
        yield name, f"{split['samples']:,} samples, {what} = {several}, {split['dtype']}"
        looked = (
            "" if split["looked_at"] == split["samples"] else f", of {split['looked_at']} samples"
        )
        zeros = f", {split['share_of_zeros']:.1%} are 0" if record["events"] else ""
        yield (
            "",
            (
                f"values from {split['smallest']:.4g} to {split['largest']:.4g}, mean {split['mean']:.4g}, "
                f"standard deviation {split['deviation']:.4g}{zeros}{looked}"
            ),
        )
        if split["unreadable"]:
            yield "", f"{split['unreadable']} samples cannot be read"
    seen = record["seen"]
    shape = " x ".join(map(str, seen["shape"]))
    way = record["augment"]
    yield (
        "seen as",
        f"{shape}, values from {seen['smallest']:.4g} to {seen['largest']:.4g}, after "
        f"{'no recipe' if way is None else way}",
    )
    yield "fingerprint", record["fingerprint"]
    for notice in record["notices"]:
        yield "note", notice
    if record["network"] is not None:
        yield (
            "network",
            (
                f"{record['network']} can learn them"
                if record["misfit"] is None
                else f"{record['network']} cannot learn them: {record['misfit']}"
            ),
        )
