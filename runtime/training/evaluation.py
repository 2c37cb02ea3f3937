"""Conditions of an evaluation, which together with the weights determine its figures.

A training records them with the figures of its last evaluation. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.item import Item, Summand, plain
from danetc.dsl.recipe.text import read_setting, write_setting

DEFAULT_LOSS: tuple[Summand, ...] = read_setting("loss", "cross_entropy", "the default")
NUMBERS_LOSS: tuple[Summand, ...] = read_setting("loss", "mse", "the default")
"""Default loss of a network that learns numbers."""
_RECIPE = ("evaluate", "loss", "precision")
"""Settings of a recipe; a record has them as a recipe writes them."""
_POSITIVE = {"batch", "processes", "steps", "threads"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Conditions of an evaluation.

    Each of ``processes`` takes its part of the images, ``batch`` at a time, transformed by
    ``evaluate`` (a recipe's setting; None if unknown). ``steps`` is T; ``ema``, whether weights are
    averages. ``seed``, ``phase_index`` and ``epoch`` (complete epochs of the phase) seed the random
    numbers of the network. ``data`` is what ``DataSet.describe`` returns.
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

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of the data; empty if they are not known."""
        return tuple(map(str, (self.data or {}).get("class_names", ())))

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        record = {each.name: plain(getattr(self, each.name)) for each in fields(self)}
        written = {
            key: write_setting(key, record[key]) for key in _RECIPE if record[key] is not None
        }
        return record | written


def read_evaluation(record: object) -> Evaluation:
    """Read the result of ``as_dict``. Raises ValueError with the reason."""
    if not isinstance(record, dict):
        raise ValueError("it does not say how the network was tested")
    values = dict(record)
    for key in (key for key in _RECIPE if values.get(key) is not None):
        try:
            values[key] = read_setting(key, str(values[key]), "the record")
        except SpecError as error:
            raise ValueError(f"`{key}` is wrong: {error.diagnostics[0].message}") from error
    for name, value in record.items():
        limit = 2**63 if name == "seed" else 1_000_000
        if isinstance(value, int) and not (name in _POSITIVE) <= value < limit:
            raise ValueError(f"`{name}` is {value!r}")
    return Evaluation(**check_record(Evaluation, values))


def check_record(kind: type, record: object) -> dict[str, Any]:
    """Return the fields of a dataclass that a JSON object has.

    Raises ValueError if one is missing or has a value of another type.
    """
    found = record if isinstance(record, dict) else {}
    hints = get_type_hints(kind)
    for name, hint in hints.items():
        if name not in found:
            raise ValueError(f"it does not have `{name}`")
        if not fits(found[name], hint):
            raise ValueError(f"`{name}` is {found[name]!r}")
    return {name: found[name] for name in hints}


def fits(value: object, hint: Any) -> bool:
    """True if a value has an annotated type. Lists are accepted as tuples, and NumPy scalars as numbers."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return fits(value, inner[0])
    if kind in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if kind is Literal or isinstance(value, str | bytes):
        return isinstance(value, str) and kind in (Literal, str, Any)
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    if isinstance(value, bool):
        return kind is bool
    if kind is Mapping and isinstance(value, Mapping):
        return all(fits(each, inner[1]) for each in value.values())
    kinds: dict[Any, Any] = {int: Integral, float: Real, tuple: Sequence}
    return isinstance(value, kinds.get(kind, kind))


_SHOWN = (
    "backend", "precision", "batch", "processes", "evaluate", "loss", "output", "channels_last",
    "deterministic", "seed", "threads", "device",
)  # fmt: skip
"""Fields that may change figures."""


_MAIN = ("backend", "precision", "batch", "processes", "evaluate", "ema")


def in_words(evaluation: Evaluation, keys: Iterable[str] = _MAIN) -> list[str]:
    """Return a text such as ``batch 64`` for each of these conditions."""
    record = {k: "none" if v in (None, "") else v for k, v in evaluation.as_dict().items()}
    return [f"{key.replace('_', ' ')} {record[key]}" for key in keys]


def unlike(now: Evaluation, before: Evaluation) -> Iterator[str]:
    """Yield each difference, as ``backend fused (was: backend eager)``."""
    for new, old in zip(in_words(now, _SHOWN), in_words(before, _SHOWN), strict=True):
        if new != old:
            yield f"{new} (was: {old.partition(' ')[2]})"
    new_data, old_data = now.data or {}, before.data or {}
    if new_data.get("fingerprint") != old_data.get("fingerprint"):
        if new_data.get("text") == old_data.get("text"):
            yield "the data have changed since (another fingerprint)"
        else:
            yield f"data {new_data.get('text')} (was: {old_data.get('text')})"
