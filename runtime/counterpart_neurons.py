"""The neuron of SpikingJelly whose equations a neuron program has.

A program is matched by what it computes: its values are written out as terms of the input, the
states and the spike, and compared with the equations of SpikingJelly's nodes. What a neuron or a
value is called in the spec does not matter; an equation of another form has no counterpart here,
even where it is equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias

from danetc.dsl.neuron_program import NeuronProgram, SurrogateProgram
from danetc.dsl.ssa import Op, Operand
from torch import nn

Tree: TypeAlias = "str | float | tuple[Any, ...]"
SPIKE = "#s"  # stands for the neuron's output in the reset


@dataclass(frozen=True, slots=True)
class SpikingJellyNeuron:
    """A class of ``spikingjelly.activation_based.neuron`` and of ``surrogate``, with arguments."""

    node: str
    options: Mapping[str, Any]
    surrogate: str
    alpha: float
    detach_reset: bool = field(default=False)

    def make(self, **more: Any) -> nn.Module:
        """The neuron; ``more`` are further arguments, as ``step_mode``."""
        base = "spikingjelly.activation_based"
        surrogate = getattr(import_module(f"{base}.surrogate"), self.surrogate)
        node = getattr(import_module(f"{base}.neuron"), self.node)
        neuron: nn.Module = node(
            **self.options,
            surrogate_function=surrogate(alpha=self.alpha),
            detach_reset=self.detach_reset,
            **more,
        )
        return neuron


def spikingjelly_neuron(program: str) -> SpikingJellyNeuron | None:
    """IFNode, LIFNode or ParametricLIFNode with the equations of this text; None without one."""
    parsed = NeuronProgram.parse(program)
    if len(parsed.states) != 1 or parsed.surrogate is None:
        return None
    state = parsed.states[0]
    spike = next((op for op in parsed.ops if op.opcode == "heaviside"), None)
    if spike is None or parsed.output != spike.name:
        return None
    terms = _trees(parsed.ops, {state.name: "#u", spike.name: SPIKE})
    match _tree(spike.args[0], terms):
        case ("sub", membrane, float(threshold)):
            pass
        case _:
            return None
    reset = _reset(_tree(parsed.next_states[0], terms), membrane, threshold)
    if reset is None:
        return None
    v_reset, detach = reset
    rest = v_reset if v_reset is not None else 0.0
    kind = _charge(membrane, rest, parsed)
    surrogate = _surrogate(parsed.surrogate)
    if kind is None or surrogate is None or state.init != rest:
        return None
    node, options = kind
    options |= {"v_threshold": threshold, "v_reset": v_reset}
    return SpikingJellyNeuron(node, options, *surrogate, detach)


def _trees(ops: Iterable[Op], known: Mapping[str, Tree]) -> dict[str, Tree]:
    """What each value is in terms of the input, the states, learnables and the spike."""
    terms: dict[str, Tree] = dict(known)
    for op in ops:
        if op.name not in terms:
            terms[op.name] = (op.opcode, *(_tree(arg, terms) for arg in op.args))
    return terms


def _tree(value: Operand, terms: Mapping[str, Tree]) -> Tree:
    return value if isinstance(value, float) else terms.get(value, value)


def _charge(
    membrane: Tree, rest: float, program: NeuronProgram
) -> tuple[str, dict[str, Any]] | None:
    """Which node charges so, and its time constant."""
    learnt = program.learnables[0] if len(program.learnables) == 1 else None
    if learnt is None and program.learnables:
        return None
    match membrane:
        case ("add", "#u", "x") if learnt is None:
            return "IFNode", {}
        case ("add", ("mul", float(kept), "#u"), ("mul", float(rate), current)) if learnt is None:
            if current != (("add", "x", rest) if rest else "x"):
                return None
            if rate <= 0 or not math.isclose(kept, 1 - rate, rel_tol=1e-12):
                return None
            return "LIFNode", {"tau": 1 / rate}
        case ("add", "#u", ("mul", ("sigmoid", name), ("sub", "x", past))):
            if learnt is None or learnt.parameter != learnt.name or name != learnt.name:
                return None
            if past != (("sub", "#u", rest) if rest else "#u"):
                return None
            return "ParametricLIFNode", {"init_tau": 1 + math.exp(-learnt.raw)}
    return None


def _reset(after: Tree, membrane: Tree, threshold: float) -> tuple[float | None, bool] | None:
    """The value after a spike (None: the threshold is subtracted), and whether it is detached."""
    for detach, spike in ((False, SPIKE), (True, ("detach", SPIKE))):
        kept = ("mul", membrane, ("sub", 1.0, spike))
        if after == kept:
            return 0.0, detach
        match after:
            case ("add", first, ("mul", float(rest), fired)) if first == kept and fired == spike:
                return rest, detach
        taken = spike if threshold == 1.0 else ("mul", threshold, spike)
        if after == ("sub", membrane, taken):
            return None, detach
    return None


def _surrogate(program: SurrogateProgram) -> tuple[str, float] | None:
    """Which derivative this is, and how steep."""
    match _tree(program.derivative, _trees(program.ops, {})):
        case ("mul", ("mul", y, ("sub", 1.0, again)), float(alpha)) if y == again:
            return ("Sigmoid", alpha) if y == ("sigmoid", ("mul", alpha, "x")) else None
        case ("mul", y, ("sub", 1.0, again)) if y == again == ("sigmoid", "x"):
            return "Sigmoid", 1.0
        case ("div", float(half), ("add", 1.0, ("mul", z, again))) if z == again:
            match z:
                case ("mul", float(slope), "x") if math.isclose(slope, math.pi * half):
                    return "ATan", 2 * half
        case ("relu", ("sub", float(alpha), ("mul", float(square), ("abs", "x")))):
            return ("PiecewiseQuadratic", alpha) if math.isclose(square, alpha**2) else None
        case ("relu", ("sub", 1.0, ("abs", "x"))):
            return "PiecewiseQuadratic", 1.0
    return None
