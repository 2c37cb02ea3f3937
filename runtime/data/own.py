"""Arrays and map-style Datasets: those of torch, tonic and Hugging Face, and those that a user's code returns."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from numbers import Real
from operator import index
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.arrays import Labels, classes_of_pixels, images_of, labels_of, tokens_of
from danetc.runtime.data.dataset import (
    DataSet,
    Memory,
    Samples,
    evenly,
    facts_fingerprint,
    held_out,
)
from danetc.runtime.data.recordings import Cutting, cutting, is_recording
from danetc.runtime.data.request import DataRequest, TokenInput, reported
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import drawn_anew
from danetc.runtime.system.user_code import UserCodeError, failure_of_user, where_it_failed


@dataclass(frozen=True, eq=False)
class Own:
    """Reads the samples of a user's ``dataset``. With ``pixels``, the labels are maps of classes."""

    dataset: Any
    name: str
    cutting: Cutting
    pixels: bool = False
    tokens: TokenInput | None = None

    def read(self, number: int) -> tuple[Tensor, Tensor | None]:
        sample, label = self.pair(number)
        where = self.where(number)
        return self.image(sample, where), _map_of(label, where) if self.pixels else None

    def where(self, number: int) -> str:
        return f"sample {number} of {self.name}"

    def pair(self, number: int) -> tuple[Any, Any]:
        """Return an image and a label as the Dataset gives them. Errors name the line of its code."""
        where = self.where(number)
        with reported(f"{where} cannot be read", where_it_failed):
            sample = self.dataset[number]
        several = isinstance(sample, tuple | list)
        if not several or len(sample) != 2:
            what = f"{len(sample)} values" if several else type(sample).__name__
            raise DataError(f"{where} is {what}, not a pair of an image and its label")
        return sample[0], sample[1]

    def image(self, sample: Any, where: str) -> Tensor:
        """Return an image [C, H, W], or frames of events [T, C, H, W]."""
        if is_recording(sample):
            return self.cutting.cut(sample, where)
        array = _array(sample)
        if array is None:
            raise DataError(
                f"{where} is an object of type {type(sample).__name__}; a sample is a pair of an "
                "image (a tensor, an array or one of PIL) and its label"
            )
        if self.tokens is not None:
            return tokens_of(array[None], where, self.tokens)[0]
        if array.ndim == 1:
            array = array[:, None, None]
        return images_of(array[None], where, isinstance(sample, Image.Image) or None)[0]


