"""What a model takes and gives, and what it says to an input that is something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.system.errors import DataError

_AUTOCAST = (torch.float32, torch.float16, torch.bfloat16)
"""What an operation under autocast brings to its own type."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives. Shapes are those of one sample at one step.

    ``steps`` is T for a static input; ``sequence`` says that the input must bring its own T. Where
    that must be ``steps``, ``fixed`` says why; else it is empty. ``kind`` is what the spec says of
    the input's numbers, and what layers may keep in bits because of it. ``whole`` says why the model
    needs all steps at once and cannot stream; else it is empty.
    """

    steps: int
    input: tuple[int, ...]
    outputs: Mapping[str, tuple[int, ...]]
    sequence: bool = False
    fixed: str = ""
    kind: Kind = ANALOG
    whole: str = ""

    def check(self, x: object, model: nn.Module, *, frame: bool = False) -> None:
        """Raise TypeError or ValueError, which say what was expected, for an input that is none.

        ``x`` is [N, ...] or [T, N, ...]; for one ``frame`` [N, ...]. Its type and device are those
        of the model's weights. What stands for a tensor while a model is traced is let through, and
        so is another device or type where hooks may change them before the model runs.
        """
        if isinstance(x, fx.Proxy) or torch.compiler.is_compiling():
            return
        if not isinstance(x, Tensor):
            what = "" if frame else "a tensor "
            raise TypeError(f"the model takes {what}{self._wanted(frame)}, not {_described(x)}")
        if x.layout is not torch.strided:
            layout = str(x.layout).removeprefix("torch.")
            raise ValueError(f"the model takes dense tensors, not {layout}; take x.to_dense()")
        if any(type(extent) is not int for extent in x.shape):
            return  # symbolic, as torch.export has them
        self._check_shape(x, frame)
        weight = next((each for each in model.parameters() if each.is_floating_point()), None)
        if not model._forward_pre_hooks:
            _check_type(x, weight)
            if weight is not None and weight.device.type != "meta" and x.device != weight.device:
                raise ValueError(
                    f"the model's weights are on {weight.device}, the input is on {x.device}: move "
                    f"one of them, as in x.to({str(weight.device)!r})"
                )
        self._check_numbers(x)

    def _wanted(self, frame: bool) -> str:
        sizes = ", ".join(str(extent) for extent in self.input)
        if frame:
            return f"one frame [N, {sizes}]"
        forms = [f"[T, N, {sizes}]"] if self.sequence else [f"[N, {sizes}]", f"[T, N, {sizes}]"]
        return " or ".join(forms)

    def _check_shape(self, x: Tensor, frame: bool) -> None:
        rank = len(self.input)
        ranks = (rank + 1,) if frame else (rank + 2,) if self.sequence else (rank + 1, rank + 2)
        if x.dim() not in ranks or x.shape[-rank:] != self.input:
            hint = ""
            if x.dim() in ranks and rank == 3:
                kind = "events" if self.sequence else "image"
                sizes = ", ".join(str(extent) for extent in x.shape[-rank:])
                hint = f"; for these set the network's input to {kind}({sizes})"
            raise ValueError(f"the model takes {self._wanted(frame)}, not {list(x.shape)}{hint}")
        if x.dim() == rank + 1:
            return
        if x.shape[0] == 0:
            raise ValueError(f"a sequence has one time step or more, not T = 0: {list(x.shape)}")
        if self.fixed and x.shape[0] != self.steps:
            raise ValueError(
                f"the model takes sequences of T = {self.steps} time steps, not of {x.shape[0]}: "
                f"{self.fixed}"
            )

    def _check_numbers(self, x: Tensor) -> None:
        """What the spec promises of the input must hold: what is kept in bits comes back as that."""
        real = type(x) is Tensor and x.device.type != "meta"
        if not self.kind.is_integer or not real or not x.numel():
            return
        units = x.detach() / self.kind.unit
        wrong = (units != units.round()) | (units < self.kind.low) | (units > self.kind.high)
        if wrong.any():
            raise DataError(
                f"the spec says `bound = {self.kind.high}` of its input, whole numbers from 0 to "
                f"{self.kind.high}, and this one holds {float(x[wrong][0]):g}; give another bound, "
                "or none"
            )


def random_input(
    kind: Kind, size: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Random numbers of a kind; normal ones, where it is analog."""
    if not kind.is_integer:
        return torch.randn(tuple(size), generator=generator, dtype=dtype)
    units = torch.randint(kind.low, kind.high + 1, tuple(size), generator=generator)
    return units.to(dtype) * kind.unit


def _check_type(x: Tensor, weight: Tensor | None) -> None:
    """Raise ValueError where an input is not of the type that the weights have."""
    wanted = weight.dtype if weight is not None else torch.float32
    if x.dtype == wanted or (weight is None and x.is_floating_point()):
        return
    if torch.is_autocast_enabled(x.device.type) and x.dtype in _AUTOCAST and wanted in _AUTOCAST:
        return
    name, found = (str(each).removeprefix("torch.") for each in (wanted, x.dtype))
    if x.dtype == torch.uint8:
        hint = "bytes of an image are from 0 to 255: x.float() / 255, normalised as in the training"
    elif x.is_floating_point():
        hint = f"take x.to(torch.{name}), or model.to(torch.{found})"
    else:
        hint = f"take x.to(torch.{name})"
    raise ValueError(f"the model takes {name}, as its weights are, not {found}; {hint}")


def _described(x: object) -> str:
    """What somebody gave in place of a tensor, and what to do with it."""
    kind = type(x)
    name = (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )
    if name == "numpy.ndarray":
        return f"an array of numpy {list(x.shape)}; torch.from_numpy(x) makes a tensor of it"  # type: ignore[attr-defined]
    return f"an object of type {name}"
