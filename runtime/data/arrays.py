"""Arrays as images or frames of events, and as labels: classes, maps of classes, or numbers; files of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from danetc.dsl.reading import open_regular
from danetc.runtime.data.request import IGNORED, MOST_CLASSES, Target, TokenInput, reported
from danetc.runtime.system.errors import DataError, UnreadableError

CHANNELS = (1, 2, 3)
"""Numbers of channels by which the layout of an array is guessed."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of N samples, as in ``Source.labels``, the number of classes or of regression targets, and the
    names of the classes if the labels were names."""

    target: Target
    values: Tensor
    count: int
    names: tuple[str, ...] = ()


def images_of(x: np.ndarray, where: str, last: bool | None = None) -> Tensor:
    """Return images [N, C, H, W], or frames of events [N, T, C, H, W].

    ``x`` is [N, F] (features, F x 1 x 1), [N, H, W] (grey), or has four (images) or five (events) dimensions,
    channels first or ``last`` (None: it is guessed). Integers become bytes in images, floats in frames.
    """
    if not 2 <= x.ndim <= 5 or 0 in x.shape:
        raise DataError(
            f"{where} has the shape {list(x.shape)}; give images [N, C, H, W] or [N, H, W, C], grey "
            "ones [N, H, W], features [N, F], or frames of events [N, T, C, H, W]"
        )
    if x.dtype.kind not in "buif":
        raise DataError(f"{where} has values of type {x.dtype}, which are not numbers")
    if x.ndim == 2:
        x = x[:, :, None, None]
    elif x.ndim == 3:
        x = x[:, None]
    elif last or (last is None and x.shape[-1] in CHANNELS and x.shape[-3] not in CHANNELS):
        x = np.moveaxis(x, -1, -3)
    if x.dtype.kind in "ui" and x.dtype != np.uint8 and x.ndim == 4:
        low, high = int(x.min()), int(x.max())
        if low < 0 or high > 255:
            raise DataError(
                f"{where} holds whole numbers from {low} to {high}, and images are bytes from 0 to "
                "255, or floats; divide them by their largest value before you save them"
            )
        x = x.astype(np.uint8)
    return finite(x, where)


def tokens_of(x: np.ndarray, where: str, takes: TokenInput) -> Tensor:
    """Return tokens [N, L], or [N, T, 1] for a network that takes one at each step, as int64.

    ``x`` is [N, L]. Raises DataError for a token that is not in the vocabulary of the network.
    """
    x = x[..., 0] if x.ndim == 3 and x.shape[2] == 1 else x
    if x.ndim != 2 or x.dtype.kind not in "ui" or not x.size:
        raise DataError(
            f"{where} has the shape {list(x.shape)} and the type {x.dtype}, but the network takes "
            "tokens: whole numbers [N, L]"
        )
    wrong = np.argwhere((x < 0) | (x >= takes.vocabulary))
    if len(wrong):
        sample, place = wrong[0]
        raise DataError(
            f"{where} has the token {x[sample, place]} at place {place} of sample {sample}, but the "
            f"network's vocabulary has {takes.vocabulary} tokens, 0 to {takes.vocabulary - 1}"
        )
    tokens = torch.from_numpy(x.astype(np.int64))
    return tokens.unsqueeze(2) if takes.length == 1 else tokens


def finite(x: np.ndarray, where: str) -> Tensor:
    """Return bytes as they are, other numbers as float32, in the memory of ``x`` if that is possible and can be
    written. Raises UnreadableError for infinite numbers."""
    with np.errstate(over="ignore"):
        x = x if x.dtype == np.uint8 else x.astype(np.float32, copy=False)
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise UnreadableError(f"{where} has values that are not finite, or too large for float32")
    return torch.from_numpy(np.require(x, requirements=("C", "W")))


def labels_of(
    y: np.ndarray, where: str, classes: tuple[str, ...] = (), tokens: TokenInput | None = None
) -> Labels:
    """Return the labels in an array; ``classes`` are the names that the user lists.

    Names or whole numbers [N] or [N, 1] are classes, whole numbers [N, H, W] those of pixels (255: none) and
    [N, L] those of ``tokens`` (-100: none); floats [N] or [N, D] are numbers.
    """
    shape, kind = list(y.shape), y.dtype.kind
    if tokens is not None and y.ndim == 2 and kind in "ui" and shape[1] > 1:
        values = torch.from_numpy(y.astype(np.int64))
        _refuse_negative(values, where, "-100 marks tokens without one")
        if tokens.length == 1:
            return Labels("steps", values, 1 + int(values.max()))
        return Labels("pixels", values.unsqueeze(1), 1 + int(values.max()))
    if y.ndim >= 2 and shape[1] == 1:
        y = y[:, 0]
    dimensions = {"U": (1,), "S": (1,), "f": (1, 2)}.get(kind, (1, 3))
    if kind not in "USbuif" or y.ndim not in dimensions or not y.size:
        raise DataError(
            f"{where} has the shape {shape} and the type {y.dtype}; labels are [N] names or whole numbers "
            "(classes), whole numbers [N, H, W] (classes of pixels), or floats [N] or [N, D], and N is "
            "at least 1"
        )
    if kind in "US":
        texts = texts_of(y, where)
        names = classes or tuple(sorted(set(texts)))
        table = {name: number for number, name in enumerate(names)}
        if strange := [text for text in texts if text not in table]:
            raise DataError(
                f"{where} has the class `{strange[0]}`, which is not one of {', '.join(names)}"
            )
        return Labels("classes", torch.tensor([table[text] for text in texts]), len(names), names)
    if kind == "f":
        rows = finite(y, where).reshape(len(y), -1)
        return Labels("numbers", rows, rows.shape[1])
    labels = torch.from_numpy(np.ascontiguousarray(y.astype(np.int64)))
    if y.ndim == 3:
        labels = classes_of_pixels(labels, where)
        return Labels("pixels", labels, 1 + int(labels.max()))
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_CLASSES:
        raise DataError(
            f"{where} has labels from {low} to {high}; classes count from 0 (floats are for a "
            "regression)"
        )
    return Labels("classes", labels, 1 + high)


def _refuse_negative(classes: Tensor, where: str, mark: str) -> None:
    if ((classes < 0) & (classes != IGNORED)).any():
        raise DataError(f"{where} has negative classes; classes count from 0, and {mark}")


def classes_of_pixels(mask: Tensor, where: str) -> Tensor:
    """Replace 255 by the class that losses ignore. Raises DataError for classes below 0."""
    mask = mask.masked_fill(mask == 255, IGNORED)
    _refuse_negative(mask, where, "255 marks pixels without a class")
    return mask


def texts_of(y: np.ndarray, where: str) -> list[str]:
    """Return the texts of an array of bytes or characters."""
    try:
        return [str(each) for each in (y.astype(str) if y.dtype.kind == "S" else y)]
    except (ValueError, SystemError) as error:  # SystemError: a character that is not in Unicode
        raise DataError(f"{where} holds names that are not text (ASCII or Unicode)") from error


def _damage(error: Exception) -> str:
    """Return why numpy does not read a file. It evaluates the header, so any exception can be raised."""
    reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
    if "pickled" in reason or "allow_pickle" in reason:
        return "it holds Python objects, not numbers (pickles are not read)"
    return reason or "it is damaged"


def read_numpy(
    path: str, wanted: Callable[[Sequence[str]], Iterable[str]] = lambda names: ()
) -> np.ndarray | dict[str, np.ndarray]:
    """Return the array of an npy file, or those of an npz file that ``wanted`` selects from their names. Raises
    UnreadableError, which names the file and, in an npz file, the array; pickles are refused."""
    with reported(f"{path} cannot be read", _damage, UnreadableError), open_regular(path) as stream:
        loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        found: dict[str, np.ndarray] = {}
        for name in wanted(loaded.files):
            with reported(f"`{name}` of {path} cannot be read", _damage, UnreadableError):
                found[name] = loaded[name]
                if not isinstance(found[name], np.ndarray):
                    raise TypeError("it is not an array of numpy")
        return found
