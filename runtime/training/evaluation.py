"""Conditions of an evaluation: everything that decides its figures except the weights.

A training records them with the figures of its last evaluation, so that another evaluation of the
same weights can give the same figures. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.item import Item, Summand, plain
from danetc.dsl.recipe.text import read_setting, write_setting

DEFAULT_LOSS: tuple[Summand, ...] = read_setting("loss", "cross_entropy", "the default")
NUMBERS_LOSS: tuple[Summand, ...] = read_setting("loss", "mse", "the default")
"""Default loss of a network that learns numbers."""
_RECIPE = ("evaluate", "loss", "precision")
"""Settings of a recipe; a record has them as a recipe writes them."""
_RANGES = {
    "batch": (1, 1_000_000),
    "processes": (1, 100_000),
    "steps": (1, 10_000),
    "threads": (1, 100_000),
    "epoch": (0, 100_000),
    "phase_index": (0, 100_000),
    "seed": (0, 2**63 - 1),
}
"""Ranges of the integer fields, inclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Conditions of an evaluation.

    Each of ``processes`` takes its part of the images, ``batch`` at a time, transformed by
    ``evaluate`` (a recipe's setting; None if unknown). ``steps`` is T. ``ema`` is True if the
    weights are a moving average. ``seed``, ``phase_index`` and ``epoch`` (complete epochs of the
    phase) seed the random numbers of the network. ``data`` describes the data set
    (``DataSet.describe``).
    """

    phase: str = ""
    phase_index: int = 0
    epoch: int = 0
    seed: int = 0
    steps: int
    evaluate: tuple[Item, ...] | None = None
    loss: tuple[Summand, ...] = DEFAULT_LOSS
    output: str | None = None
    precision: str = "float32"
    ema: bool = False
    batch: int = 64
    processes: int = 1
    backend: str = "eager"
    channels_last: bool = False
    deterministic: bool = True
    device: str = "cpu"
    threads: int | None = None
    data: Mapping[str, Any] | None = None

    def seeds(self, rank: int) -> tuple[int, int, int, int]:
        """Return the seeds of process ``rank``."""
        return self.seed, self.phase_index, rank, max(0, self.epoch - 1)

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        record = {each.name: plain(getattr(self, each.name)) for each in fields(self)}
        for key in _RECIPE:
            if record[key] is not None:
                record[key] = write_setting(key, record[key])
        return record


def read_evaluation(record: object) -> Evaluation:
    """Read the result of ``as_dict``. Raises ValueError with the reason."""
    if not isinstance(record, dict):
        raise ValueError("it does not say how the network was tested")
    names = [each.name for each in fields(Evaluation)]
    missing = [name for name in names if name not in record]
    if missing:
        raise ValueError(f"it does not say `{missing[0]}` of how the network was tested")
    values = {name: _read(name, record[name]) for name in names}
    return Evaluation(**values)


def _read(name: str, value: object) -> Any:
    if name in _RECIPE:
        if value is None and name == "evaluate":
            return None
        if not isinstance(value, str):
            raise ValueError(f"`{name}` is {value!r}")
        try:
            return read_setting(name, value, "the record")
        except SpecError as error:
            raise ValueError(f"`{name}` is wrong: {error.diagnostics[0].message}") from error
    match name:
        case "phase" | "backend" | "device":
            fits = isinstance(value, str)
        case "output":
            fits = value is None or isinstance(value, str)
        case "ema" | "channels_last" | "deterministic":
            fits = isinstance(value, bool)
        case "data":
            fits = value is None or isinstance(value, dict)
        case _:
            low, high = _RANGES[name]
            fits = type(value) is int and low <= value <= high
            fits = fits or (name == "threads" and value is None)
    if not fits:
        raise ValueError(f"`{name}` is {value!r}")
    return value


# -- printing --------------------------------------------------------------------------------------


_SHOWN: Mapping[str, Callable[[Any], str]] = {
    "backend": "backend {}".format,
    "precision": str,
    "batch": lambda value: f"{value} image{'s' * (value != 1)} at once",
    "processes": lambda value: f"{value} process{'es' * (value != 1)}",
    "evaluate": lambda value: (
        f"images through {write_setting('evaluate', value)}" if value else "images as they are"
    ),
    "loss": lambda value: f"loss {write_setting('loss', value)}",
    "output": lambda value: "the first output" if value is None else f"output {value}",
    "channels_last": lambda value: "channels last" if value else "channels first",
    "deterministic": lambda value: "deterministic kernels" if value else "fastest kernels",
    "seed": "seed {}".format,
    "threads": lambda value: f"{value} thread{'s' * (value != 1)}",
    "device": "on {}".format,
}
"""Fields that may change figures, and how each is printed."""


def in_words(evaluation: Evaluation) -> str:
    """Return the main conditions as one line."""
    parts = [_SHOWN[key](getattr(evaluation, key)) for key in ("backend", "precision", "batch")]
    if evaluation.processes > 1:
        parts[-1] += f" in each of {evaluation.processes} processes"
    if evaluation.channels_last:
        parts.append("channels last")
    if evaluation.ema:
        parts.append("running mean of the weights")
    return ", ".join([*parts, _SHOWN["evaluate"](evaluation.evaluate)])


def unlike(now: Evaluation, before: Evaluation) -> Iterator[str]:
    """Yield each difference, as ``backend fused (was: backend eager)``."""
    for key, show in _SHOWN.items():
        new, old = show(getattr(now, key)), show(getattr(before, key))
        if new != old:
            yield f"{new} (was: {old})"
    new_data, old_data = now.data or {}, before.data or {}
    if new_data.get("fingerprint") != old_data.get("fingerprint"):
        if new_data.get("text") == old_data.get("text"):
            yield "the data have changed since (another fingerprint)"
        else:
            yield f"data {new_data.get('text')} (was: {old_data.get('text')})"
