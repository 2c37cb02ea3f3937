"""Rules and connections similar to DANet-C (results/beyond), and readings of the paper's rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from results.data import (
    ALL,
    CHAIN,
    EQ_11,
    HERE,
    RULES,
    Cell,
    Interval,
    paired,
    pick,
    read_cells,
)
from results.predictions import BORNE_OUT, REFUTED, UNDECIDED, WAITS, Outcome
from results.tables import accuracies, predicted, table

FOLDER = HERE / "beyond"
SHAPES = {"shape34": "ResNet-34's shape", "nine": "9 blocks a stage"}
BASES = (
    (CHAIN, False),
    (EQ_11, False),
    (EQ_11, True),
    (ALL, False),
    (ALL, True),
)
"""Networks of the paper, by rule and zero initialisation."""

ZERO = ", zero-initialised"
Kind = tuple[str, str, bool]
"""Connection, rule, and True if last norms are zero-initialised."""


def found(cells: Sequence[Cell], network: str, kind: Kind) -> list[Cell]:
    """Return the trained cells of a network, ordered by seed."""
    wanted = dict(zip(("connection", "rule", "zero_init"), kind, strict=True))
    own = [
        cell
        for cell in cells
        if cell.record["network"] == network
        and all(cell.axes[name] == value for name, value in wanted.items())
    ]
    return sorted(own, key=lambda cell: cell.seed)


def base(cells: Sequence[Cell], network: str, rule: str, zero: bool = False) -> list[Cell]:
    """Return the cells of Origin's blocks that were trained for the paper's part, in the same network."""
    if network == "nine":
        return pick(cells, connection="origin", rule=rule, n=9, zero_init=zero)
    return pick(cells, connection="origin", rule=rule, depth=34, zero_init=zero)


@cache
def kinds() -> tuple[Kind, ...]:
    """Return the kinds in cells.toml, in order."""
    from results.run import all_runs, read_groups

    every = [run.axes for run in all_runs(read_groups(FOLDER / "cells.toml"), FOLDER / "cells")]
    return tuple(
        dict.fromkeys((str(a["connection"]), str(a["rule"]), bool(a["zero_init"])) for a in every)
    )


def candidates(cells: Sequence[Cell], tried: Sequence[Cell]) -> str:
    """Return the table of Origin, the readings of the paper's rule and all variants, in both networks."""
    rows = []
    for rule, zero in BASES:
        own = [base(cells, network, rule, zero) for network in SHAPES]
        rows.append([RULES[rule] + ZERO * zero, *map(accuracies, own)])
    for connection, rule, zero in kinds():
        own = [found(tried, network, (connection, rule, zero)) for network in SHAPES]
        name = f"`{rule}`" if connection == "origin" else f"`{connection}`, `{rule}`"
        rows.append([name + ZERO * zero, *map(accuracies, own)])
    return table(["T = 1", *SHAPES.values()], rows)


# -- predictions -----------------------------------------------------------------------------------


def gaps(
    cells: Sequence[Cell], tried: Sequence[Cell], kind: Kind, rule: str, networks: Sequence[str]
) -> list[Interval] | None:
    """Return the accuracy of a kind minus that of Origin's blocks under a rule, in each network.

    Returns None if they share no seed in some network.
    """
    out = [paired(found(tried, each, kind), base(cells, each, rule)) for each in networks]
    known = [each for each in out if each]
    return known if len(known) == len(out) else None


def _said(values: Sequence[Interval]) -> str:
    return ", ".join(value.text() for value in values)


def near_listing_1(
    rule: str, *, above: float = math.inf, below: float, refuted: float
) -> Callable[..., Outcome]:
    """Return a check that a rule is near Listing 1: at most ``above`` over it and ``below`` under it."""

    def compute(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
        found = gaps(cells, tried, ("origin", rule, False), ALL, list(SHAPES))
        if found is None:
            return Outcome("", WAITS)
        values = [each.mean for each in found]
        near = -below <= min(values) and max(values) <= above
        verdict = BORNE_OUT if near else REFUTED if min(values) < -refuted else UNDECIDED
        return Outcome(f"{_said(found)} points", verdict, [])

    return compute


def saturates(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
    found = gaps(cells, tried, ("origin", "any_before", False), EQ_11, list(SHAPES))
    if found is None:
        return Outcome("", WAITS)
    below = sum(each.mean < 0 for each in found)
    verdict = {len(found): BORNE_OUT, 0: REFUTED}.get(below, UNDECIDED)
    return Outcome(f"{_said(found)} points", verdict, [])


def smaller_sums(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
    """Compare the loss of each rule from one network to the other with that of Listing 1."""
    more = []
    for rule in ("averaged", "window"):
        found = gaps(cells, tried, ("origin", rule, False), ALL, list(SHAPES))
        if found is None:
            return Outcome("", WAITS)
        more.append(found[0].mean - found[1].mean)
    less = sum(value < 0 for value in more)
    verdict = {len(more): BORNE_OUT, 0: REFUTED}.get(less, UNDECIDED)
    text = ", ".join(f"{value:+.1f}" for value in more)
    return Outcome(f"lose {text} points more", verdict, [])


def rising(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
    found = gaps(cells, tried, ("rising", EQ_11, False), EQ_11, ["nine"])
    if found is None:
        return Outcome("", WAITS)
    value = found[0].mean
    verdict = BORNE_OUT if value >= 2 else REFUTED if value < 0 else UNDECIDED
    return Outcome(f"{_said(found)} points", verdict, [])


PREDICTIONS: Mapping[str, tuple[str, Callable[..., Outcome]]] = {
    "l": ("the output of a stage matters: `chain_all` is near Listing 1", near_listing_1("chain_all", above=2, below=2, refuted=4)),
    "m": ("`dense_shortcut`, whose convolutions only read spikes, is near Listing 1", near_listing_1("dense_shortcut", below=1, refuted=3)),
    "n": ("`any_before` saturates: worse than Eq. 11", saturates),
    "o": ("`averaged` and `window` lose less with n than Listing 1", smaller_sums),
    "p": ("rising thresholds reduce the loss of Eq. 11 at 9 blocks a stage", rising),
}  # fmt: skip
"""Predictions by their letter in results/beyond/predictions.md."""


def predictions(cells: Sequence[Cell], tried: Sequence[Cell]) -> str:
    return predicted(
        {letter: (short, compute(cells, tried)) for letter, (short, compute) in PREDICTIONS.items()}
    )


def averaged(cells: Sequence[Cell], tried: Sequence[Cell]) -> str:
    over = gaps(cells, tried, ("origin", "averaged", False), ALL, list(SHAPES)) or ()
    return (
        "`averaged`, which got two more seeds for its mean with the first, is above Listing 1 by "
        f"{_said(over)} points in the two networks."
    )


BEYOND: dict[str, Callable[[Sequence[Cell]], str]] = {
    "beyond": lambda cells: candidates(cells, read_cells(FOLDER.name)),
    "averaged": lambda cells: averaged(cells, read_cells(FOLDER.name)),
    "beyond, predictions": lambda cells: predictions(cells, read_cells(FOLDER.name)),
}
"""Tables by their name in results/README.md."""
