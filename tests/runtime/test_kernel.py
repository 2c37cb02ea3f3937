"""Generated kernels against an interpreter of the syntax tree under torch's own autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.equations import compile_neuron
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import (
    Binary,
    Call,
    Declaration,
    Expr,
    IfElse,
    Name,
    Number,
    State,
    Unary,
)
from danetc.runtime.kernels.neuron import kernel
from tests.generating import examples
from tests.surrogates import sigmoid, step
from tests.written import neuron_text

SURROGATE = "surrogate sigmoid { y = 1 / (1 + exp(-3 * x)) }"


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        below = torch.floor(v)  # not torch.round: the other way to the even one of two halves
        up = (v - below > 0.5) | ((v - below == 0.5) & (below % 2 == 1))
        return below + up

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def evaluate(expr: Expr, names: dict[str, Tensor]) -> Any:
    """The value of an expression, straight from the tree."""
    match expr:
        case Name(id):
            return names[id]
        case Number():
            return float(expr.value)
        case Unary("-", a):
            return -evaluate(a, names)
        case Unary(_, a):
            return (evaluate(a, names) == 0).double()
        case IfElse(then, condition, otherwise):
            a, b = evaluate(then, names), evaluate(otherwise, names)
            return torch.where(evaluate(condition, names) != 0, a, b)
        case Call(Name(function), args):
            return call(function, [evaluate(arg.value, names) for arg in args])
        case Binary(op, left, right):
            a, b = evaluate(left, names), evaluate(right, names)
            match op:
                case "+":
                    return a + b
                case "-":
                    return a - b
                case "*":
                    return a * b
                case "/":
                    return a / b
                case "<":
                    return (a < b).double()
                case ">=":
                    return (a >= b).double()
                case "and":
                    return ((a != 0) & (b != 0)).double()
                case "or":
                    return ((a != 0) | (b != 0)).double()
    raise AssertionError(expr)


def call(function: str, args: list[Any]) -> Tensor:
    match function:
        case "heaviside":
            return step(args[0], sigmoid(3))
        case "round":
            return Round.apply(args[0])  # type: ignore[no-any-return]
        case "detach":
            return args[0].detach()  # type: ignore[no-any-return]
        case "min" | "max":
            a, b = args
            if isinstance(b, float):
                return torch.clamp(a, **{"min" if function == "max" else "max": b})
            return getattr(torch, f"{function}imum")(a, b)  # type: ignore[no-any-return]
        case _:
            return getattr(torch, function)(args[0])  # type: ignore[no-any-return]


def interpret(neuron: Declaration, x_seq: Tensor, w: Tensor) -> Tensor:
    names = {"w": w}
    assert neuron.body is not None
    out = []
    for item in neuron.body:
        if isinstance(item, State):
            names[item.name] = torch.full_like(x_seq[0], evaluate(item.value, {}))
    for x in x_seq:
        names["x"] = x
        for item in neuron.body:
            if not isinstance(item, State) and item.name != "w":
                names[item.name] = evaluate(item.value, names)  # type: ignore[union-attr,arg-type]
        out.append(names["s"])
    return torch.stack(out)


CONSTANT = st.sampled_from(["0.5", "1.5", "2", "0.3"])


def combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    other = inner | CONSTANT
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), other),
        st.builds("({} {} {})".format, CONSTANT, st.sampled_from("+-*"), inner),
        st.builds("({} / (abs({}) + 0.7))".format, other, inner),
        st.builds("({} / 1.7)".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("exp(tanh({}))".format, inner),
        st.builds("log(abs({}) + 0.7)".format, inner),
        st.builds("sqrt(abs({}) + 0.7)".format, inner),
        st.builds(
            "{}({})".format,
            st.sampled_from(["sigmoid", "abs", "detach", "heaviside", "round"]),
            inner,
        ),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, other),
        st.builds("({} if {} < {} else {})".format, inner, inner, other, inner),
        st.builds(
            "({} if {} >= 0.3 {} not ({} < 0.6) else {})".format,
            *(inner, inner, st.sampled_from(["and", "or"]), inner, inner),
        ),
        st.builds("({} * ({} >= {}))".format, inner, inner, other),
    )


@st.composite
def neurons(draw: st.DrawFn) -> str:
    def expression(*names: str) -> str:
        leaves = st.sampled_from(names)
        return draw(st.recursive(leaves, combine, max_leaves=6))

    lines = ["state u = 0.5", "state b = 0", "w = learn(0.4)"]
    lines.append(f"v = {expression('x', 'u', 'w', 'b')}")
    lines.append(f"u = {expression('v', 'u', 'x')}")
    lines.append(f"s = {expression('v', 'u', 'w', 'x')} + 0.1 * tanh(w * x)")
    lines.append(f"b = {expression('s', 'b', 'u', 'w')}")
    return "neuron random { " + "; ".join(lines) + " }"


def compiled(text: str) -> tuple[Declaration, NeuronProgram | None]:
    reporter = Reporter()
    neuron, surrogate = parse(SourceFile("test", f"{text}\n{SURROGATE}"), reporter).declarations
    program = compile_neuron(neuron, {}, surrogate, {}, reporter)
    assert (program is None) == bool(reporter.diagnostics)
    return neuron, program


def gradients(out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weight = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype).view(out.shape)
    return torch.autograd.grad((out * weight).sum(), inputs)


@pytest.mark.thorough
@examples(15)
@given(neurons(), st.integers(0, 10**6), st.booleans())
def test_generated_neurons(text: str, seed: int, static: bool) -> None:
    """Outputs, gradients of the input and of the learnable of random neurons over three steps."""
    neuron, program = compiled(text)
    assert program is not None
    assert read_program(program.text()) == program
    torch.manual_seed(seed)
    x = torch.randn(4, 3, dtype=torch.float64) if static else torch.randn(3, 4, 3).double()
    x.requires_grad_()
    w = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    expected = interpret(neuron, torch.stack([x] * 3) if static else x, w)
    assume(bool(expected.detach().abs().max() < 1e6))
    out = torch.ops.danetc.neuron(x, [w], 3, 1, program.text())
    if not program.is_stateful:  # no time without states: one value for all steps
        assert out.shape == x.shape
        out = out.expand(expected.shape)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    for grad, other in zip(gradients(out, x, w), gradients(expected, x, w), strict=True):
        scale = 1 + other.abs().max().item()
        torch.testing.assert_close(grad, other, rtol=1e-9, atol=1e-9 * scale)


def written(program: NeuronProgram) -> nn.Module:
    """The neuron as ``model.py`` has it."""
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "Tensor": Tensor, "math": math}
    label, text = neuron_text(program)
    exec(text, scope)
    made: nn.Module = scope[label]().double()
    return made


def test_a_state_that_the_step_only_writes_from_scalars() -> None:
    """A scalar of the layer as a state: spread over the tensor, its gradient summed."""
    neuron, program = compiled(
        "neuron n { state u = 0.0; w = learn(0.4); v = x * u + w; u = w * 2; s = v }"
    )
    assert program is not None
    assert "spread" in kernel(program.text()).source
    x = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    out = torch.ops.danetc.neuron(x, [w], 3, 1, program.text())
    expected = interpret(neuron, x, w)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradients(out, x, w), gradients(expected, x, w))
    torch.testing.assert_close(written(program)(x), expected)
