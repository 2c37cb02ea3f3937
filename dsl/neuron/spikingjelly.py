"""Which of SpikingJelly's neurons and surrogates a program is.

The equations are compared in normal form, so it does not matter how they are written: a LIF neuron
that a user wrote is found as well as the standard library's. With polynomials in the input, the
state, the spike and the learnable that are the same, values and gradients are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from danetc.dsl.neuron.polynomial import (
    NotPolynomial,
    Polynomial,
    Quotient,
    close,
    normal_forms,
    same,
)
from danetc.dsl.neuron.program import INPUT, NeuronProgram, SurrogateProgram


@dataclass(frozen=True, slots=True)
class NeuronMatch:
    """A neuron of SpikingJelly (``IF``, ``LIF`` or ``PLIF``) with its settings.

    ``v_reset`` of None is a soft reset. ``v_start`` is the membrane potential before the first
    step. ``tau`` is for LIF alone.
    """

    neuron: str
    v_threshold: float
    v_reset: float | None
    v_start: float
    detach_reset: bool
    surrogate: str
    alpha: float
    tau: float = 2.0
    decay_input: bool = True


def counterpart(program: NeuronProgram) -> NeuronMatch | None:
    """What a program is in SpikingJelly, or None."""
    found = None if program.surrogate is None else surrogate_counterpart(program.surrogate)
    if found is None or len(program.states) != 1 or len(program.learnables) > 1:
        return None
    (state,), (after,) = program.states, program.next_states
    inputs = {INPUT: Polynomial.atom("x"), state.name: Polynomial.atom("u")}
    for item in program.learnables:
        inputs[item.parameter] = Polynomial.atom("w")
    forms = normal_forms(program.ops, inputs)
    spikes = [op for op in program.ops if op.opcode == "heaviside"]
    if len(spikes) != 1 or after not in forms:
        return None
    (spike,) = spikes
    try:
        if forms[program.output] != forms[spike.name]:
            return None
        reset = _reset(
            forms[after].whole(), forms[spike.args[0]].whole(), forms[spike.name].whole()
        )
        if reset is None:
            return None
        charge, threshold, v_reset, detached = reset
        neuron = _charge(charge, 0.0 if v_reset is None else v_reset)
    except (KeyError, NotPolynomial):
        return None
    if neuron is None or (neuron[0] == "PLIF") != bool(program.learnables):
        return None
    name, tau, decay_input = neuron
    return NeuronMatch(
        name, threshold, v_reset, state.init, detached, *found, tau=tau, decay_input=decay_input
    )


def _reset(
    after: Polynomial, membrane: Polynomial, spike: Polynomial
) -> tuple[Polynomial, float, float | None, bool] | None:
    """The charged potential v, the threshold, what v is reset to, and whether r is detached.

    ``membrane`` is v - threshold. The next state is v + r * (v_reset - v), or v - r * threshold
    for a soft reset, where r is the spike or ``detach`` of it.
    """
    plain, detached = after.split("heaviside"), after.split("detach")
    if any(atom.name == "detach" and atom.argument != spike for atom in after.atoms()):
        return None
    if len(plain) + len(detached) != 3:  # one of them to the first power, and not the other
        return None
    charge, factor = plain if len(plain) == 2 else detached
    threshold = (charge - membrane).value
    if threshold is None:
        return None
    back, less = (factor + charge).value, factor.value
    if back is not None:
        return charge, threshold, back, len(detached) == 2
    if less is not None and close(less, -threshold):
        return charge, threshold, None, len(detached) == 2
    return None


def _charge(v: Polynomial, v_reset: float) -> tuple[str, float, bool] | None:
    """Name, tau and ``decay_input`` of the neuron that charges as v says."""
    if any(atom.name not in ("x", "u", "sigmoid") for atom in v.atoms()):
        return None
    gate = Polynomial.atom("w")
    if any(atom.name == "sigmoid" and atom.argument != gate for atom in v.atoms()):
        return None
    terms = v.coefficients()
    if same(terms, {"u": 1.0, "x": 1.0}):
        return "IF", 2.0, True
    leak = 1.0 - terms.get("u", 0.0)
    if 0.0 < leak < 1.0:
        for decay_input, weight in ((True, leak), (False, 1.0)):
            if same(terms, {"u": 1.0 - leak, "x": weight, "": leak * v_reset}):
                return "LIF", 1.0 / (terms["x"] if decay_input else leak), decay_input
    gated = {"u": 1.0, "sigmoid*u": -1.0, "sigmoid": v_reset}
    for decay_input, key in ((True, "sigmoid*x"), (False, "x")):
        if same(terms, {**gated, key: 1.0}):
            return "PLIF", 2.0, decay_input
    return None


def surrogate_counterpart(surrogate: SurrogateProgram) -> tuple[str, float] | None:
    """The class of SpikingJelly's surrogate with this derivative and its alpha, or None."""
    forms = normal_forms(surrogate.ops, {INPUT: Polynomial.atom("x")})
    if isinstance(surrogate.derivative, float) or surrogate.derivative not in forms:
        return None
    found = _surrogate(forms[surrogate.derivative])
    return found if found is not None and found[1] > 0 else None


