"""Inputs and outputs of a model, and the errors for other inputs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.kernels.torch_internals import is_fake, is_transformed
from danetc.runtime.system.errors import DataError

_AUTOCAST = {torch.float32, torch.float16, torch.bfloat16}
"""Types that autocast converts."""


SWAPPED = "[N, T, ...]: the model takes [T, N, ...], as from x.transpose(0, 1)"


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model: shape of a sample at one step, whether it must be a sequence, and its kind of numbers."""

    shape: tuple[int, ...]
    sequence: bool = False
    kind: Kind = ANALOG

    def check_shape(self, x: object, frame: bool, name: str = "") -> Tensor:
        """Return ``x`` if it is a tensor [N, ...] or [T, N, ...], or one ``frame`` [N, ...]; otherwise raise TypeError or
        ValueError. ``name`` is the input's, if a model has several."""
        sizes, rank = ", ".join(map(str, self.shape)), len(self.shape)
        ranks = (rank + 1,) if frame else (rank + 2,) if self.sequence else (rank + 1, rank + 2)
        forms = " or ".join(f"[{'T, ' * (each - rank - 1)}N, {sizes}]" for each in ranks)
        whose = f" as `{name}`" if name else ""
        if not isinstance(x, Tensor):
            raise TypeError(f"the model takes a tensor {forms}{whose}, not a {type(x).__name__}")
        if not _is_symbolic(x) and (x.dim() not in ranks or x.shape[-rank:] != self.shape):
            raise ValueError(f"the model takes {forms}{whose}, not {list(x.shape)}")
        return x

    def check_numbers(self, x: Tensor) -> None:
        """Raise DataError if values are not of the kind that the spec declares, in which they may be packed."""
        real = type(x) is Tensor and x.device.type != "meta" and not is_transformed()
        if not self.kind.is_integer or not real or not x.numel():
            return
        units = x.detach() / self.kind.unit
        wrong = (units != units.round()) | (units < self.kind.low) | (units > self.kind.high)
        if not is_fake(wrong) and wrong.any():
            if self.kind.is_token:
                place = wrong.nonzero()[0].tolist()
                raise DataError(
                    f"the token {int(x[tuple(place)])} at {place} of the input is not one of the vocabulary "
                    f"of {self.kind.high + 1} tokens, 0 to {self.kind.high}; give its size as "
                    "`tokens(vocabulary)` in the spec, or tokenize the text with this vocabulary"
                )
            raise DataError(
                f"the spec bounds its input by `bound = {self.kind.high}`, whole numbers from 0 to "
                f"{self.kind.high}, but this input holds {float(x[wrong][0]):g}; change the bound, or "
                "leave it out"
            )


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model. Shapes are those of one sample at one step.

    ``steps`` is T for a static input; ``sequence`` says that the input must have its own T. ``fixed`` is the reason
    why that must be ``steps``, if it must. ``kind`` describes the input's numbers. ``whole`` is the reason why the
    model needs all steps at once and cannot stream, if there is one. ``first`` names the layers of weights that no
    neuron precedes.

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
    first: tuple[str, ...] = ()

    def arguments(self, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the inputs of a call in order, given by position or name or as one concatenated tensor. Raises
        TypeError."""
        rank, whole = len(self.input), args[0] if len(args) == 1 and not named else None
        if rank and isinstance(whole, Tensor) and whole.shape[-rank:] == self.input:
            widths = [item.shape[0] for item in self.inputs.values()]
            return tuple(whole.split(widths, -rank))
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        takes = inspect.Signature([inspect.Parameter(name, kind) for name in self.inputs])
        try:
            return takes.bind(*args, **named).args
        except TypeError as error:
            raise TypeError(
                f"the model takes the inputs {', '.join(self.inputs)}: {error}"
            ) from None

    def check_all(
        self, args: Sequence[Any], named: Mapping[str, Any], model: nn.Module, frame: bool = False
    ) -> tuple[Any, ...]:
        """Return the inputs of a call as ``arguments``, after a check of each. They must have the same N and T."""
        given = zip(self.arguments(args, named), self.inputs.items(), strict=True)
        taken = tuple(
            self.check(x, model, frame=frame, of=item, name=name) for x, (name, item) in given
        )
        if any(not isinstance(x, Tensor) or _is_symbolic(x) for x in taken):
            return taken
        sizes = set()
        for x, item in zip(taken, self.inputs.values(), strict=True):
            rank = len(item.shape)
            steps = len(x) if x.dim() == rank + 2 else self.steps
            sizes.add((1 if frame else steps, x.shape[-rank - 1]))
        if len(sizes) > 1:
            found = " and ".join(f"T = {steps}, N = {count}" for steps, count in sorted(sizes))
            raise ValueError(f"the inputs have different numbers of steps or samples: {found}")
        return taken

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

        ``x`` is [N, ...] or [T, N, ...]; for one ``frame`` [N, ...]. Its device and type are those of the model's
        weights. Proxies of fx are not checked, nor are devices and types if the model has forward pre-hooks, which may
        convert the input.
        """
        if isinstance(x, fx.Proxy) or torch.compiler.is_compiling():
            return x
        item = of if of is not None else ModelInput(self.input, self.sequence, self.kind)
        x = item.check_shape(x, frame, name)
        if _is_symbolic(x):
            return x
        if x.dim() == len(item.shape) + 2:
            if len(x) == 0:
                raise ValueError(
                    f"a sequence has one time step or more, not T = 0: {list(x.shape)}"
                )
            order = "" if x.shape[1] != self.steps else f"; {list(x.shape)} may be {SWAPPED}"
            if self.fixed and len(x) != self.steps:
                raise ValueError(
                    f"the model takes sequences of T = {self.steps} time steps, not of {len(x)}: "
                    f"{self.fixed}{order}"
                )
            if len(x) != self.steps > 1 and order:
                message = f"the model has T = {self.steps}, the input T = {len(x)}{order}"
                warnings.warn(message, RuntimeWarning, stacklevel=3)
        weight = next((each for each in model.parameters() if each.is_floating_point()), None)
        if not model._forward_pre_hooks:
            _check_type(x, weight, item.kind.is_token)
            if weight is not None and weight.device.type != "meta" and x.device != weight.device:
                raise ValueError(
                    f"the model's weights are on {weight.device}, the input is on {x.device}: move "
                    f"one of them, as in x.to({str(weight.device)!r})"
                )
        item.check_numbers(x)
        return x


def _is_symbolic(x: Tensor) -> bool:
    """True for a tensor of torch.export with symbolic sizes."""
    return any([type(extent) is not int for extent in x.shape])  # noqa: C419


def outputs_of(given: Any) -> tuple[Tensor, ...]:
    """Return the outputs of a model as a tuple."""
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def random_input(
    kind: Kind, size: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return random values of a kind, normally distributed if it is analog."""
    if not kind.is_integer:
        return torch.randn(tuple(size), generator=generator, dtype=dtype)
    units = torch.randint(kind.low, kind.high + 1, tuple(size), generator=generator)
    return units if kind.is_token else units.to(dtype) * kind.unit


def _check_type(x: Tensor, weight: Tensor | None, tokens: bool) -> None:
    """Raise ValueError for an input of another type than the weights, or for tokens that are not int64."""
    if tokens:
        if x.dtype != torch.int64:
            name = str(x.dtype).removeprefix("torch.")
            raise ValueError(f"the model takes tokens, int64 indices, not {name}; take x.long()")
        return
    wanted = weight.dtype if weight is not None else torch.float32
    if x.dtype == wanted or (weight is None and x.is_floating_point()):
        return
    if {x.dtype, wanted} <= _AUTOCAST and torch.is_autocast_enabled(x.device.type):
        return
    name, found = (str(each).removeprefix("torch.") for each in (wanted, x.dtype))
    raise ValueError(
        f"the model takes {name}, as its weights are, not {found}; take x.to(torch.{name})"
        + " / 255 for an image in bytes" * (x.dtype == torch.uint8)
    )
