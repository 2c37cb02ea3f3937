"""The table of neuron operations: its columns, and kernels made from the operations."""

import math
from itertools import product
from math import inf, isfinite

import numpy as np
import pytest
import torch
from torch import Tensor

from danetc.dsl.neuron import kernel_text
from danetc.dsl.neuron.kernel_text import kernel_source
from danetc.dsl.neuron.opcodes import ATOM, OPCODES, enclosed, torch_form
from danetc.dsl.neuron.ssa import needed
from danetc.dsl.ranges import REAL
from danetc.runtime.kernels.neuron import spread, total
from tests.runtime.conftest import compile_text

NUMBERS = (-2.0, -1.5, -0.5, 0.0, 0.5, 1.5, 3.0)
ZERO = torch.zeros((), dtype=torch.float64)


def test_numbers_are_those_of_torch_and_of_the_columns() -> None:
    for name, row in OPCODES.items():
        form, binds = torch_form(name, tuple("abc"[: row.arity]))
        text = enclosed(form, binds, [(letter, ATOM) for letter in "abc"[: row.arity]], "x")
        found: dict[tuple[float, ...], float] = {}
        assert row.value is not None
        for args in product(NUMBERS, repeat=row.arity):
            given = [x > 0 if i in row.conditions else x for i, x in enumerate(args)]
            tensors = (torch.tensor(x if isinstance(x, bool) else np.float64(x)) for x in given)
            scope = dict(zip("abc", tensors, strict=False)) | {"torch": torch, "x": ZERO}
            right = eval(text, scope).double().item()
            try:
                found[args] = float(row.value(*given))
            except ArithmeticError:  # for example, the logarithm of 0
                assert not isfinite(right), (name, args)
                continue
            assert found[args] == pytest.approx(right, rel=1e-12, nan_ok=True), (name, args)
        same = all(found.get(args[::-1]) == value for args, value in found.items())
        assert row.commutes == (same and row.arity == 2), name
        assert row.rounds == any(value * 1024 % 1 for value in found.values()), name
        whole = not any(value % 1 for value in found.values()) and name not in ("sign", "number")
        assert row.step == (whole and row.gives == "number"), name
        assert row.smooth == (not row.step and name != "detach"), name
        logic = row.gives == "condition" and row.arity == 2 and bool(row.conditions)
        assert (row.gives == "condition") == (whole and not row.step), name
        one = (0,) * (name in ("not", "number", "where"))
        assert row.conditions == ((0, 1) if logic else one), name


def test_operations_of_operations_keep_their_order() -> None:
    draws = torch.randn(6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    enclosed_operands = 0
    for (outer, o), (inner, i) in product(OPCODES.items(), repeat=2):
        for place in (
            at for at in range(o.arity) if (at in o.conditions) == (i.gives == "condition")
        ):
            scope = {**dict(zip("abcdef", draws, strict=True)), "torch": torch, "x": draws[0]}
            for row, names in ((o, "abc"), (i, "def")):
                scope |= {names[at]: scope[names[at]] > 0 for at in row.conditions}
            form, binds = torch_form(inner, tuple("def"[: i.arity]))
            text = enclosed(form, binds, [(name, ATOM) for name in "def"[: i.arity]], "x")
            scope["v"] = eval(text, dict(scope))
            form, needs = torch_form(outer, tuple("abc"[: o.arity]))
            operands = [(name, ATOM) for name in "abc"[: o.arity]]
            wholes = []
            for operands[place] in ((text, binds[0]), ("v", ATOM)):
                wholes.append(enclosed(form, needs, operands, "x"))
            found, right = (eval(whole, dict(scope)).double().nan_to_num() for whole in wholes)
            assert torch.equal(found, right), wholes
            enclosed_operands += (
                wholes[0] == wholes[1].replace("v", f"({text})") != wholes[1].replace("v", text)
            )
    assert enclosed_operands == 84  # only these operands are in parentheses


LIMITS = {
    "exp": (0, inf), "log": (-inf, inf), "sqrt": (0, inf), "sigmoid": (0, 1), "tanh": (-1, 1),
    "erf": (-1, 1), "softplus": (0, inf), "sin": (-1, 1), "cos": (-1, 1), "abs": (0, inf),
    "relu": (0, inf), "sign": (-1, 1), "heaviside": (0, 1),
}  # fmt: skip
"""The least and the greatest value of each function over all numbers."""


def test_ranges_of_all_numbers() -> None:
    unary = {name: row for name, row in OPCODES.items() if (row.arity, row.conditions) == (1, ())}
    assert LIMITS.keys() <= unary.keys()
    for name, row in unary.items():
        found = row.range(REAL)
        low, high = LIMITS.get(name, (-inf, inf))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6), name


# -- cheaper kernels give the same results as kernels of the original operations ------------------


NEURONS = {
    "hard": "state u = 0.0; v = u + x; s = heaviside(v - 1.0); u = v * (1 - s)",
    "rest": "state u = 0.1; v = u + x; s = heaviside(v - 1.0); u = v * (1 - s) + 0.1 * s",
    "detached": "state u = 0.0; v = u + x; s = heaviside(v - 1); r = detach(s); u = (1 - r) * v",
    "soft": "state u = 0.0; v = 0.5 * u + x; s = heaviside(v - 1.0); u = v - s",
    "strict": "state u = 0.0; v = u + x; s = 1 - heaviside(1.0 - v); u = v * (1 - s)",
    "gated": "state u = 0.0; v = u + x; s = heaviside(v); u = s * v",
    "learnt": "state u = 0.0; w = learn(0.4); v = u + x; s = heaviside(v - w); u = w * s + v * (1 - s)",
}
VALUES = [-3.0, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 2.5, math.nan, inf, -inf]


def results(source: str, learnables: int) -> list[Tensor]:
    scope: dict[str, object] = {"torch": torch, "spread": spread, "total": total}
    exec(source, scope)
    around_one = (math.nextafter(1.0, 0.0), math.nextafter(1.0, 2.0))
    axis = torch.tensor([*VALUES, *around_one], dtype=torch.float64)
    x, u, g, g0 = (value.flatten() for value in torch.meshgrid(*[axis] * 4, indexing="ij"))
    p = [torch.tensor(0.4, dtype=torch.float32)] * learnables
    return [*scope["step"](x, u, *p), *scope["step_vjp"](x, u, *p, g, g0)]  # type: ignore[operator]


@pytest.mark.parametrize("name", NEURONS)
def test_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate = "surrogate sigmoid { y = 1 / (1 + exp(-3 * x)) }"
    neuron = compile_text(f"neuron n {{ {NEURONS[name]} }}", surrogate)
    source = kernel_source(neuron)
    monkeypatch.setattr(kernel_text, "cheaper", needed)
    written = kernel_source(neuron)
    assert source != written
    count = len(neuron.learnables)
    for seen, expected in zip(results(source, count), results(written, count), strict=True):
        assert seen.dtype == expected.dtype
        torch.testing.assert_close(seen, expected, rtol=0, atol=0, equal_nan=True)
