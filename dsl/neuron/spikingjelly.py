"""SpikingJelly's neurons and surrogates that a program equals.

A program is the standard library's ``LIF``, say, if that declaration, compiled with the parameters
of the program, has the same operations. So a copy under another name is found, and a neuron with
different equations is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import standard
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.neuron.program import NeuronProgram, SurrogateProgram
from danetc.dsl.record import record


@record
class SharedSurrogate:
    """A surrogate of both libraries: SpikingJelly's class, and our and their name of each argument.

    Their number is ours times the factor, or the inverse of ours if the factor is None.
    """

    theirs: str
    arguments: tuple[tuple[str, str, float | None], ...] = (("alpha", "alpha", 1.0),)

    def to_theirs(self, given: Mapping[str, float]) -> dict[str, float]:
        """Convert our arguments to those of SpikingJelly's class."""
        return {
            theirs: 1.0 / given[ours] if factor is None else given[ours] * factor
            for ours, theirs, factor in self.arguments
        }


SURROGATES: Mapping[str, SharedSurrogate] = {
    "sigmoid": SharedSurrogate("Sigmoid"),
    "atan": SharedSurrogate("ATan"),
    "triangle": SharedSurrogate("PiecewiseQuadratic"),
    "rectangle": SharedSurrogate("Rect", (("width", "alpha", None),)),
    "piecewise_exp": SharedSurrogate("PiecewiseExp"),
    "softsign": SharedSurrogate("SoftSign"),
    "superspike": SharedSurrogate("SuperSpike"),
    "erf": SharedSurrogate("Erf"),
    "leaky_k_relu": SharedSurrogate("LeakyKReLU", (("leak", "leak", 1.0), ("slope", "k", 1.0))),
    "leaky_rectangle": SharedSurrogate(
        "PiecewiseLeakyReLU", (("width", "w", 0.5), ("leak", "c", 1.0))
    ),
    "s2nn": SharedSurrogate("S2NN", (("alpha", "alpha", 1.0), ("beta", "beta", 1.0))),
    "q_pseudo_spike": SharedSurrogate("QPseudoSpike"),
}
"""Surrogates of both libraries, by our names."""

CLASSES: Mapping[str, str] = {"IF": "IFNode", "LIF": "LIFNode", "PLIF": "ParametricLIFNode"}
"""Classes of SpikingJelly's neurons."""


@record
class NeuronMatch:
    """A neuron of SpikingJelly (``IF``, ``LIF`` or ``PLIF``) with its settings.

    ``v_reset`` is None for a soft reset. ``shape`` are the arguments of the surrogate. ``tau`` is that
    of LIF, and the first one of PLIF.
    """

    neuron: str
    v_threshold: float
    v_reset: float | None
    detach_reset: bool
    tau: float
    surrogate: str
    shape: tuple[tuple[str, float], ...]

    def settings(self) -> dict[str, Any]:
        """Arguments of the class except the surrogate, as floats."""
        found = {
            "v_threshold": float(self.v_threshold),
            "v_reset": None if self.v_reset is None else float(self.v_reset),
            "detach_reset": self.detach_reset,
        }
        if self.neuron == "IF":
            return found
        tau = "tau" if self.neuron == "LIF" else "init_tau"
        return {tau: float(self.tau), **found, "decay_input": True}


@lru_cache(maxsize=1000)
def match_neuron(program: NeuronProgram) -> NeuronMatch | None:
    """Return SpikingJelly's neuron that equals a program, or None. ``IF_soft`` resets softly."""
    surrogate = None if program.surrogate is None else match_surrogate(program.surrogate)
    names = [n for n in CLASSES if is_standard(program, n) or is_standard(program, f"{n}_soft")]
    if surrogate is None or not names:
        return None
    given = dict(program.parameters)
    tau = given.get("tau", 2.0)
    if names[0] == "PLIF":
        tau = 1 + math.exp(-program.learnables[0].raw)
    threshold, detach = given["v_threshold"], bool(given["detach_reset"])
    return NeuronMatch(names[0], threshold, given.get("v_rest"), detach, tau, *surrogate)


def is_standard(program: NeuronProgram | SurrogateProgram, name: str) -> bool:
    """True if a program is a surrogate, or a neuron with any surrogate, of the standard library."""
    declaration, given = standard()[name].declaration, dict(program.parameters)
    if [param.name for param in declaration.params] != [*given]:
        return False
    if isinstance(program, SurrogateProgram):
        slope = compile_surrogate(declaration, given, Reporter())
        return slope is not None and replace(slope, name=program.name) == program
    made = compile_neuron(declaration, given, None, {}, Reporter())
    return made is not None and replace(made, name=program.name) == replace(program, surrogate=None)


def match_surrogate(
    surrogate: SurrogateProgram,
) -> tuple[str, tuple[tuple[str, float], ...]] | None:
    """Return the class and arguments of SpikingJelly's surrogate with this derivative, or None."""
    row = next((row for name, row in SURROGATES.items() if is_standard(surrogate, name)), None)
    if row is None:
        return None
    found = row.to_theirs(dict(surrogate.parameters))
    return (row.theirs, tuple(found.items())) if found.get("alpha", 1.0) > 0 else None
