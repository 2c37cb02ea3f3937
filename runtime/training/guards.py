"""Checks of a training: values that are not finite, dead layers, lack of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.dsl.neuron.inference import output_kind
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.recipe.settings import Phase
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.segments import PLACE
from danetc.runtime.layers.weight_layer import layers_of
from danetc.runtime.model.built import ScopeModule
from danetc.runtime.model.signature import outputs_of

ONLY_LOSS = "only the loss: every layer's output is finite"


def first_not_finite(
    model: nn.Module, x: Tensor, autocast: Callable[[], AbstractContextManager[object]]
) -> str:
    """Return the first place in a forward pass of ``x`` with a value that is not finite, as the spec names it.

    All processes call this together if norms are synchronised. What is fused with a neuron counts as it.
    """
    broken = not_finite_tensor(model)
    found: list[str] = []
    scopes = [module for module in model.modules() if isinstance(module, ScopeModule)]
    try:
        for scope in scopes:
            scope.__dict__["forward"] = _Watched(scope, found).run
        with torch.no_grad(), autocast():
            model(x)
    finally:
        for scope in scopes:
            scope.__dict__.pop("forward", None)
    if not _finite(x):  # after the pass, which the other processes make too
        return "the input itself: an image holds a value that is not finite"
    if found:
        return f"layer {found[0]}" + (f", whose `{broken}` is not finite" if broken else "")
    return ONLY_LOSS if broken is None else f"`{broken}`, which is not finite"


class _Watched(fx.Interpreter):
    """Runs a scope node by node, and records the first one whose value is not finite."""

    def __init__(self, scope: ScopeModule, found: list[str]) -> None:
        super().__init__(scope)
        self.found = found

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if PLACE in n.meta and not self.found and not all(map(_finite, outputs_of(result))):
            self.found.append(n.meta[PLACE])
        return result


def not_finite_tensor(model: nn.Module) -> str | None:
    """Return the name of the first parameter or buffer that is not finite, or None."""
    named = (*model.named_parameters(), *model.named_buffers())
    finite = torch.stack([torch.isfinite(value).all() for _, value in named]).tolist()
    return next((name for (name, _), each in zip(named, finite, strict=True) if not each), None)


def _finite(value: object) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


@contextmanager
def watching_firing(model: nn.Module, found: dict[str, list[float]]) -> Iterator[None]:
    """Record the firing rate and the lowest and highest output of each layer by its name.

    A rate is a mean over T, N and neurons; an output n counts as n spikes. Real-valued layers have none.
    """
    seen: dict[str, Tensor] = {}

    def record(name: str, unit: float, module: nn.Module, x: object, out: Tensor) -> None:
        spikes = out.abs().mean(dtype=torch.float32) / unit
        seen[name] = torch.stack([spikes, *(each.float() for each in torch.aminmax(out))])

    with ExitStack() as stack:
        for name, module in layers_of(model):
            if isinstance(module, Neuron):
                program = read_program(module.program)
                kind = output_kind(program)
                if program.is_neuron and kind.is_integer:
                    hook = partial(record, name, kind.unit)
                    stack.enter_context(module.register_forward_hook(hook))
        yield
    if seen:  # copied to the host at once
        found |= dict(zip(seen, torch.stack([*seen.values()]).tolist(), strict=True))


def constant_layers(firing: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a line for the layers of each constant output, from which nothing is learned."""
    constant: dict[float, list[str]] = {}
    for name, (rate, low, high) in firing.items():
        if low == high:
            constant.setdefault(rate, []).append(name)
    return [
        f"{len(layers)} layer{'s' * (len(layers) > 1)} with a constant firing rate of {rate:g}, "
        f"from which nothing is learned: {', '.join(layers[:4])}{', ...' * (len(layers) > 4)}"
        for rate, layers in sorted(constant.items())
    ]


def is_out_of_memory(error: BaseException) -> bool:
    """True if a device or the machine had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    signs = "not enough memory", "can't allocate memory", "out of memory"
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def out_of_memory(phase: Phase, world: int, device: torch.device) -> str:
    """Return a message with the settings to change and values to try."""
    where = "the machine" if device.type == "cpu" else "the GPU"
    setting = f"--set recipe.{phase.name}"
    return (
        f"{where} has too little memory for {phase.batch // world // phase.accumulate} images at a "
        f"time in phase `{phase.name}`; try one of:\n"
        f"  {setting}.accumulate={phase.accumulate * 2} computes a batch in more parts (norms then "
        "see fewer images at a time)\n"
        "  --memory recompute keeps less for the backward pass, with the same results\n"
        f"  {setting}.precision=bf16 halves most of it\n"
        f"  {setting}.batch={max(world, phase.batch // 2)} trains on smaller batches"
    )
