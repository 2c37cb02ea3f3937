"""Checks of a training: values that are not finite, dead layers, lack of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.dsl.neuron.inference import output_kind
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.recipe.settings import Phase
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.segments import PLACE
from danetc.runtime.model.built import ScopeModule


def first_not_finite(model: nn.Module, x: Tensor, run: Callable[[Tensor], object]) -> str:
    """Return the first place in a forward pass of ``x`` with a value that is not finite.

    The text names the layer as the spec does, with its line. ``run`` makes the pass as the training
    does; all processes call this together if norms are synchronised. Norms and additions that are
    fused with a neuron are reported as the neuron.
    """
    broken = not_finite_tensor(model)
    found: list[str] = []
    scopes = [module for module in model.modules() if isinstance(module, ScopeModule)]
    try:
        for scope in scopes:
            scope.__dict__["forward"] = _Watched(scope, found).run
        with torch.no_grad():
            run(x)
    finally:
        for scope in scopes:
            scope.__dict__.pop("forward", None)
    if not _finite(x):  # after the pass, which the other processes make too
        return "the input itself: an image holds a value that is not finite"
    if found:
        place = f"layer {found[0]}"
        return f"{place}, whose `{broken}` is not finite" if broken is not None else place
    if broken is not None:
        return f"`{broken}`, which is not finite"
    return "the loss alone: every layer's output is finite"


class _Watched(fx.Interpreter):
    """Runs a scope node by node, and records the first one whose value is not finite."""

    def __init__(self, scope: ScopeModule, found: list[str]) -> None:
        super().__init__(scope)
        self.found = found

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if PLACE in n.meta and not self.found and not all(map(_finite, _tensors(result))):
            self.found.append(n.meta[PLACE])
        return result


def not_finite_tensor(model: nn.Module) -> str | None:
    """Return the name of the first parameter or buffer that is not finite, or None."""
    named = (*model.named_parameters(), *model.named_buffers())
    floats = [(name, value.detach()) for name, value in named if value.is_floating_point()]
    if not floats:
        return None
    finite = torch.stack([torch.isfinite(value).all() for _, value in floats]).tolist()
    return next((name for (name, _), each in zip(floats, finite, strict=True) if not each), None)


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for each in output:
            yield from _tensors(each)


# -- dead layers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Firing:
    """Firing rates of layers: spikes averaged over T, N and neurons of a sample of images.

    Outputs that are whole numbers other than 0 and 1 count as that many spikes.
    """

    rates: Mapping[str, float]
    silent: tuple[str, ...]  # layers whose output is always 0
    saturated: tuple[str, ...]  # layers with another constant output

    def warnings(self) -> tuple[str, ...]:
        """Return one line for each kind of dead layer."""
        found = []
        most = {self.rates[layer] for layer in self.saturated}
        same = f"with a firing rate of {most.pop():g}" if len(most) == 1 else "that never changes"
        for layers, what in (
            (self.silent, "with a firing rate of 0: nothing behind learns from it"),
            (self.saturated, f"{same}: what comes of it says nothing"),
        ):
            if layers:
                shown = ", ".join(layers[:4]) + (", ..." if len(layers) > 4 else "")
                many = f"{len(layers)} layer{'s' if len(layers) > 1 else ''}"
                found.append(f"{many} {what}: {shown}")
        return tuple(found)


class FiringProbe:
    """Records firing rates during the passes under ``watching``.

    Layers of activation functions and of neurons with real-valued output are left out.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers: dict[str, Neuron] = {}
        self._units: dict[str, float] = {}
        for name, module in model.named_modules():
            if isinstance(module, Neuron):
                program = read_program(module.program)
                kind = output_kind(program)
                if program.is_neuron and kind.is_integer:
                    self._layers[name], self._units[name] = module, kind.unit
        self._seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Register hooks, which add three small reductions per layer."""
        handles = [
            module.register_forward_hook(self._hook(name)) for name, module in self._layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def firing(self) -> Firing:
        """Return the rates of the last pass."""
        values = {name: [float(v) for v in seen] for name, seen in self._seen.items()}
        return Firing(
            {name: mean for name, (_, mean, _) in values.items()},
            tuple(name for name, (low, _, high) in values.items() if low == high == 0.0),
            tuple(name for name, (low, _, high) in values.items() if low == high != 0.0),
        )

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Any) -> None:
            if isinstance(output, Tensor):
                low, high = torch.aminmax(output)
                spikes = output.abs().mean(dtype=torch.float32) / self._units[name]
                self._seen[name] = low, spikes, high

        return hook


# -- memory ----------------------------------------------------------------------------------------

_SIGNS = ("not enough memory", "can't allocate memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """True if a device or the machine had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory(phase: Phase, world: int, device: torch.device) -> str:
    """Return a message with the settings to change and values to try."""
    part = phase.batch // world // phase.accumulate
    advice = []
    if part > 1:
        advice.append(
            f"--set recipe.{phase.name}.accumulate={phase.accumulate * 2} computes a batch in more "
            "parts (norms then see fewer images at a time)"
        )
    advice.append("--memory recompute keeps less for the backward pass, with the same results")
    if phase.precision == "float32":
        advice.append(f"--set recipe.{phase.name}.precision=bf16 halves most of it")
    if phase.batch > world:
        advice.append(f"--set recipe.{phase.name}.batch={max(world, phase.batch // 2)} asks less")
    where = "the GPU" if device.type == "cuda" else "the machine"
    return (
        f"{where} has too little memory for {part} images at a time in phase `{phase.name}`; "
        "try one of:\n  " + "\n  ".join(advice)
    )
