"""Neurons and surrogates of other libraries as programs of danetc's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from itertools import islice, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

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

UNDECAYED = """
neuron NAME_undecayed(tau = 2.0, v_threshold = 1.0, PARAMETER detach_reset = false) {
  state u = REST
  LEARN
  v = u - (u - REST) DECAY + x
  s = heaviside(v - v_threshold)
  r = detach(s) if detach_reset else s
  u = RESET
}
"""
"""Neurons of SpikingJelly whose input does not decay, which std does not have."""

ACTIVATIONS = {
    "ReLU6": "min(max(x, 0), 6)",
    "SiLU": "x * sigmoid(x)",
    "Hardswish": "x * min(max(x + 3, 0), 6) / 6",
    "Hardsigmoid": "min(max(x + 3, 0), 6) / 6",
    "GELU_tanh": "0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))",
}
"""Activation functions of PyTorch without an operation of danetc's."""

EQUATIONS = {
    "subtract": """r = 1 - heaviside(theta - u)
  v = beta * u + x - r * theta
  s = 1 - heaviside(theta - v)
  u = v - DELAYED * theta""",
    "zero": """r = 1 - heaviside(theta - u)
  v = beta * (1 - r) * u + x
  s = 1 - heaviside(theta - v)
  u = v - DELAYED * v""",
    "none": """v = beta * u + x
  s = 1 - heaviside(theta - v)
  u = v""",
    "LIFBoxCell": """v = u + rate * (x + leak - u)
  s = 1 - heaviside(theta - v)
  u = (1 - s) * v + s * reset""",
    "IAFCell": """v = u + x
  s = 1 - heaviside(theta - v)
  u = (1 - s) * v + s * reset""",
}
"""Steps of snnTorch's Leaky, by its reset, and of Norse's cells. They fire above their thresholds."""

FAST_SIGMOID = """
surrogate fast_sigmoid(slope = 25.0) {
  z  = 1 + slope * abs(x)
  dy = 1 / (z * z)
}
"""
"""Surrogate of snnTorch and Norse that std does not have."""

PLACES = tuple(np.linspace(-1.73, 1.69, 25).tolist())
"""Points at which surrogates are compared."""

_KINDS = {theirs: kind for kind, theirs in CLASSES.items()}


def _declared(text: str) -> Declaration:
    (found,) = parse(SourceFile("import", text), Reporter()).declarations
    return found


@cache
def _undecayed(name: str) -> Declaration:
    """Return the neuron of SpikingJelly that is like LIF, LIF_soft, PLIF or PLIF_soft of std."""
    kind, _, soft = name.partition("_")
    text = UNDECAYED.replace("NAME", name)
    learnt = ("w = learn(-log(tau - 1))", "* sigmoid(w)") if kind == "PLIF" else ("", "/ tau")
    reset = ("", "0.0", "v - v_threshold * r")
    if not soft:
        reset = ("v_rest = 0.0,", "v_rest", "v * (1 - r) + v_rest * r")
    words = ("LEARN", "DECAY", "PARAMETER", "REST", "RESET")
    for word, value in zip(reversed(words), reversed((*learnt, *reset)), strict=True):
        text = text.replace(word, value)
    return _declared(text)


def program(
    neuron: str | Declaration, given: Arguments, surrogate: SurrogateProgram | None = None
) -> NeuronProgram:
    """Return the program of a neuron of std, or of one that is declared here. Raises UserError."""
    if isinstance(neuron, str):
        own = neuron.endswith("_undecayed")
        neuron = _undecayed(neuron.removesuffix("_undecayed")) if own else standard()[neuron]
    reporter = Reporter()
    made = compile_neuron(neuron, _complete(neuron, given), None, {}, reporter)
    reporter.raise_if_errors()
    assert made is not None
    return replace(made, surrogate=surrogate)


@cache
def activation_program(name: str) -> NeuronProgram:
    """Return an activation function as a neuron without a state."""
    return program(_declared(f"neuron {name} {{ s = {ACTIVATIONS[name]} }}"), {})


def usual_surrogate() -> SurrogateProgram:
    """Return the surrogate of neurons from NIR, which stores none; it affects gradients only."""
    declaration = standard()["atan"]
    made = compile_surrogate(declaration, _complete(declaration, {}), Reporter())
    assert made is not None
    return made


