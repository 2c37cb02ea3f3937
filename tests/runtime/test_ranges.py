"""Claimed ranges against the numbers that torch computes in float32.

The tests iterate over the table of a neuron's operations, so they cover each new row.
"""

import math
import random
from itertools import product

import pytest
import torch
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from torch import Tensor

from danetc.dsl import ranges
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.kinds import ANALOG, SPIKE, Kind, count
from danetc.dsl.neuron.inference import output_kind, ranges_of
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.ranges import BIT, REAL, NumberRange
from danetc.runtime.kernels.neuron import kernel
from tests.generating import examples
from tests.runtime.conftest import compile_text, evaluated

# -- single operations ----------------------------------------------------------------------------

GRIDS = (
    BIT, NumberRange(-1, 1, 1), NumberRange(0, 4, 1), NumberRange(0, 1, 0.25), NumberRange(-3, 5, 0.5), NumberRange(2, 6, 2),
    *(ranges.constant(value) for value in (0.0, 1.0, -2.0, 0.5, 3.0)),
)  # fmt: skip
REALS = (
    REAL, NumberRange(0, math.inf), NumberRange(-math.inf, 0), NumberRange(0, math.inf, 1), NumberRange(-1, 1), NumberRange(0.1, 0.3),
    NumberRange(2.5, 7), NumberRange(-7, -1e-3), ranges.constant(0.1), ranges.constant(-2.3),
)  # fmt: skip


def members(values: NumberRange) -> list[float]:
    """Members of a range in float32: all of them, or its ends and a sample between."""
    if values.unit and values.is_bounded:
        return values.numbers()
    low, high = max(values.low, -1e6), min(values.high, 1e6)
    draw = random.Random(0)
    found = [low, high, 0.0, 1.0, -1.0, 0.5, 1e-30, *(draw.uniform(low, high) for _ in range(20))]
    found += [draw.gauss(0, 1) for _ in range(20)]
    if values.unit:
        found = [round(value / values.unit) * values.unit for value in found]
    singles = torch.tensor(found, dtype=torch.float32).tolist()
    return [value for value in singles if values.low <= value <= values.high] or [
        float(torch.tensor(values.low, dtype=torch.float32))
    ]


def computed(opcode: str, operands: tuple[NumberRange, ...]) -> list[float]:
    """Finite results of an operation's torch expression for all combinations of the operands' members."""
    columns = torch.tensor(list(product(*map(members, operands))), dtype=torch.float32).T
    conditions = OPCODES[opcode].conditions
    args = [x.bool() if i in conditions else x for i, x in enumerate(columns)]
    return [x for x in evaluated(opcode, args).float().tolist() if math.isfinite(x)]


@pytest.mark.parametrize("opcode", [name for name, info in OPCODES.items() if info.arity == 2])
def test_which_operands_may_be_exchanged(opcode: str) -> None:
    info = OPCODES[opcode]
    values = BIT if info.conditions else NumberRange(0.5, 3, 0.5)
    forward, count = computed(opcode, (values, values)), len(members(values))
    backward = [forward[row + count * column] for row in range(count) for column in range(count)]
    assert info.commutes == (forward == backward)


@pytest.mark.parametrize("opcode", OPCODES)
def test_no_operation_leaves_its_range(opcode: str) -> None:
    info, numbers = OPCODES[opcode], (*GRIDS, *REALS)
    choices = ((BIT,) if i in info.conditions else numbers for i in range(info.arity))
    for operands in product(*choices):
        claimed = info.range(*operands)
        for value in computed(opcode, operands):
            assert claimed.low <= value <= claimed.high, (operands, claimed, value)
            is_whole = not claimed.unit or (value / claimed.unit).is_integer()
            assert is_whole, (operands, claimed, value)


# -- neurons --------------------------------------------------------------------------------------

SURROGATE = "surrogate s { y = sigmoid(x) }"


def compiled(body: str) -> NeuronProgram:
    return compile_text(f"neuron n {{ {body} }}", SURROGATE)


