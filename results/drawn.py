"""Draw the networks of results/experiments whose lists are random or whose widths are computed.

::

    python -m results.drawn     # writes drawn.json beside three tables

Each network of a list has its axes, the fewest and the most neurons on a path from input to output, and its
cost: operations for an image in additions, if every neuron fires. A multiplication counts as 4.6 / 0.9
additions, by the energies of ``danetc measure``, and a count as additions of ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

from results.data import HERE

FOLDER = HERE / "experiments"
SPEC = FOLDER / "experiments.danet"
MULTIPLICATION = 4.6 / 0.9
"""Additions with the energy of a multiplication and an addition."""

Row = dict[str, Any]
STREAMS = {"pa_a": "analog", "pa_b": "analog_unnormed"}
"""Networks of connections whose blocks give analog values; others are in ``spiking``."""

RULES = (
    "chain", "densely_additive", "densely_additive_all", "densely_additive_after_opening",
    "chain_all", "dense_shortcut", "window", "any_before", "averaged", "weighted_shortcut",
)  # fmt: skip
CONNECTIONS = ("origin", "tdbn", "baa", "sew", "pa_a", "pa_b")
BLOCKS = range(3, 10)

EQUAL = (
    ("origin", "chain", True),
    ("origin", "densely_additive", True),
    ("origin", "densely_additive_all", True),
    ("origin", "chain_all", True),
    ("sew", "chain", False),
    ("pa_b", "chain", False),
)
"""Connection, rule and zero initialisation of the networks with equal costs; the first has width 8."""

FEEDS = ("last", "sum", "mean", "window", "max", "learnt")
GIVES = ("last", "sum", "mean")
STARTS = {
    "origin": (False, True),
    "origin_plif": (False, True),
    "baa": (False,),
    "baa_plif": (False,),
    "pa_a": (False, True),
    "pa_b": (False, True),
}
"""Values of ``zero_init`` by connection: BAA's blocks do not end with a norm that could start at 0.

Interblock neuron and norm: IF and PLIF behind the addition, with the norm before it (origin) or behind it
(baa); none, with the norm before the addition (pa_a) or behind it (pa_b).
"""


def space() -> list[tuple[str, str, bool]]:
    """Return all networks of the search as connection, rule and zero initialisation."""
    rules = [f"{feed}_{give}" for feed, give in product(FEEDS, GIVES)]
    return [(c, rule, zero) for c, rule in product(STARTS, rules) for zero in STARTS[c]]


def compiled(network: str, axes: Mapping[str, Any]) -> Any:
    """Return the summary of a network on these axes."""
    from danetc.compiler import graph_of
    from danetc.compiler.analysis.summary import summarise
    from danetc.requests import TrainingRequest
    from danetc.tasks.grid.cells import make_cell
    from results.run import networks_of

    own = networks_of(SPEC)[network]
    settings = make_cell(own, axes, TrainingRequest(""), HERE).request.set
    return summarise(graph_of(own.checked, network=network, settings=settings))


def row(network: str, axes: Mapping[str, Any]) -> Row:
    found = compiled(network, axes)
    return {
        "network": network,
        "axes": dict(axes),
        "fewest": found.fewest_neurons,
        "most": found.most_neurons,
        "cost": round(cost(found)),
    }


def cost(found: Any) -> float:
    """Return the operations of a summary in additions."""
    multiplied = found.macs - found.count_macs
    return float(found.additions + found.count_additions + MULTIPLICATION * multiplied)


def widths(width: float) -> dict[str, int]:
    """Return the widths of the four stages, near 1, 2, 4 and 8 times ``width``."""
    names = ("width", "b", "c", "d")
    return {name: round(factor * width) for name, factor in zip(names, (1, 2, 4, 8), strict=True)}


def equal(kind: tuple[str, str, bool], wanted: float) -> Row:
    """Return ResNet-34's shape with the widths whose cost is nearest to ``wanted``.

    The widest network of a common ``width`` within that cost is widened further in its last stage.
    """
    connection, rule, zero = kind
    network = f"{STREAMS.get(connection, 'spiking')}34"
    axes = {"connection": connection, "rule": rule, "zero_init": zero}

    def last(low: int, high: int, of: Callable[[int], Mapping[str, int]]) -> int:
        """Return the last number from ``low`` on, below ``high``, whose widths do not cost more."""
        while high - low > 1:
            middle = (low + high) // 2
            under = cost(compiled(network, axes | of(middle))) <= wanted
            low, high = (middle, high) if under else (low, middle)
        return low

    common = last(8, 192, lambda eighths: widths(eighths / 8))
    base = widths(common / 8)
    more = last(0, 16, lambda more: base | {"d": base["d"] + more})
    rows = [row(network, axes | base | {"d": base["d"] + each}) for each in (more, more + 1)]
    return min(rows, key=lambda each: abs(each["cost"] - wanted))


def paths(count: int = 24, seed: int = 401) -> list[Row]:
    """Return networks drawn from rule x connection x blocks per stage."""
    drawn = random.Random(seed).sample(list(product(RULES, CONNECTIONS, BLOCKS)), count)
    return [
        row(STREAMS.get(c, "spiking"), {"n": n, "connection": c, "rule": rule, "zero_init": False})
        for rule, c, n in drawn
    ]


def search(wanted: float, count: int, seed: int) -> list[Row]:
    """Return networks drawn from the space of the search, with equal costs."""
    return [equal(kind, wanted) for kind in random.Random(seed).sample(space(), count)]


def lists() -> Mapping[str, Mapping[str, Sequence[Row]]]:
    """Return the lists of each experiment."""
    connection, rule, zero = EQUAL[0]
    origin = {"connection": connection, "rule": rule, "zero_init": zero}
    wanted = cost(compiled("spiking34", origin))
    same = [equal(kind, wanted) for kind in EQUAL]
    named = {each["axes"]["connection"] + each["axes"]["rule"]: each for each in same}
    return {
        "equal": {"networks": same},
        "paths": {"networks": paths()},
        "search": {
            "candidates": search(wanted, 36, 601),
            "random": search(wanted, 24, 602),
            "baselines": [named["origindensely_additive"], named["sewchain"]],
            "controls": [equal((c, "last_last", True), wanted) for c in ("pa_a", "pa_b")],
        },
    }


def main() -> None:
    for name, found in lists().items():
        lines = []
        for each, rows in found.items():
            inner = ",\n".join(f"  {json.dumps(every)}" for every in rows)
            lines.append(f"{json.dumps(each)}: [\n{inner}\n]")
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        (FOLDER / name / "drawn.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
