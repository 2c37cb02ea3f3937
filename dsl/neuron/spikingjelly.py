"""Which of SpikingJelly's neurons and surrogates a program is.

They are found by declaration and parameters: a program is the standard library's ``LIF``, say, where
that declaration, compiled with the program's parameters, gives the same operations. So a copy of it
under another name is found too, and one whose equations were changed is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import TypeAlias

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.neuron.program import NeuronProgram, SurrogateProgram
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
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


def _alpha(given: Given) -> dict[str, float]:
    return {"alpha": given["alpha"]}


SURROGATES: Mapping[str, tuple[str, Callable[[Given], dict[str, float]]]] = {
    "sigmoid": ("Sigmoid", _alpha),
    "atan": ("ATan", _alpha),
    "triangle": ("PiecewiseQuadratic", _alpha),
    "rectangle": ("Rect", lambda given: {"alpha": 1.0 / given["width"]}),
    "piecewise_exp": ("PiecewiseExp", _alpha),
    "softsign": ("SoftSign", _alpha),
    "superspike": ("SuperSpike", _alpha),
    "erf": ("Erf", _alpha),
    "leaky_k_relu": ("LeakyKReLU", lambda given: {"leak": given["leak"], "k": given["slope"]}),
    "leaky_rectangle": (
        "PiecewiseLeakyReLU",
        lambda given: {"w": given["width"] / 2, "c": given["leak"]},
    ),
    "s2nn": ("S2NN", lambda given: {"alpha": given["alpha"], "beta": given["beta"]}),
    "q_pseudo_spike": ("QPseudoSpike", _alpha),
}
"""The standard library's surrogates and SpikingJelly's, with the arguments that these take."""


@dataclass(frozen=True, slots=True)
class NeuronMatch:
    """A neuron of SpikingJelly (``IF``, ``LIF`` or ``PLIF``) with its settings.

    ``v_reset`` of None is a soft reset. ``v_start`` is the membrane potential before the first
    step. ``shape`` are the arguments of the surrogate. ``tau`` is for LIF alone.
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
                tau=given["tau"] if neuron == "LIF" else 2.0,
            )
    return None


def is_standard(program: NeuronProgram, name: str) -> bool:
    """Whether a program is a neuron of the standard library, with whatever surrogate."""
    declaration = _standard("neurons.danet")[name]
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
    for name, (theirs, arguments) in SURROGATES.items():
        declaration = _standard("surrogates.danet")[name]
        if not _takes(declaration, given):
            continue
        made = compile_surrogate(declaration, given, Reporter())
        if made is not None and replace(made, name=surrogate.name) == surrogate:
            found = arguments(given)
            return (theirs, tuple(found.items())) if found.get("alpha", 1.0) > 0 else None
    return None


def _takes(declaration: Declaration, given: Mapping[str, object]) -> bool:
    return [param.name for param in declaration.params] == [*given]


@cache
def _standard(file: str) -> Mapping[str, Declaration]:
    """The declarations of a file of the standard library."""
    text = files("danetc.dsl.std").joinpath(file).read_text("utf-8")
    return {item.name: item for item in parse(SourceFile(file, text), Reporter()).declarations}
