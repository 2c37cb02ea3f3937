"""Results of a user's code, or of a class of tonic: Datasets or pairs of arrays for each split."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from danetc.runtime.data.own import are_arrays
from danetc.runtime.data.request import DataRequest
from danetc.runtime.system.errors import DataError

GIVES = "return (train, test), two Datasets or two pairs of arrays (images, labels)"


def called(code: Callable[..., Any], request: DataRequest) -> Any:
    """Return what a function or class returns, for each split if it has a parameter ``train`` or
    ``split``.
    """
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(code).parameters
    except ValueError:  # a function without a signature
        parameters = {}
    calls: list[dict[str, Any]] = [{}]
    if "train" in parameters:
        calls = [{"train": True}, {"train": False}]
    elif "split" in parameters:
        calls = [{"split": request.options.get(each) or each} for each in ("train", "test")]
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
    if request.share is not None or len(calls) == 1:
        return code(**calls[0])
    return tuple(code(**each) for each in calls)


def splits_of(given: Any, request: DataRequest) -> tuple[Any, Any | None]:
    """Return the data to train and to test on; None in place of the latter if a share is held out."""
    where = f"`{request.place}`"
    if request.share is not None:
        return given, None
    if are_arrays(given) or (hasattr(given, "__getitem__") and not isinstance(given, tuple | list)):
        raise DataError(
            f"{where} gives data to train on and none to test on; {GIVES}, or hold out a share: "
            ",test=0.2"
        )
    several = isinstance(given, tuple | list)
    if not several or len(given) != 2:
        what = f"{len(given)} values" if several else f"a {type(given).__name__}"
        raise DataError(f"{where} gives {what}; it must {GIVES}")
    return given[0], given[1]


def class_names(side: Any) -> tuple[str, ...]:
    """Return the ``classes`` of a Dataset of torchvision or tonic (bytes in SHD), else ()."""
    found = getattr(side, "classes", None)
    if not isinstance(found, list | tuple | np.ndarray):
        return ()
    names = [each.decode() if isinstance(each, bytes) else each for each in found]
    return tuple(map(str, names)) if all(isinstance(each, str) for each in names) else ()
