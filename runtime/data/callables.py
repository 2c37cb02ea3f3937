"""``python:MODULE:CALLABLE``: Datasets or arrays that a user's own code gives."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.data.arrays import ArraySplit, Reading, array_set
from danetc.runtime.data.own import SampleForm, seeded
from danetc.runtime.data.own_sets import own_set
from danetc.runtime.data.recordings import cutting
from danetc.runtime.data.source import DataSet, facts_fingerprint
from danetc.runtime.sources.arrays import TRAINING, roles
from danetc.runtime.sources.callables import python_place
from danetc.runtime.sources.folders import TEST_NAMES
from danetc.runtime.sources.options import Placed, class_list
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.files import DamagedError, file_digest
from danetc.runtime.system.locks import in_turn
from danetc.runtime.system.user_code import UserCodeError, failure_of_user, file_of, found_at

GIVES = "return (train, test), two Datasets or two pairs of arrays (images, labels)"


def open_source(request: DataRequest) -> DataSet:
    """What a function gives when it is called: train and test, each a map-style Dataset or a pair of
    arrays; or arrays by name, as in a file of ``npz``. A function or class with a parameter ``train``
    or ``split`` is called for each. One Dataset alone needs a share to test on.

    Raises DataError; errors of the code itself are told with its place.
    """
    asked = python_place(request.argument)
    place = asked.place
    try:
        found = found_at(place)
    except UserCodeError as error:
        raise DataError(f"`{place}`: {error}") from error
    with (
        _told(place),
        in_turn(request.text),
    ):  # what the code writes, as a cache of tonic does, one writes first
        with seeded() as seed:
            seed(0)
            given = _given(found, place, asked)
        train, test = _sides(given, place, asked)
        reading = Reading(
            asked.get("layout"), asked.get("targets"),
            class_list(asked.get("classes")) or _names(train),
        )  # fmt: skip
        data = _of_sides(request, train, test, asked, reading, place)
    file = file_of(found)
    if file is None:
        return data
    try:
        code = file_digest(file)
    except DamagedError:
        return data
    return replace(
        data,
        details={**data.details, "code": f"{file.name} (SHA-256 {code})"},
        fingerprint=facts_fingerprint((data.fingerprint, code)),
    )


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Errors of the user's code, also of properties and lengths of what it gives, are DataErrors."""
    try:
        yield
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        where = failure_of_user(error)
        if where is None:
            raise
        raise DataError(f"`{place}` ends with an error: {where}") from error


def _given(found: Any, place: str, asked: Placed) -> Any:
    """What the code gives: of a function or class what it returns, of anything else itself."""
    if not callable(found) or (hasattr(found, "__getitem__") and not isinstance(found, type)):
        return found
    parameters: Mapping[str, inspect.Parameter] = {}
    with suppress(ValueError):  # a function without a signature
        parameters = inspect.signature(found).parameters
    calls: list[dict[str, Any]] = [{}]
    if "train" in parameters:
        calls = [{"train": True}, {"train": False}]
    elif "split" in parameters:
        test = asked.get("test")
        other = "test" if test is None or asked.share is not None else test
        calls = [{"split": asked.get("train") or "train"}, {"split": other}]
    plain = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    needed = [
        name
        for name, each in parameters.items()
        if each.default is each.empty and each.kind not in plain and name not in calls[0]
    ]
    if needed:
        raise DataError(
            f"`{place}` needs {', '.join(needed)}, and is called without arguments (or with `train` or "
            "`split`); give it defaults, or write a function around it"
        )
    if asked.share is not None:
        calls = calls[:1]
    results = [found(**each) for each in calls]
    return results[0] if len(results) == 1 else tuple(results)


def _sides(given: Any, place: str, asked: Placed) -> tuple[Any, Any | None]:
    """What is to train and to test on; None where a share of the first is held out."""
    match given:
        case Mapping():
            return _of_mapping(given, place, asked)
        case _ if asked.share is not None:
            return given, None
        case (first, second) if not (_is_array(first) and _is_array(second)):
            return first, second
        case (x, y, other_x, other_y):
            return (x, y), (other_x, other_y)
        case _ if _is_data(given):
            raise DataError(
                f"`{place}` gives data to train on and none to test on; {GIVES}, or hold out a "
                "share: ,test=0.2"
            )
    what = (
        f"{len(given)} values" if isinstance(given, tuple | list) else f"a {type(given).__name__}"
    )
    raise DataError(f"`{place}` gives {what}; it must {GIVES}")


def _of_mapping(given: Mapping[Any, Any], place: str, asked: Placed) -> tuple[Any, Any | None]:
    """Splits by their names, or arrays by theirs."""
    names = [str(name) for name in given]
    train = asked.get("train") or next((name for name in TRAINING if name in given), None)
    if train is None or train not in given:
        found = roles(names, asked, f"what `{place}` gives")
        pairs = [
            None if each is None else tuple(_as_array(given[name]) for name in each)
            for each in (found.train, found.test)
        ]
        return pairs[0], pairs[1]
    if asked.share is not None:
        return given[train], None
    test = asked.get("test") or next((name for name in TEST_NAMES if name in given), None)
    if test is None or test not in given:
        raise DataError(
            f"`{place}` gives {', '.join(names)}, and none of them to test on: say ,test=NAME, or "
            "hold out a share: ,test=0.2"
        )
    return given[train], given[test]


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _as_array(value: Any) -> Any:
    """A list of numbers or names as an array; anything else as it is."""
    return np.asarray(value) if isinstance(value, list) else value


def _is_data(value: Any) -> bool:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_array, value))
    return pair or (hasattr(value, "__getitem__") and not isinstance(value, tuple))


def _pair(side: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Images and labels where a side is arrays, or a TensorDataset of two."""
    if isinstance(side, torch.utils.data.TensorDataset) and len(side.tensors) == 2:
        side = side.tensors
    if isinstance(side, tuple | list) and len(side) == 2 and all(map(_is_array, side)):
        x, y = (each.detach().cpu().numpy() if isinstance(each, Tensor) else each for each in side)
        return x, y
    return None


def _names(side: Any) -> tuple[str, ...]:
    """Of the classes, where a Dataset has them as torchvision's have."""
    found = getattr(side, "classes", None)
    if isinstance(found, list | tuple) and found and all(isinstance(each, str) for each in found):
        return tuple(found)
    return ()


def _of_sides(
    request: DataRequest, train: Any, test: Any | None, asked: Placed, reading: Reading, place: str
) -> DataSet:
    pairs = [None if side is None else _pair(side) for side in (train, test)]
    if pairs[0] is not None and (test is None or pairs[1] is not None):
        parts = [
            ArraySplit(
                *pair, (f"the images of `{place}` ({split})", f"the labels of `{place}` ({split})")
            )
            for pair, split in zip(pairs, ("train", "test"), strict=True)
            if pair is not None
        ]
        share = asked.share
        return array_set(
            request, parts[0], share if share is not None else parts[1], reading, name=place
        )
    for side, split in ((train, "train"), (test, "test")):
        if side is not None and not hasattr(side, "__getitem__"):
            raise DataError(
                f"`{place}` gives a {type(side).__name__} for {split}, which cannot be read in random "
                f"order; it must {GIVES}"
            )
    form = SampleForm(asked.get("layout"), cutting(asked, request.frames, train))
    return own_set(request, train, test, asked.share, form, reading, place)