def _array(value: Any) -> np.ndarray | None:
    """Return numbers or text as an array, or None for any other value."""
    if isinstance(value, Tensor):
        value = (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu()
    elif isinstance(value, Image.Image):
        plain = value.mode in ("L", "RGB", "1", "I", "F")
        return np.asarray(value if plain else value.convert("RGB"))
    elif isinstance(value, list | tuple):
        with suppress(ValueError):  # rows of several lengths
            found = np.asarray(value)
            return found if found.dtype.kind in "buifU" else None
        return None
    plain = hasattr(value, "__array__") or isinstance(value, int | float | str)
    return np.asarray(value) if plain else None


def _map_of(label: Any, where: str) -> Tensor:
    """Return the classes of an image's pixels [H, W]."""
    indices = isinstance(label, Image.Image) and label.mode == "P"
    array = np.asarray(label) if indices else _array(label)
    if array is not None and array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array is None or array.ndim != 2 or array.dtype.kind not in "bui":
        raise DataError(f"the label of {where} is not a map [H, W] of the classes of its pixels")
    return classes_of_pixels(torch.from_numpy(np.ascontiguousarray(array.astype(np.int64))), where)


@dataclass(frozen=True, eq=False)
class _Side:
    """A split, with the common shape of its samples, if there is one."""

    source: Memory | Samples
    labels: Labels
    shape: tuple[int, ...] | None
    events: bool

    def __str__(self) -> str:
        shape = "of several sizes" if self.shape is None else [*self.shape]
        return f"{shape} with {self.labels.target}"


def own_set(
    request: DataRequest,
    splits: Mapping[str, Any],
    name: str,
    last: bool | None = None,
    **facts: Any,
) -> DataSet:
    """Return a data set of ``splits``, pairs of arrays (images, labels) or Datasets.

    To test on is the share of ``train`` that ``request`` names, else ``test``, else all of ``train``. Names of
    classes are those that the user lists, else ``class_names`` of ``splits``, else those of the Dataset.
    ``last`` says whether channels come last (None: it is guessed). Raises DataError if splits do not fit.
    """
    train, share = splits["train"], request.share
    named = map(str, splits.get("class_names", ()))
    request = replace(request, classes=request.classes or tuple(named) or class_names_of(train))
    used = ("test", "val") if share is None else ("val",)
    rest = {k: splits[k] for k in used if k in splits and splits[k] is not train}
    sides = {"train": _side(train, request, f"{name} (train)" if rest else name, last)}
    sides |= {k: _side(each, request, f"{name} ({k})", last) for k, each in rest.items()}
    first, opened = sides["train"], sides.values()
    target, in_memory = first.labels.target, all(isinstance(x.source, Memory) for x in opened)
    for split, side in sides.items():
        alike = (target, first.events) == (side.labels.target, side.events)
        if not alike or (in_memory and first.shape != side.shape):
            raise DataError(
                f"{name}: samples to train on are {first} and those to {split.replace('val', 'validate')} on "
                f"{side}; both must be alike"
            )
    found: dict[str, Any] = {split: side.source for split, side in sides.items()}
    if share is not None:
        found["train"], found["test"] = held_out(first.source, share, target, f"{name} (test)")
    if in_memory:
        digest = hashlib.blake2b(digest_size=16)  # of all images and labels
        for source in found.values():
            for tensor in (source.images, source.labels):
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().data)
        fingerprint = digest.hexdigest()
    else:
        fingerprint = facts_fingerprint((share, *map(_digest, opened)))
    shape = first.shape if len({side.shape for side in opened}) == 1 else None
    return DataSet(
        name=name,
        text=request.text,
        class_names=class_names(request.classes, [side.labels for side in opened], name),
        **{"test": found["train"], **found},
        shape=shape,
        fingerprint=fingerprint,
        events=first.events,
        tokens=request.tokens is not None,
        target=target,
        details=facts,
    )


