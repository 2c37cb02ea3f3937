"""Inputs and outputs of a model, and the errors for other inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.kernels.torch_internals import is_fake, is_transformed
from danetc.runtime.system.errors import DataError

_AUTOCAST = (torch.float32, torch.float16, torch.bfloat16)
"""Types that operations under autocast convert."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model: shape of a sample at one step, whether it must be a sequence, and its kind of numbers."""

    shape: tuple[int, ...]
    sequence: bool = False
    kind: Kind = ANALOG

    def check_shape(self, x: object, frame: bool, name: str = "") -> Tensor:
        """Return ``x`` if it is a tensor [N, ...] or [T, N, ...], or one ``frame`` [N, ...]; otherwise raise TypeError or
        ValueError. ``name`` is the input's, if a model has several."""
        whose = f" as `{name}`" if name else ""
        if not isinstance(x, Tensor):
            what = "" if frame else "a tensor "
            raise TypeError(
                f"the model takes {what}{self._wanted(frame)}{whose}, not {_described(x)}"
            )
        if x.layout is not torch.strided:
            layout = str(x.layout).removeprefix("torch.")
            raise ValueError(f"the model takes dense tensors, not {layout}; take x.to_dense()")
        if any(type(extent) is not int for extent in x.shape):
            return x  # symbolic sizes of torch.export
        rank = len(self.shape)
        ranks = (rank + 1,) if frame else (rank + 2,) if self.sequence else (rank + 1, rank + 2)
        if x.dim() not in ranks or x.shape[-rank:] != self.shape:
            hint = ""
            if x.dim() in ranks and rank == 3:
                kind = "events" if self.sequence else "image"
                sizes = ", ".join(str(extent) for extent in x.shape[-rank:])
                hint = f"; for these set the network's input to {kind}({sizes})"
            raise ValueError(
                f"the model takes {self._wanted(frame)}{whose}, not {list(x.shape)}{hint}"
            )
        return x

    def check_numbers(self, x: Tensor) -> None:
        """Raise DataError if values are not of the kind that the spec declares, in which they may be packed."""
        real = type(x) is Tensor and x.device.type != "meta" and not is_transformed()
        if not self.kind.is_integer or not real or not x.numel():
            return
        units = x.detach() / self.kind.unit
        wrong = (units != units.round()) | (units < self.kind.low) | (units > self.kind.high)
        if not is_fake(wrong) and wrong.any():
            raise DataError(
                f"the spec says `bound = {self.kind.high}` of its input, whole numbers from 0 to "
                f"{self.kind.high}, and this one holds {float(x[wrong][0]):g}; give another bound, "
                "or none"
            )

    def _wanted(self, frame: bool) -> str:
        sizes = ", ".join(str(extent) for extent in self.shape)
        if frame:
            return f"one frame [N, {sizes}]"
        forms = [f"[T, N, {sizes}]"] if self.sequence else [f"[N, {sizes}]", f"[T, N, {sizes}]"]
        return " or ".join(forms)


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model. Shapes are those of one sample at one step.

    ``steps`` is T for a static input; ``sequence`` says that the input must have its own T. ``fixed`` is the reason
    why that must be ``steps``, if it must. ``kind`` describes the input's numbers. ``whole`` is the reason why the
    model needs all steps at once and cannot stream, if there is one.

    ``inputs`` are those of a model with several, by name. ``input`` is then the shape of their concatenation along
    the channels, which data sets and the model support as well; () if their sizes differ.
    """

    steps: int
    input: tuple[int, ...]
    outputs: Mapping[str, tuple[int, ...]]
    sequence: bool = False
    fixed: str = ""
    kind: Kind = ANALOG
    whole: str = ""
    inputs: Mapping[str, ModelInput] = field(default_factory=dict)

    def arguments(self, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the inputs of a call in order, given by position or name or as one concatenated tensor. Raises
        TypeError."""
        if len(args) == 1 and not named and self.input and len(self.inputs) > 1:
            widths = [item.shape[0] for item in self.inputs.values()]
            x = args[0]
            fits = isinstance(x, Tensor) and x.dim() > len(self.input)
            if fits and tuple(x.shape[-len(self.input) :]) == self.input:
                return tuple(x.split(widths, -len(self.input)))
        names = list(self.inputs)
        found = dict(zip(names, args, strict=False))
        strange = [name for name in named if name not in self.inputs or name in found]
        found.update(named)
        if len(args) > len(names) or strange or len(found) < len(names):
            sizes = ", ".join(map(str, self.input))
            together = f", or one tensor [..., {sizes}] with the channels of all" * bool(sizes)
            given = [
                str(list(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in args
            ]
            raise TypeError(
                f"the model takes {len(names)} inputs: {', '.join(names)}{together}; not "
                f"{', '.join([*given, *strange]) or 'none'}"
            )
        return tuple(found[name] for name in names)

    def check_all(
        self, given: Sequence[object], model: nn.Module, *, frame: bool = False
    ) -> tuple[Any, ...]:
        """Check each of several inputs, which must have the same N and T."""
        tensors = []
        taken = []
        for each, (name, item) in zip(given, self.inputs.items(), strict=True):
            x = self.check(each, model, frame=frame, of=item, name=name)
            taken.append(x)
            if not isinstance(x, Tensor) or any(type(extent) is not int for extent in x.shape):
                return (*taken, *given[len(taken) :])
            tensors.append((name, x, len(item.shape)))
        counts = {name: x.shape[-rank - 1] for name, x, rank in tensors}
        if len(set(counts.values())) > 1:
            raise ValueError(f"the inputs are of different numbers of samples: {_told(counts)}")
        times = {name: len(x) if x.dim() == rank + 2 else self.steps for name, x, rank in tensors}
        if not frame and len(set(times.values())) > 1:
            raise ValueError(
                f"the inputs have different numbers of time steps: {_told(times)}"
                + f" (an image is repeated T = {self.steps} times)"
                * any(x.dim() == rank + 1 for _, x, rank in tensors)
            )
        return tuple(taken)

    def check(
        self,
        x: object,
        model: nn.Module,
        *,
        frame: bool = False,
        of: ModelInput | None = None,
        name: str = "",
    ) -> Any:
        """Return ``x`` as the model takes it, or raise TypeError or ValueError.

        ``x`` is [N, ...] or [T, N, ...]; for one ``frame`` [N, ...]. Its device is that of the model's weights. So is
        its type, or one that converts exactly: bool, a narrower float and, for events, which are counts, small
        integers. Proxies pass, as do other devices and types if hooks may change them before the model runs.
        """
        if isinstance(x, fx.Proxy) or torch.compiler.is_compiling():
            return x
        item = of if of is not None else ModelInput(self.input, self.sequence, self.kind)
        x = item.check_shape(x, frame, name)
        if any(type(extent) is not int for extent in x.shape):
            return x
        if x.dim() == len(item.shape) + 2:
            if len(x) == 0:
                raise ValueError(
                    f"a sequence has one time step or more, not T = 0: {list(x.shape)}"
                )
            if self.fixed and len(x) != self.steps:
                raise ValueError(
                    f"the model takes sequences of T = {self.steps} time steps, not of {len(x)}: "
                    f"{self.fixed}"
                )
        weight = next((each for each in model.parameters() if each.is_floating_point()), None)
        if not model._forward_pre_hooks:
            x = _of_type(x, weight, counts=item.sequence or item.kind.is_integer)
            if weight is not None and weight.device.type != "meta" and x.device != weight.device:
                raise ValueError(
                    f"the model's weights are on {weight.device}, the input is on {x.device}: move "
                    f"one of them, as in x.to({str(weight.device)!r})"
                )
        item.check_numbers(x)
        return x


def _told(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())


def outputs_of(given: Any) -> tuple[Tensor, ...]:
    """Return the outputs of a model as a tuple."""
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def random_input(
    kind: Kind, size: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return random numbers of a kind; normal ones for an analog value."""
    if not kind.is_integer:
        return torch.randn(tuple(size), generator=generator, dtype=dtype)
    units = torch.randint(kind.low, kind.high + 1, tuple(size), generator=generator)
    return units.to(dtype) * kind.unit


_WHOLE: Mapping[torch.dtype, int] = {
    torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8,
}  # fmt: skip
"""Bits of the largest integers that types hold exactly."""
_COUNTS: Mapping[torch.dtype, int] = {torch.uint8: 8, torch.int8: 8, torch.int16: 16}


def _is_exact(given: torch.dtype, wanted: torch.dtype, *, counts: bool) -> bool:
    """True if converting a type to another keeps the numbers and their meaning."""
    if wanted not in _WHOLE:
        return False
    if given == torch.bool:
        return True
    if given in _COUNTS:
        return counts and _COUNTS[given] <= _WHOLE[wanted]
    wider = (torch.float32, torch.float64)
    if given in (torch.float16, torch.bfloat16):
        return wanted in wider
    return given == torch.float32 and wanted == torch.float64


def _of_type(x: Tensor, weight: Tensor | None, *, counts: bool) -> Tensor:
    """Convert an input to the type of the weights if that is exact; otherwise raise ValueError. ``counts`` says that
    integers are counts: bytes of an image are fractions of 255.
    """
    wanted = weight.dtype if weight is not None else torch.float32
    if x.dtype == wanted or (weight is None and x.is_floating_point()):
        return x
    if torch.is_autocast_enabled(x.device.type) and x.dtype in _AUTOCAST and wanted in _AUTOCAST:
        return x
    if _is_exact(x.dtype, wanted, counts=counts):
        return x.to(wanted)
    name, found = (str(each).removeprefix("torch.") for each in (wanted, x.dtype))
    if x.dtype == torch.uint8:
        hint = "bytes of an image are from 0 to 255: x.float() / 255, normalised as in the training"
    elif x.is_floating_point():
        hint = f"take x.to(torch.{name}), or model.to(torch.{found})"
    else:
        hint = f"take x.to(torch.{name})"
    raise ValueError(f"the model takes {name}, as its weights are, not {found}; {hint}")


def _described(x: object) -> str:
    """Describe an object that is no tensor, and how to convert it."""
    kind = type(x)
    name = (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )
    if name == "numpy.ndarray":
        return f"an array of numpy {list(x.shape)}; torch.from_numpy(x) makes a tensor of it"  # type: ignore[attr-defined]
    return f"an object of type {name}"