def surrogate_of(spike: Callable[[Tensor], Tensor], numbers: Iterable[object]) -> SurrogateProgram:
    """Return the surrogate of std with the derivative of a function, whose parameters may be
    among ``numbers``, or derived from them. Raises UserError if there is none."""
    places = torch.tensor(PLACES, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(spike(places).sum(), places)
    found = (x for x in numbers if isinstance(x, (int, float, Tensor)) and x is not True)
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
                at = [{"x": x, **evaluate(made.ops, {"x": x})} for x in PLACES]
            except ConstantError:  # not for these arguments
                continue
            found = [slope if isinstance(slope, float) else float(values[slope]) for values in at]
            if np.allclose(found, slopes, rtol=1e-6, atol=1e-9):
                return made
    raise UserError(
        "its spikes have a derivative that no surrogate of std has "
        f"({', '.join(item.name for item in of_kind('surrogate'))})"
    )


def _snntorch_neuron(module: Any, path: str) -> tuple[str, str, dict[str, float], Any]:
    if module.state_quant or module.inhibition or float(module.graded_spikes_factor) != 1:
        raise UserError(
            f"{path}: it quantises its state, inhibits its neighbours or grades its spikes"
        )
    if not module.init_hidden:
        raise UserError(f"{path}: it takes its state as an argument; give it init_hidden=True")
    numbers = {
        "beta": min(max(_one(module.beta, path), 0.0), 1.0),
        "theta": _one(module.threshold, path),
    }
    steps = EQUATIONS[module.reset_mechanism]
    return (
        "Leaky",
        steps.replace("DELAYED", "0" if module.reset_delay else "(s - r)"),
        numbers,
        module.spike_grad,
    )


def _norse_neuron(module: Any, path: str) -> tuple[str, str, dict[str, float], Any]:
    # The module is Norse's, so that Norse is there.
    threshold = import_module("norse.torch.functional.threshold").threshold
    p, kind = module.p, type(module).__name__
    numbers = {"theta": _one(p.v_th, path), "reset": _one(p.v_reset, path)}
    if kind == "LIFBoxCell":
        if getattr(p.reset_method, "__name__", "") != "reset_value":
            raise UserError(f"{path}: only reset_method=reset_value is read")
        rate = _one(module.dt * p.tau_mem_inv, path)
        numbers |= {"rate": rate, "leak": _one(p.v_leak, path)}
    return kind, EQUATIONS[kind], numbers, partial(threshold, method=p.method, alpha=p.alpha)


def _one(value: Any, path: str) -> float:
    """Return the one number of all neurons of a layer."""
    found = torch.as_tensor(value).detach().double().flatten()
    if not bool((found == found[0]).all()):
        raise UserError(f"{path}: its neurons have different constants, and one for all is read")
    return float(f"{float(found[0]):.7g}")


LIBRARIES = {
    "snntorch._neurons.leaky.Leaky": _snntorch_neuron,
    "norse.torch.module.lif_box.LIFBoxCell": _norse_neuron,
    "norse.torch.module.iaf.IAFCell": _norse_neuron,
}
"""Neurons of snnTorch and Norse that are read, by their full names."""


def library_neuron(module: Any, name: str, path: str) -> NeuronProgram:
    """Return the program of a neuron of snnTorch or Norse. Raises UserError."""
    kind, steps, numbers, spike = LIBRARIES[name](module, path)
    given = ", ".join(f"{key} = {value!r}" for key, value in numbers.items())
    start = numbers.get("leak", numbers.get("reset", 0.0))
    declaration = _declared(f"neuron {kind}({given}) {{\n  state u = {start!r}\n  {steps}\n}}")
    held = [cell.cell_contents for cell in getattr(spike, "__closure__", None) or ()]
    held += getattr(spike, "keywords", {}).values()
    return program(declaration, numbers, _surrogate(spike, held, path))


def _surrogate(spike: Any, numbers: Iterable[object], path: str) -> SurrogateProgram:
    try:
        return surrogate_of(spike, numbers)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def spikingjelly_neuron(module: Any, path: str) -> NeuronProgram:
    """Return the program of an ``IFNode``, ``LIFNode`` or ``ParametricLIFNode``. Raises UserError."""
    kind = _KINDS[type(module).__name__]
    function = module.surrogate_function
    if not function.spiking:
        raise UserError(f"{path}: its surrogate does not spike (spiking=False)")
    given: dict[str, float | bool] = {
        "v_threshold": float(module.v_threshold),
        "detach_reset": bool(module.detach_reset),
    }
    if kind == "LIF":
        given["tau"] = float(module.tau)
    soft = module.v_reset is None
    if not soft:
        given["v_rest"] = float(module.v_reset)
    name = f"{kind}_soft" if soft else kind
    if kind != "IF" and not module.decay_input:
        name = f"{name}_undecayed"
    return program(name, given, _surrogate(function, vars(function).values(), path))