def _surrogate(slope: Quotient) -> tuple[str, float] | None:
    x = Polynomial.atom("x")
    inside = [*slope.above.atoms(), *slope.below.atoms()]
    inside += [a for atom in inside if atom.argument is not None for a in atom.argument.atoms()]
    if any(atom.name == "abs" and atom.argument != x for atom in inside):
        return None
    divisor = slope.below.value
    if divisor is None:
        return _fraction(slope)
    if not divisor:
        return None
    above = slope.whole()
    terms = above.coefficients()
    atoms = {atom for atom in above.atoms() if atom.argument is not None}
    if len(atoms) != 1:
        return None
    (atom,) = atoms
    assert atom.argument is not None
    inner = atom.argument.coefficients()
    factor = terms.get(atom.name, 0.0)
    match atom.name:
        case "sigmoid":
            alpha = inner.get("x", 0.0)
            if same(inner, {"x": alpha}) and same(terms, {"sigmoid": alpha, "sigmoid^2": -alpha}):
                return "Sigmoid", alpha
        case "relu" if same(terms, {"relu": factor}) and factor > 0:
            alpha = factor * inner.get("", 0.0)
            if same({k: factor * c for k, c in inner.items()}, {"": alpha, "abs": -alpha * alpha}):
                return "PiecewiseQuadratic", alpha
        case "exp" if same(terms, {"exp": factor}):
            if same(inner, {"abs": -2.0 * factor}):
                return "PiecewiseExp", 2.0 * factor
            alpha = factor * math.sqrt(math.pi)
            if same(inner, {"x^2": -alpha * alpha}):
                return "Erf", alpha
        case "lt" if same(terms, {"lt": factor}) and inner.get("abs", 0.0) > 0:
            if same(inner, {"abs": inner["abs"], "": -0.5 * inner["abs"] / factor}):
                return "Rect", factor
    return None


def _fraction(slope: Quotient) -> tuple[str, float] | None:
    """ATan, SoftSign and SuperSpike: a constant over a polynomial of second degree."""
    above, below = slope.above.value, slope.below.coefficients()
    if not above or not below.get(""):
        return None
    below = {key: factor / below[""] for key, factor in slope.below.coefficients().items()}
    height = above / slope.below.coefficients()[""]
    alpha = 2.0 * height
    if same(below, {"": 1.0, "x^2": (math.pi / 2.0 * alpha) ** 2}):
        return "ATan", alpha
    if same(below, {"": 1.0, "abs": 2.0 * alpha, "x^2": alpha * alpha}):
        return "SoftSign", alpha
    if same(below, {"": 1.0, "abs": 2.0, "x^2": 1.0}):
        return "SuperSpike", height
    return None