LEAKY = "state u = 0.0; v = 0.5 * u + x; "
KINDS = {
    "s = heaviside(x)": "spike",
    "h = heaviside(x); s = 1 - h": "spike",
    "h = heaviside(x); s = h * (1 - heaviside(x - 2))": "spike",
    "h = heaviside(x); s = max(h, heaviside(-x - 2))": "spike",
    "h = heaviside(x); s = h if x > 3 else 1 - h": "spike",
    "h = heaviside(x); s = detach(h) + h * 0": "spike",
    "s = (x > 1) * heaviside(x)": "spike",
    "state w = 0.5; s = w; w = heaviside(x)": "0 .. 2 of 1/2",
    "s = heaviside(x) if x < 3 else 0.5": "0 .. 2 of 1/2",
    # more than 0 and 1
    "s = heaviside(x) + heaviside(x - 1)": "0 .. 2",
    "s = 2 * heaviside(x)": "0 .. 1 of 2",
    "s = heaviside(x) - 1": "-1 .. 0",
    "s = 2 * heaviside(x) - 1": "-1 .. 1",
    LEAKY + "s = round(min(max(v, 0), 4)); u = v - s": "0 .. 4",
    LEAKY + "s = round(min(max(v, 0), 4)) / 4; u = v - s": "0 .. 4 of 1/4",
    LEAKY + "s = round(4 * sigmoid(v)); u = v - s": "0 .. 4",
    LEAKY + "s = heaviside(v - 1) - heaviside(-v - 1); u = v - s": "-1 .. 1",
    "a = heaviside(x); b = heaviside(x - 1); s = a + b - 2 * a * b": "spike",
    # held by states
    "state d = 0.0; h = heaviside(x); s = d; d = h": "spike",
    "state d = 0.0; state e = 0.0; h = heaviside(x); s = e; e = d; d = h": "spike",
    "state w = 0.0; state v = 1.0; s = w; w = v; v = heaviside(x) * w": "spike",
    "state c = 0.0; h = heaviside(x); c = min(c + h, 8); s = c": "0 .. 8",
    "state c = 0.0; h = heaviside(x); c = 0 if c > 2 else c + h; s = c": "0 .. 3",
    "state a = 0.0; h = heaviside(x); a = a + h - 2 * a * h; s = a": "spike",
    # real
    "s = max(x, 0)": "analog",
    "s = 0.3 * heaviside(x)": "analog",
    "s = heaviside(x) / 3": "analog",
    # rounding depends on the machine: a GPU's quotients and functions round even exact values
    "s = 6 * heaviside(x) / 3": "analog",
    "s = sqrt(4 * heaviside(x))": "analog",
    "s = exp(1000 * (heaviside(x) - 1))": "analog",
    "s = heaviside(x) / 2": "0 .. 1 of 1/2",
    "s = 41 * heaviside(x) * (1 / 41)": "analog",  # 1 in float64, less in float32
    "s = learn(1.0) * heaviside(x)": "analog",
    "state c = 0.0; h = heaviside(x); c = c + h; s = c": "analog",
    "state c = 0.0; s = heaviside(x) * c; c = c + 1": "analog",
    "state u = 0.0; u = u + x; s = u": "analog",
}


@pytest.mark.parametrize(
    ("body", "x", "kind"),
    [
        ("s = max(x, 0)", Kind(-2, 3, 0.5), "0 .. 3 of 1/2"),
        ("state d = 0.0; s = d; d = x", count(5), "0 .. 5"),
        ("s = x * heaviside(x - 2)", count(3), "0 .. 3"),
        ("s = heaviside(x - 2)", SPIKE, "0 .. 0"),
        ("state u = 0.0; v = u + x; s = heaviside(v - 3); u = v * (1 - s)", SPIKE, "spike"),
        ("s = 0.1 * x", SPIKE, "analog"),
    ],
)
def test_kinds_of_what_takes_whole_numbers(body: str, x: Kind, kind: str) -> None:
    assert str(output_kind(compiled(body), x)) == kind


