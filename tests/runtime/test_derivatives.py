"""Every operation of the two tables against finite differences in float64.

The tests iterate over the tables, so they cover each new row.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.compiler.analysis.summary import weights_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Attribute, Value
from danetc.compiler.ir.ops import OPS, REQUIRED, Op
from danetc.compiler.ir.ops.row import nothing
from danetc.compiler.lowering.builder import Builder
from danetc.compiler.lowering.values import Failed, Wire
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.kinds import ANALOG
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import INPUT, NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.source import NOWHERE
from danetc.runtime.checks.propositions import first_step
from danetc.runtime.kernels.neuron import kernel

# -- functions of equations -----------------------------------------------------------------------

OPERANDS = (INPUT, "u", "w")
SURROGATE = "surrogate bump; z = mul 3.0 x; y = tanh z; q = mul y y; slope = sub 1.0 q; dy slope"


def program_of(opcode: str) -> NeuronProgram:
    """A neuron with one operation on its input and two constant states, or on the states' comparisons."""
    info = OPCODES[opcode]
    args = arguments(opcode, OPERANDS, ("c0", "c1"))
    parts = ["neuron n", "state u = 0.0", "state w = 0.0", "c0 = lt u w", "c1 = gt u w"]
    parts.append(f"y = {opcode} {' '.join(args)}")
    out = "s" if info.gives == "condition" else "y"
    parts += ["s = number y"] * (out == "s")
    parts += ["next u = u", "next w = w", f"out {out}", SURROGATE]
    return read_program("; ".join(parts))


def arguments(opcode: str, numbers: Sequence[Any], conditions: Sequence[Any]) -> list[Any]:
    """The operands of an operation, each the next number or condition."""
    given, info = {True: iter(conditions), False: iter(numbers)}, OPCODES[opcode]
    return [next(given[place in info.conditions]) for place in range(info.arity)]


def value_at(opcode: str, x: float, u: float, w: float) -> float:
    return float(OPCODES[opcode].value(*arguments(opcode, (x, u, w), (u < w, u > w))))


def points(opcode: str) -> Tensor:
    """Points [3, points] of distinct x, u and w at which an operation is defined."""
    rows = []
    for x, u, w in product((-1.7, -0.4, 0.3, 1.1, 2.2), repeat=3):
        with suppress(Exception):
            value_at(opcode, x, u + 0.03, w + 0.07)
            rows.append((x, u + 0.03, w + 0.07))
    return torch.tensor(rows, dtype=torch.float64).T


@pytest.mark.parametrize("opcode", OPCODES)
def test_the_values_of_a_function(opcode: str) -> None:
    values, at = program_of(opcode), points(opcode)
    output = kernel(values.text()).step(*at)[0]
    for found, point in zip(output.tolist(), at.T.tolist(), strict=True):
        assert found == pytest.approx(value_at(opcode, *point), rel=1e-14)
    free = values.text().replace("u = 0.0", "u = 0.33").replace("w = 0.0", "w = 1.17")
    start = torch.stack([at[0], torch.full_like(at[0], 0.33), torch.full_like(at[0], 1.17)])
    plain = first_step(read_program(free), at[0])
    torch.testing.assert_close(plain, kernel(free).step(*start)[0], rtol=1e-14, atol=0)


# -- operations of networks -----------------------------------------------------------------------

STEPS, BATCH, SHAPE = 2, 3, (4, 4, 4)
SHAPES: Mapping[str, tuple[int, ...]] = {
    "steps_as_axis": (1, 4, 4),
    "axis_as_steps": (2, 4, 4),
    "swap_with_time": (2, 4, 4),
    "mix": (4, 1, 1),
    "reshape": (1, 1, 2),
}
SMOOTH = "neuron n; state u = 0.1; learn w = 0.3; v = mul u w; q = add v x; s = tanh q; next u = q; out s"


