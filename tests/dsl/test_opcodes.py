"""The table of a neuron's operations: what its columns say of each, on small numbers."""

from __future__ import annotations

from itertools import product

from danetc.dsl.neuron.opcodes import OPCODES

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
