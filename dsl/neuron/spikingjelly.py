"""Which of SpikingJelly's neurons and surrogates a program is.

They are found by declaration and parameters: a program is the standard library's ``LIF``, say, where
that declaration, compiled with the program's parameters, gives the same operations. So a copy of it
under another name is found too, and one whose equations were changed is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import standard
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.neuron.program import NeuronProgram, SurrogateProgram
from danetc.dsl.record import record
from danetc.dsl.syntax.tree import Declaration

NEURONS: Mapping[str, str] = {
    "IF": "IF",
    "LIF": "LIF",
    "PLIF": "PLIF",
    "IF_soft": "IF",
    "LIF_soft": "LIF",
    "PLIF_soft": "PLIF",
}
"""The standard library's neurons and SpikingJelly's. Those without ``v_rest`` reset softly."""

Given: TypeAlias = Mapping[str, float]


@record
class SharedArgument:
    """An argument of a surrogate: what the standard library and what SpikingJelly calls it, and each
    number as a function of the other's."""

    ours: str
    theirs: str
    to_theirs: Callable[[float], float] = float
    to_ours: Callable[[float], float] = float


@record
class SharedSurrogate:
    """A surrogate that both have: SpikingJelly's class, and its arguments."""

    theirs: str
    arguments: tuple[SharedArgument, ...]

    def to_theirs(self, given: Given) -> dict[str, float]:
        """The arguments of SpikingJelly's class, by ours."""
        return {each.theirs: each.to_theirs(given[each.ours]) for each in self.arguments}

    def to_ours(self, theirs: object) -> dict[str, float]:
        """Our arguments, by the attributes of SpikingJelly's surrogate."""
        return {
            each.ours: each.to_ours(float(getattr(theirs, each.theirs))) for each in self.arguments
        }


def _inverse(value: float) -> float:
    return 1.0 / value


def _same(*names: str) -> tuple[SharedArgument, ...]:
    return tuple(SharedArgument(name, name) for name in names)


SURROGATES: Mapping[str, SharedSurrogate] = {
    "sigmoid": SharedSurrogate("Sigmoid", _same("alpha")),
    "atan": SharedSurrogate("ATan", _same("alpha")),
    "triangle": SharedSurrogate("PiecewiseQuadratic", _same("alpha")),
    "rectangle": SharedSurrogate("Rect", (SharedArgument("width", "alpha", _inverse, _inverse),)),
    "piecewise_exp": SharedSurrogate("PiecewiseExp", _same("alpha")),
    "softsign": SharedSurrogate("SoftSign", _same("alpha")),
    "superspike": SharedSurrogate("SuperSpike", _same("alpha")),
    "erf": SharedSurrogate("Erf", _same("alpha")),
    "leaky_k_relu": SharedSurrogate("LeakyKReLU", (*_same("leak"), SharedArgument("slope", "k"))),
    "leaky_rectangle": SharedSurrogate(
        "PiecewiseLeakyReLU",
        (
            SharedArgument("width", "w", lambda width: width / 2, lambda w: 2.0 * w),
            SharedArgument("leak", "c"),
        ),
    ),
    "s2nn": SharedSurrogate("S2NN", _same("alpha", "beta")),
    "q_pseudo_spike": SharedSurrogate("QPseudoSpike", _same("alpha")),
}
"""The surrogates that the standard library and SpikingJelly both have, by the former's names."""

CLASSES: Mapping[str, str] = {"IF": "IFNode", "LIF": "LIFNode", "PLIF": "ParametricLIFNode"}
"""SpikingJelly's neurons by their classes."""


@record
class NeuronMatch:
    """A neuron of SpikingJelly (``IF``, ``LIF`` or ``PLIF``) with its settings.

    ``v_reset`` of None is a soft reset. ``v_start`` is the membrane potential before the first
    step. ``shape`` are the arguments of the surrogate. ``tau`` is for LIF, and what PLIF starts at.
    """

    neuron: str
    v_threshold: float
    v_reset: float | None
    v_start: float
    detach_reset: bool
    surrogate: str
    shape: tuple[tuple[str, float], ...]
    tau: float = 2.0
    decay_input: bool = True

    def settings(self) -> dict[str, Any]:
        """The arguments of its class, beside the surrogate; its layers refuse whole numbers."""
        found: dict[str, Any] = {}
        if self.neuron != "IF":
            found["tau" if self.neuron == "LIF" else "init_tau"] = float(self.tau)
        found["v_threshold"] = float(self.v_threshold)
        found["v_reset"] = None if self.v_reset is None else float(self.v_reset)
        found["detach_reset"] = self.detach_reset
        return found if self.neuron == "IF" else {**found, "decay_input": self.decay_input}


@lru_cache(maxsize=1000)
def match_neuron(program: NeuronProgram) -> NeuronMatch | None:
    """What a program is in SpikingJelly, or None."""
    surrogate = None if program.surrogate is None else match_surrogate(program.surrogate)
    given = dict(program.parameters)
    for name, neuron in NEURONS.items():
        if surrogate is not None and is_standard(program, name):
            v_reset = given.get("v_rest")
            return NeuronMatch(
                neuron,
                given["v_threshold"],
                v_reset,
                0.0 if v_reset is None else v_reset,
                bool(given["detach_reset"]),
                *surrogate,
                tau=_tau(program, neuron),
            )
    return None


def _tau(program: NeuronProgram, neuron: str) -> float:
    match neuron:
        case "LIF":
            return dict(program.parameters)["tau"]
        case "PLIF":
            return 1 + math.exp(-program.learnables[0].raw)
    return 2.0


def is_standard(program: NeuronProgram, name: str) -> bool:
    """Whether a program is a neuron of the standard library, with whatever surrogate."""
    declaration = standard()[name].declaration
    given = dict(program.parameters)
    if not _takes(declaration, given):
        return False
    made = compile_neuron(declaration, given, None, {}, Reporter())
    bare = replace(program, surrogate=None)
    return made is not None and replace(made, name=program.name, surrogate=None) == bare


def match_surrogate(
    surrogate: SurrogateProgram,
) -> tuple[str, tuple[tuple[str, float], ...]] | None:
    """The class of SpikingJelly's surrogate with this derivative and its arguments, or None."""
    given = dict(surrogate.parameters)
    for name, row in SURROGATES.items():
        declaration = standard()[name].declaration
        if not _takes(declaration, given):
            continue
        made = compile_surrogate(declaration, given, Reporter())
        if made is not None and replace(made, name=surrogate.name) == surrogate:
            found = row.to_theirs(given)
            return (row.theirs, tuple(found.items())) if found.get("alpha", 1.0) > 0 else None
    return None


def _takes(declaration: Declaration, given: Mapping[str, object]) -> bool:
    return [param.name for param in declaration.params] == [*given]
