"""Results of a user's code: Datasets or pairs of arrays for each split, in a tuple or by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import TensorDataset

from danetc.runtime.data.own import Arrays
from danetc.runtime.data.request import TEST_NAMES, TRAIN_NAMES, DataRequest
from danetc.runtime.data.sources.npz import roles
from danetc.runtime.system.errors import DataError

GIVES = "return (train, test), two Datasets or two pairs of arrays (images, labels)"


def returned_by(code: Any, request: DataRequest) -> Any:
    """Return what the code gives: the result of a function or class, or the object itself.

    A function with a parameter ``train`` or ``split`` is called for each split.
    """
    if not callable(code) or (hasattr(code, "__getitem__") and not isinstance(code, type)):
        return code
    parameters: Mapping[str, inspect.Parameter] = {}
    with suppress(ValueError):  # a function without a signature
        parameters = inspect.signature(code).parameters
    calls: list[dict[str, Any]] = [{}]
    if "train" in parameters:
        calls = [{"train": True}, {"train": False}]
    elif "split" in parameters:
        calls = [{"split": request.get(each) or each} for each in ("train", "test")]
    plain = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    needed = [
        name
        for name, each in parameters.items()
        if each.default is each.empty and each.kind not in plain and name not in calls[0]
    ]
    if needed:
        raise DataError(
            f"`{request.place}` needs {', '.join(needed)}, and is called without arguments (or with "
            "`train` or `split`); give it defaults, or write a function around it"
        )
    if request.share is not None:
        calls = calls[:1]
    results = [code(**each) for each in calls]
    return results[0] if len(results) == 1 else tuple(results)


def splits_of(given: Any, request: DataRequest) -> tuple[Any, Any | None]:
    """Return the data to train and to test on, each ``Arrays`` or a Dataset; None in place of the
    latter if a share is held out. Raises DataError for anything else.
    """
    place = request.place
    train, test = _pair(given, request)
    sides: list[Any] = []
    for split, side in (("train", train), ("test", test)):
        if isinstance(side, TensorDataset) and len(side.tensors) == 2:
            side = side.tensors
        if side is not None and _is_pair_of_arrays(side):
            x, y = map(_as_array, side)
            of = f"`{place}` ({split})"
            side = Arrays(x, y, f"the images of {of}", f"the labels of {of}")
        elif side is not None and not hasattr(side, "__getitem__"):
            raise DataError(
                f"`{place}` gives a {type(side).__name__} for {split}, which cannot be read in random "
                f"order; it must {GIVES}"
            )
        sides.append(side)
    return sides[0], sides[1]


def _pair(given: Any, request: DataRequest) -> tuple[Any, Any | None]:
    place = request.place
    match given:
        case Mapping():
            return _named(given, request)
        case _ if request.share is not None:
            return given, None
        case (first, second) if not _is_pair_of_arrays(given):
            return first, second
        case (x, y, other_x, other_y):
            return (x, y), (other_x, other_y)
        case _ if _is_pair_of_arrays(given) or (
            hasattr(given, "__getitem__") and not isinstance(given, tuple)
        ):
            raise DataError(
                f"`{place}` gives data to train on and none to test on; {GIVES}, or hold out a "
                "share: ,test=0.2"
            )
    several = isinstance(given, tuple | list)
    what = f"{len(given)} values" if several else f"a {type(given).__name__}"
    raise DataError(f"`{place}` gives {what}; it must {GIVES}")


def _named(given: Mapping[Any, Any], request: DataRequest) -> tuple[Any, Any | None]:
    """Return the splits in a mapping of splits, or of arrays as in an npz file."""
    names = [str(name) for name in given]
    train = request.get("train") or next((name for name in TRAIN_NAMES if name in given), None)
    if train is None or train not in given:
        found = roles(names, request, f"what `{request.place}` gives")
        test_pair = found.test and [_as_array(given[name]) for name in found.test]
        return [_as_array(given[name]) for name in found.train], test_pair
    if request.share is not None:
        return given[train], None
    test = request.chosen("test", TEST_NAMES, names, "split", f"what `{request.place}` gives")
    return given[train], given[test]


def _as_array(value: Any) -> Any:
    """Return tensors and lists as arrays."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _is_pair_of_arrays(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(each, Tensor | np.ndarray) for each in value)
    )


def class_names(side: Any) -> tuple[str, ...]:
    """Return the ``classes`` of a Dataset like those of torchvision, () for any other."""
    found = getattr(side, "classes", None)
    if isinstance(found, list | tuple) and found and all(isinstance(each, str) for each in found):
        return tuple(found)
    return ()