def are_arrays(value: Any) -> bool:
    """True for a pair of arrays, images and labels; the labels may be a list."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    arrays = pair and [hasattr(each, "__array__") for each in value]
    return arrays == [True, True] or (arrays == [True, False] and isinstance(value[1], list))


def _side(given: Any, request: DataRequest, name: str, last: bool | None) -> _Side:
    if isinstance(given, data.TensorDataset) and len(given.tensors) == 2:
        given = given.tensors
    if not are_arrays(given):
        return _dataset_side(given, request, name)
    x, y = map(_array, given)
    if x is None or y is None:
        raise DataError(f"the labels of {name} are not an array")
    if request.tokens is not None:
        images = tokens_of(x, f"the array of {name}", request.tokens)
    else:
        images = images_of(x, f"the image array of {name}", last)
    labels = labels_of(y, f"the label array of {name}", request.classes, request.tokens)
    if len(images) != len(labels.values):
        turned = x.ndim == 5 and x.shape[1] == len(labels.values)
        order = "frames of events are [N, T, C, H, W], so swap the first two dimensions"
        raise DataError(
            f"{name} has {len(images)} images and {len(labels.values)} labels; "
            + (order if turned else "each image has one")
        )
    source = Memory(images, labels.values, name)
    return _Side(source, labels, tuple(images.shape[1:]), images.dim() in (3, 5))


def _dataset_side(dataset: Any, request: DataRequest, name: str) -> _Side:
    try:
        count = len(dataset if hasattr(dataset, "__getitem__") else None)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(
            f"{name} is a {type(dataset).__name__} without `__len__` or `__getitem__`: samples are "
            "read in random order, which a stream does not allow; give a Dataset that has both"
        ) from error
    if not count:
        raise DataError(f"{name} has no samples")
    own = Own(dataset, name, cutting(request, dataset), tokens=request.tokens)
    shapes, seen = [], {}
    with drawn_anew() as seed:
        for number in evenly(count):
            seed(number)
            sample, seen[number] = own.pair(number)
            shapes.append(tuple(own.image(sample, own.where(number)).shape))
    labels = _labels(own, count, seen, request)
    own = replace(own, pixels=labels.target == "pixels" and own.tokens is None)
    source = Samples(own, labels.values, torch.arange(count), request.policy)
    shape = shapes[0] if len({*shapes}) == 1 else None
    return _Side(source, labels, shape, len(shapes[0]) in (2, 4))


def _known_labels(dataset: Any, count: int, seen: dict[int, Any]) -> list[Any] | None:
    """Return the classes in an attribute of the Dataset, if they agree with those that were seen."""
    inner, indices = dataset, range(count)
    if isinstance(dataset, data.Subset):
        inner, indices = dataset.dataset, dataset.indices  # type: ignore[assignment]
    for attribute in ("targets", "labels"):
        with suppress(AttributeError, IndexError, TypeError):  # the values are not integers
            values = list(getattr(inner, attribute))
            own = [values[number] for number in indices]
            agree = all(index(own[number]) == index(label) for number, label in seen.items())
            if agree and len(values) == len(inner):
                return [*map(_array, own)]
    return None


def _labels(own: Own, count: int, seen: dict[int, Any], request: DataRequest) -> Labels:
    """Return the labels of a Dataset, of which all samples are read unless an attribute has them."""
    values = _known_labels(own.dataset, count, seen)
    if values is None:
        values = []  # arrays, or the largest class of a map as a tensor
        with drawn_anew() as seed:
            for number in range(count):
                seed(number)
                label = own.pair(number)[1]
                array = _array(label)
                is_map = array is not None and array.ndim >= 2
                values.append(_map_of(label, own.where(number)).max() if is_map else array)
    kinds = {each.shape if isinstance(each, np.ndarray) else type(each) for each in values}
    if kinds == {Tensor}:
        return Labels("pixels", torch.zeros(count, dtype=torch.int64), 1 + int(max(values)))
    if len(kinds) > 1 or not isinstance(values[0], np.ndarray):
        raise DataError(
            f"the labels of {own.name} are of several shapes or types; give each sample one whole number, "
            "name or map of classes, or as many floats"
        )
    return labels_of(np.stack(values), f"the labels of {own.name}", request.classes, request.tokens)


def class_names(listed: tuple[str, ...], splits: Sequence[Labels], name: str) -> tuple[str, ...]:
    """Return the names of classes or numbers: those of the labels, those listed, or numbers."""
    train, numbers = splits[0], splits[0].target == "numbers"
    for each in splits:
        if each.names != train.names:
            raise DataError(
                f"{name} has the classes {', '.join(train.names) or 'without names'} to train on and "
                f"{', '.join(each.names) or 'without names'} to test on; name all of them in "
                "a file: ,classes=FILE"
            )
        if numbers and train.count != each.count:
            raise DataError(
                f"{name} has {train.count} numbers to train on and {each.count} to test on"
            )
    if train.names:
        return train.names
    count = max(each.count for each in splits)
    if count < 1:
        raise DataError(f"{name} has no pixel with a class")
    count = count if numbers else max(2, count)
    if listed and (len(listed) < count or (numbers and len(listed) > count)):
        raise DataError(f"{name} has labels up to {count - 1}, and `classes` names {len(listed)}")
    return listed or tuple(f"{'number ' * numbers}{number}" for number in range(count))


def _digest(side: _Side) -> str:
    """Return a checksum of the labels and the values of some samples."""
    source = side.source
    facts: list[object] = [len(source), side.labels.target, source.labels.numpy().tobytes()]
    with drawn_anew() as seed:
        for number in evenly(len(source)):
            seed(number)
            image, label = source[number]
            facts += [tuple(image.shape), image.numpy().tobytes()]
            facts.append(label.numpy().tobytes() if label.dim() else int(label))
    return facts_fingerprint(facts)


@contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turn errors of a user's code into DataErrors that name its line."""
    try:
        yield
    except UserCodeError as error:
        raise DataError(f"{what}: {error}") from error
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        where = failure_of_user(error)
        if where is None:
            raise
        raise DataError(f"{what} ends with an error: {where}") from error


