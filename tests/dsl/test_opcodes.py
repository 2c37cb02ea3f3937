"""The table of a neuron's operations: what its columns say of each, on small numbers."""

from __future__ import annotations

from itertools import product
from math import inf, isfinite

import pytest
import torch

from danetc.dsl.neuron.opcodes import ATOM, OPCODES, enclosed, torch_form
from danetc.dsl.ranges import REAL

NUMBERS = (-2.0, -1.5, -0.5, 0.0, 0.5, 1.5, 3.0)


def test_what_exchanges_its_operands_rounds_and_makes_whole_numbers() -> None:
    for name, row in OPCODES.items():
        found: dict[tuple[float, ...], float] = {}
        assert row.value is not None
        for args in product(NUMBERS, repeat=row.arity):
            given = (x > 0 if i in row.conditions else x for i, x in enumerate(args))
            try:
                found[args] = float(row.value(*given))
            except ArithmeticError:
                continue  # of the logarithm of 0, for example
        same = all(found.get(args[::-1]) == value for args, value in found.items())
        assert row.commutes == (same and row.arity == 2), name
        assert row.rounds == any(value * 1024 % 1 for value in found.values()), name
        whole = not any(value % 1 for value in found.values()) and name not in ("sign", "number")
        assert row.step == (whole and row.gives == "number"), name
        assert row.smooth == (not row.step and name != "detach"), name
        logic = row.gives == "condition" and row.arity == 2 and bool(row.conditions)
        assert (row.gives == "condition") == (whole and not row.step), name
        assert row.conditions == (
            (0, 1) if logic else (0,) * (name in ("not", "number", "where"))
        ), name


def test_numbers_are_computed_as_torch_does() -> None:
    for name, row in OPCODES.items():
        form, binds = torch_form(name, tuple("abc"[: row.arity]))
        text = enclosed(form, binds, [(letter, ATOM) for letter in "abc"[: row.arity]], "x")
        assert row.value is not None
        for args in product(NUMBERS, repeat=row.arity):
            given = [x > 0 if i in row.conditions else x for i, x in enumerate(args)]
            tensors = [
                torch.tensor(x, dtype=None if x is True or x is False else torch.float64)
                for x in given
            ]
            scope = {"torch": torch, "x": torch.zeros((), dtype=torch.float64)}
            right = eval(text, {**scope, **dict(zip("abc", tensors, strict=False))}).double().item()
            try:
                found = float(row.value(*given))
            except ArithmeticError:
                assert not isfinite(right), (name, args)
                continue
            assert found == pytest.approx(right, rel=1e-12, nan_ok=True), (name, args)


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
    assert enclosed_operands == 84  # no more parentheses than these


LIMITS = {
    "exp": (0, inf), "log": (-inf, inf), "sqrt": (0, inf), "sigmoid": (0, 1), "tanh": (-1, 1),
    "erf": (-1, 1), "softplus": (0, inf), "sin": (-1, 1), "cos": (-1, 1), "abs": (0, inf),
    "relu": (0, inf), "sign": (-1, 1), "heaviside": (0, 1),
}  # fmt: skip
"""The least and the greatest value of functions of any number."""


def test_ranges_of_all_numbers() -> None:
    unary = {name: row for name, row in OPCODES.items() if (row.arity, row.conditions) == (1, ())}
    assert LIMITS.keys() <= unary.keys()
    for name, row in unary.items():
        found = row.range(REAL)
        low, high = LIMITS.get(name, (-inf, inf))
        assert (found.low, found.high) == (
            pytest.approx(low, abs=1e-6),
            pytest.approx(high, abs=1e-6),
        ), name