def attributes(row: Op) -> list[dict[str, Attribute]]:
    """Attribute sets to test a row with: its defaults, each flag inverted, each word."""
    plain: dict[str, Attribute] = {}
    parameters = [parameter for parameter in row.parameters if not parameter.sugar]
    for parameter in parameters:
        required = parameter.default is REQUIRED
        examples = {int: 2, float: 0.7, bool: True, str: (*parameter.words, "")[0], object: None}
        plain[parameter.name] = examples[parameter.type]
        if parameter.name == "b":
            plain["b"] = "rows"
        if not required and parameter.name != "groups":
            plain[parameter.name] = parameter.default
    flags = [parameter.name for parameter in parameters if parameter.type is bool]
    # ``init`` takes arguments of its own and has no derivative
    words = [(p.name, w) for p in parameters if p.type is str and p.name != "init" for w in p.words]
    return [
        plain,
        *({**plain, name: not plain[name]} for name in flags),
        *(
            {
                **plain,
                **({"groups": 1} if name == "over" and word != "channels" else {}),
                name: word,
            }
            for name, word in words
            if word != plain[name]
        ),
    ]


def is_sugar(row: Op, attrs: dict[str, Attribute]) -> bool:
    """Whether graphs replace the operation with another one, or it is the input."""
    if row.emit is nothing or "time" in (attrs.get("a"), attrs.get("b")):
        return True
    return row.stands_for is not None and row.stands_for(attrs, lambda: 1.0)[0] != row.name


def made(
    row: Op, attrs: dict[str, Attribute], shape: tuple[int, ...]
) -> tuple[Builder, Wire | None]:
    """A network with one operation on distinct operands; the wire is None if it rejects them."""
    builder = Builder(Reporter())
    builder.steps = STEPS
    moves = row.time != "creates"
    x = builder.add("input", (), {"events": moves}, NOWHERE, value=Value(shape, ANALOG, moves))
    operands = [
        builder.add("affine", (x,), {"factor": 1.0 - 0.4 * place, "offset": 0.3 * place}, NOWHERE)
        for place in range(max(1, row.operands[0] + (row.operands[1] is None)))
    ]
    if row.stands_for is not None:
        attrs = {**row.stands_for(attrs, lambda: 1.0)[1]}  # is_sugar excludes other names
    if row.name == "neuron":
        attrs = {"neuron": builder.neuron_key(read_program(SMOOTH))}
    try:
        return builder, builder.add(row.name, tuple(operands), attrs, NOWHERE)
    except Failed:
        return builder, None


CASES = [
    pytest.param(row, attrs, shape, id=f"{row.name}-{number}-{len(shape)}")
    for row in OPS.values()
    if not row.opaque and row.name not in ("embedding", "random")  # of tokens; of no value
    for shape in (SHAPES.get(row.name, SHAPE), SHAPE[:1])
    for number, attrs in enumerate(attributes(row))
    if not is_sugar(row, attrs) and row.operands != (0, 0)  # without inputs
]


@pytest.mark.parametrize(("row", "attrs", "shape"), CASES)
def test_derivatives(row: Op, attrs: dict[str, Attribute], shape: tuple[int, ...]) -> None:
    builder, result = made(row, attrs, shape)
    if result is None:
        other = SHAPES.get(row.name, SHAPE) if len(shape) == 1 else SHAPE[:1]
        _, result = made(row, attrs, other)
        assert result is not None, "no shape of the test suits this operation"
        return
    graph = builder.finish("n", {"out": result.id}, (), 0)
    model = emit(graph, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    lead = (BATCH,) if row.time == "creates" else (STEPS, BATCH)
    x = torch.rand(*lead, *shape, generator=generator, dtype=torch.float64) + 0.4
    names = [name for name, _ in model.named_parameters()]
    values = [
        value.detach() + 0.2 * torch.rand(value.shape, generator=generator).double()
        for _, value in model.named_parameters()
    ]

    def run(x: Tensor, *parameters: Tensor) -> Any:
        torch.manual_seed(3)  # each run draws the same numbers
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))

    if row.gradient:
        inputs = (x.requires_grad_(), *(value.requires_grad_() for value in values))
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    else:
        y = run(x.requires_grad_())
        assert not y.requires_grad
        # only linear operations and running means may vary without passing a gradient
        same = row.linear or row.name == "running_mean" or torch.equal(y, run(x + 1e-9))
        assert same, "no gradient passes, and the value is not constant"
    *_, operation = graph.nodes.values()
    assert operation.op == row.name
    assert sum(value.numel() for value in values) == weights_of(graph, operation)