_KEYS = ("train", "val", "test", "class_names")
FORMS = (
    "arrays (x, y), a Dataset, a DataLoader, a pair (train, test) of these, or a mapping such as "
    '{"train": (x, y), "test": (u, v)}'
)


def returned(code: Any, request: DataRequest) -> dict[str, Any]:
    """Return the data by split that a function or class returns, which is called for each split if it has a
    parameter ``train`` or ``split``, or those of an object that is not callable."""
    given = code
    if callable(code) and (isinstance(code, type) or not hasattr(code, "__getitem__")):
        calls: list[dict[str, Any]] = [{}]
        try:
            signature = inspect.signature(code)
            if "train" in signature.parameters:
                calls = [{"train": True}, {"train": False}]
            elif "split" in signature.parameters:
                calls = [{"split": request.options.get(each) or each} for each in ("train", "test")]
            signature.bind(**calls[0])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"`{request.place}` is called without arguments (or with `train` or `split`), but "
                f"{error}; give it defaults, or write a function around it"
            ) from error
        one = request.share is not None or len(calls) == 1
        given = code(**calls[0]) if one else tuple(code(**each) for each in calls)
    splits = splits_of(given, f"`{request.place}` must return")
    if "train" not in splits or (request.share is None and "test" not in splits):
        raise DataError(
            f"`{request.place}` gives no data to train or to test on; return (train, test), or hold out "
            "a share: ,test=0.2"
        )
    if "val" in splits:
        raise DataError(f"`{request.place}` gives `val`; hold out a share for validation: ,val=0.1")
    return splits


def splits_of(given: Any, takes: str) -> dict[str, Any]:
    """Return data in one of ``FORMS`` by their splits, which may be numbers, and any ``class_names``.
    Raises DataError, which begins with ``takes``, for anything else."""
    found = {"train": given}
    if isinstance(given, Mapping):
        found = dict(given)
    elif isinstance(given, tuple | list) and len(given) == 2 and not are_arrays(given):
        found = dict(zip(("train", "test"), given, strict=True))
    if unknown := [key for key in found if key not in _KEYS]:
        raise DataError(f"data have no split {unknown[0]!r}; {instead(str(unknown[0]), _KEYS)}")
    for key, each in found.items():
        if key == "class_names" or (key != "train" and isinstance(each, Real)):
            continue
        found[key] = each = _dataset(each)
        several = isinstance(each, tuple | list) and not are_arrays(each)
        if several or not hasattr(each, "__getitem__") or isinstance(each, str | bytes | type):
            what = f"{len(each)} values" if several else type(each).__name__
            raise DataError(f"{takes} {FORMS}, not {what}")
    return found


def _dataset(given: Any) -> Any:
    """Return the Dataset of a DataLoader (DataError if it selects or changes samples), or else ``given``."""
    if not isinstance(given, data.DataLoader):
        return given
    plain = data.SequentialSampler, data.RandomSampler, data.DistributedSampler
    own = not isinstance(given.sampler, plain)
    own |= type(given.batch_sampler) not in (data.BatchSampler, type(None))
    own |= given.collate_fn not in (data.default_collate, data.default_convert)
    if isinstance(given.dataset, data.IterableDataset) or not own:
        return given.dataset
    raise DataError(
        "a DataLoader with its own sampler or collate_fn is given, which the batches of a recipe do not "
        "use; give a Dataset or a torch.utils.data.Subset"
    )


def class_names_of(side: Any) -> tuple[str, ...]:
    """Return the ``classes`` of a Dataset, or of that of a Subset: names, in tonic also bytes."""
    while isinstance(side, data.Subset):
        side = side.dataset
    found = getattr(side, "classes", None)
    if not isinstance(found, list | tuple | np.ndarray):
        return ()
    names = [each.decode() if isinstance(each, bytes) else each for each in found]
    return tuple(map(str, names)) if all(isinstance(each, str) for each in names) else ()