# -- running neurons ------------------------------------------------------------------------------


def seen(program: NeuronProgram, x: Kind, steps: int = 8) -> dict[str, Tensor]:
    """Outputs of 500 neurons over some steps, and all values of their states."""
    step = kernel(program.text())
    generator = torch.Generator().manual_seed(0)
    states = step.initial_states(torch.zeros(500))
    outputs, history = [], [torch.stack(states)] if states else []
    for _ in range(steps):
        if x == ANALOG:
            drive = 2 * torch.randn(500, generator=generator)
        else:
            drive = x.unit * torch.randint(x.low, x.high + 1, (500,), generator=generator)
        params = [torch.tensor(item.raw) for item in program.learnables]
        out, *states = step.step(drive.float(), *states, *params)
        outputs.append(out.expand(500))
        if states:
            history.append(torch.stack(states))
    found = {"output": torch.stack(outputs)}
    for place, state in enumerate(program.states):
        found[state.name] = torch.stack([each[place] for each in history])
    return found


def assert_claimed(program: NeuronProgram, x: Kind = ANALOG) -> dict[str, Tensor]:
    claims = ranges_of(program, x)
    found = seen(program, x)
    for name, values in found.items():
        claimed = claims[program.output if name == "output" else name]
        assert claimed.low <= values.min(), (program.text(), name, claimed)
        assert values.max() <= claimed.high, (program.text(), name, claimed)
        if claimed.unit:
            units = values.double() / claimed.unit
            assert torch.equal(units, units.round()), (program.text(), name, claimed)
    return found


@pytest.mark.parametrize("body", KINDS)
def test_neurons_give_what_they_are_said_to_give(body: str) -> None:
    """Where the kind is an integer range, the output also reaches both ends."""
    program = compiled(body)
    kind = output_kind(program)
    assert str(kind) == KINDS[body]
    values = assert_claimed(program)["output"]
    if kind.is_integer:
        assert (values.min(), values.max()) == (kind.low * kind.unit, kind.high * kind.unit)


LEAVES = ("h", "g", "r", "a", "b", "x", "v")
NUMBERS = ("1", "2", "0.5", "3", "0.3", "-1")


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    other = inner | st.sampled_from(NUMBERS)
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), other),
        st.builds("({} / {})".format, inner, st.sampled_from(("2", "4", "3", "(1 + h)"))),
        st.builds("{}({}, {})".format, st.sampled_from(("min", "max")), inner, other),
        st.builds(
            "{}({})".format,
            st.sampled_from(("round", "heaviside", "abs", "tanh", "sin", "-")),
            inner,
        ),
        st.builds("({} if {} > {} else {})".format, inner, inner, other, inner),
    )


@st.composite
def bodies(draw: st.DrawFn) -> str:
    def expression(*names: str) -> str:
        return draw(st.recursive(st.sampled_from(names), combined, max_leaves=6))

    return "; ".join(
        (
            "state a = 0", "state b = 1", "h = heaviside(x)", "g = heaviside(x - 1)",
            f"v = {expression('x', 'a', 'b', 'h')}", "r = round(min(max(v, 0), 3))",
            f"s = {expression(*LEAVES)} + 0 * x", f"a = {expression('h', 'g', 'r', 'a', 'b')}",
            f"b = {expression('h', 'r', 's', 'b')}",
        )
    )  # fmt: skip


@pytest.mark.thorough
@examples(20)
@given(bodies(), st.sampled_from([ANALOG, SPIKE, count(3), Kind(-1, 1, 1.0), Kind(-2, 3, 0.5)]))
def test_generated_neurons_give_what_they_are_said_to_give(body: str, x: Kind) -> None:
    try:
        program = compiled(body)
    except SpecError:
        reject()
    found = seen(program, x)
    assume(all(values.abs().max() < 1e30 for values in found.values()))
    assert_claimed(program, x)
