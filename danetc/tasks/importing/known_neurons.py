"""Neurons and surrogates of other libraries as programs of danetc's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from itertools import chain, islice, product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danetc.compiler.importing.expressions import defaults_of, of_kind, standard
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.neuron.opcodes import ConstantError
from danetc.dsl.neuron.program import NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.spikingjelly import CLASSES
from danetc.dsl.neuron.ssa import evaluate
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import Declaration
from danetc.errors import UserError

Arguments = Mapping[str, float | bool]

ACTIVATIONS = {
    "ReLU": "max(x, 0)",
    "ReLU6": "min(max(x, 0), 6)",
    "SiLU": "x * sigmoid(x)",
    "Hardswish": "x * min(max(x + 3, 0), 6) / 6",
    "Hardsigmoid": "min(max(x + 3, 0), 6) / 6",
    "GELU_tanh": "0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))",
}
"""Activation functions of PyTorch that are neurons without a state."""

EQUATIONS = {
    "subtract": ("beta * u + x - r * theta", "v - DELAYED * theta"),
    "zero": ("beta * (1 - r) * u + x", "v - DELAYED * v"),
    "none": ("beta * u + x", "v"),
    "LIFBoxCell": ("u + rate * (x + leak - u)", "(1 - s) * v + s * reset"),
    "IAFCell": ("u + x", "(1 - s) * v + s * reset"),
}
"""Potentials before and after a spike, of snnTorch's Leaky, by its reset, and of Norse's cells."""

FAST_SIGMOID = "surrogate fast_sigmoid(slope = 25.0) { z = 1 + slope * abs(x); dy = 1 / (z * z) }"
"""Surrogate of snnTorch and Norse that std does not have."""

SPIKINGJELLY = "spikingjelly.activation_based.neuron."
PLACES = tuple(np.linspace(-1.73, 1.69, 25).tolist())
"""Points at which surrogates are compared."""


def _declared(text: str) -> Declaration:
    (found,) = parse(SourceFile("import", text), Reporter()).declarations
    return found


def program(neuron: str | Declaration, given: Arguments) -> NeuronProgram:
    """Return the program of a neuron of std, or of another declaration, with the surrogate `atan`.

    Raises UserError.
    """
    declaration = standard()[neuron] if isinstance(neuron, str) else neuron
    surrogate, reporter = standard()["atan"], Reporter()
    arguments = _complete(declaration, given), surrogate, _complete(surrogate, {})
    made = compile_neuron(declaration, *arguments, reporter)
    reporter.raise_if_errors()
    assert made is not None
    return made


@cache
def activation_program(name: str) -> NeuronProgram:
    """Return an activation function as a neuron without a state."""
    return program(_declared(f"neuron {name} {{ s = {ACTIVATIONS[name]} }}"), {})


def surrogate_of(spike: Callable[[Tensor], Tensor], held: Iterable[object]) -> SurrogateProgram:
    """Return the surrogate of std with the derivative of a function, whose parameters may be numbers
    among ``held`` or in its modules, or derived from them. Raises UserError if there is none."""
    places = torch.tensor(PLACES, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(spike(places).sum(), places)
    each = chain(*(vars(x).values() if isinstance(x, nn.Module) else (x,) for x in held))
    found = (x for x in each if isinstance(x, (int, float, Tensor)) and type(x) is not bool)
    return surrogate_like(tuple(slopes.tolist()), tuple(map(float, found)))


def _complete(declaration: Declaration, given: Arguments) -> dict[str, float | bool]:
    """Return the arguments of all parameters, from their defaults where none are given."""
    found = {**defaults_of(declaration), **given}
    return {param.name: found[param.name] for param in declaration.params}  # type: ignore[misc]


@cache
def surrogate_like(slopes: tuple[float, ...], numbers: tuple[float, ...]) -> SurrogateProgram:
    """Return the surrogate of std that has these derivatives at ``PLACES``.

    ``numbers`` may be values of its parameters. Raises UserError if there is none.
    """
    tried = {
        *numbers,
        *(2 * x for x in numbers),
        *(n / x for x in numbers if x for n in (1.0, 2.0)),
    }
    for declaration in (*of_kind("surrogate"), _declared(FAST_SIGMOID)):
        usual = _complete(declaration, {})
        choices = [(value, *(tried if type(value) is float else ())) for value in usual.values()]
        for values in islice(product(*choices), 200):
            given = dict(zip(usual, values, strict=True))
            made = compile_surrogate(declaration, given, Reporter())
            if made is None:
                continue
            slope = made.derivative
            try:
                found = [evaluate(made.ops, {"x": x}).get(slope, slope) for x in PLACES]  # type: ignore[arg-type]
            except ConstantError:  # not for these arguments
                continue
            if np.allclose(found, slopes, rtol=1e-6, atol=1e-9):
                return made
    raise UserError(
        "its spikes have a derivative that no surrogate of std has "
        f"({', '.join(item.name for item in of_kind('surrogate'))})"
    )


# -- neurons of other libraries --------------------------------------------------------------------

Described = tuple[Declaration, Arguments, Any]
"""A neuron, its arguments, and the function of its spikes."""


def _spikingjelly(module: Any) -> Described:
    """Describe an ``IFNode``, ``LIFNode`` or ``ParametricLIFNode``."""
    (kind,) = (ours for ours, theirs in CLASSES.items() if theirs == type(module).__name__)
    if not module.surrogate_function.spiking:
        raise UserError("its surrogate does not spike (spiking=False)")
    given: dict[str, float | bool] = {
        "v_threshold": float(module.v_threshold),
        "detach_reset": bool(module.detach_reset),
    }
    if kind == "LIF":
        given["tau"] = float(module.tau)
    if module.v_reset is not None:
        given["v_rest"] = float(module.v_reset)
    found = standard()[kind if "v_rest" in given else f"{kind}_soft"]
    if kind != "IF" and not module.decay_input:
        found = _undecayed(found, "v_rest" if "v_rest" in given else "0.0")
    return found, given, module.surrogate_function


def _undecayed(neuron: Declaration, rest: str) -> Declaration:
    """Return a LIF or PLIF of std with an input that does not decay."""
    decay = "* sigmoid(w)" if neuron.name.startswith("PLIF") else "/ tau"
    made = _declared(f"neuron {neuron.name}_undecayed {{ v = u - (u - {rest}) {decay} + x }}")
    (equation,), body = made.body or (), neuron.body or ()
    return replace(
        made,
        params=neuron.params,
        body=tuple(equation if item.name == "v" else item for item in body),
    )


def _snntorch(module: Any) -> Described:
    if module.state_quant or module.inhibition or float(module.graded_spikes_factor) != 1:
        raise UserError("it quantises its state, inhibits its neighbours or grades its spikes")
    if not module.init_hidden:
        raise UserError("it takes its state as an argument; give it init_hidden=True")
    numbers = {"beta": torch.as_tensor(module.beta).clamp(0, 1), "theta": module.threshold}
    v, u = EQUATIONS[module.reset_mechanism]
    u = u.replace("DELAYED", "0" if module.reset_delay else "(s - r)")
    return _of_equations("Leaky", v, u, numbers), {}, module.spike_grad


def _norse(module: Any) -> Described:
    # The module is Norse's, so that Norse is there.
    threshold = import_module("norse.torch.functional.threshold").threshold
    p, kind = module.p, type(module).__name__
    numbers = {"theta": p.v_th, "reset": p.v_reset}
    if kind == "LIFBoxCell":
        if getattr(p.reset_method, "__name__", "") != "reset_value":
            raise UserError("only reset_method=reset_value is read")
        numbers |= {"rate": module.dt * p.tau_mem_inv, "leak": p.v_leak}
    spike = partial(threshold, method=p.method, alpha=p.alpha)
    return _of_equations(kind, *EQUATIONS[kind], numbers), {}, spike


def _of_equations(name: str, v: str, u: str, numbers: Mapping[str, Any]) -> Declaration:
    """Return a neuron that fires above ``theta``; ``r`` is 1 if it is still above after a step."""
    found = {key: one_number(f"its {key}", value) for key, value in numbers.items()}
    given = ", ".join(f"{key} = {value!r}" for key, value in found.items())
    start = found.get("leak", found.get("reset", 0.0))
    fires = f"r = 1 - heaviside(theta - u); v = {v}; s = 1 - heaviside(theta - v)"
    return _declared(f"neuron {name}({given}) {{ state u = {start!r}; {fires}; u = {u} }}")


def one_number(what: str, value: Any) -> float:
    """Return the number that all neurons of a layer have. Raises UserError if they differ."""
    found = torch.as_tensor(value).detach().double().flatten()
    if not torch.allclose(found, found[0], rtol=1e-6):
        raise UserError(f"{what} differs from neuron to neuron")
    return float(f"{float(found[0]):.7g}")


NEURONS: Mapping[str, Callable[[Any], Described]] = {
    **{f"{SPIKINGJELLY}{name}": _spikingjelly for name in CLASSES.values()},
    "snntorch._neurons.leaky.Leaky": _snntorch,
    "norse.torch.module.lif_box.LIFBoxCell": _norse,
    "norse.torch.module.iaf.IAFCell": _norse,
}
"""Neurons of other libraries, by their full names."""


def full_name(module: object) -> str:
    """Return the full name of a module's class, that of SpikingJelly's neurons without their file."""
    kind = type(module)
    own = kind.__module__.startswith(SPIKINGJELLY)
    return f"{SPIKINGJELLY if own else f'{kind.__module__}.'}{kind.__qualname__}"


def neurons_of(model: nn.Module) -> list[Any]:
    """Return the neurons of other libraries in a model."""
    return [module for module in model.modules() if full_name(module) in NEURONS]


def neuron_program(module: Any) -> NeuronProgram:
    """Return the program of a neuron in ``NEURONS``. Raises UserError."""
    declaration, given, spike = NEURONS[full_name(module)](module)
    cells = getattr(spike, "__closure__", None) or ()
    held = [spike, *getattr(spike, "keywords", {}).values(), *(c.cell_contents for c in cells)]
    return replace(program(declaration, given), surrogate=surrogate_of(spike, held))
