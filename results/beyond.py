"""Rules and connections similar to DANet-C (results/beyond), and readings of the paper's rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from statistics import mean

from results.data import ALL, CHAIN, EQ_11, HERE, MISSING, RULES, Cell, pick, read_cells, shown
from results.predictions import BORNE_OUT, REFUTED, UNDECIDED, WAITS, Outcome
from results.tables import Row, accuracies, planned, table

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

Kind = tuple[str, str, bool]
"""Connection, rule, and True if last norms are zero-initialised."""


@cache
def beyond() -> tuple[Cell, ...]:
    return tuple(read_cells(FOLDER.name))


def found(cells: Sequence[Cell], network: str, kind: Kind) -> list[Cell]:
    """Return the trained cells of a network, ordered by seed."""
    wanted = dict(zip(("connection", "rule", "zero_init"), kind, strict=True))
    own = [
        cell
        for cell in cells
        if cell.record["network"] == network
        and all(cell.record["axes"][name] == value for name, value in wanted.items())
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

    every = [run.axes for run in all_runs(read_groups(FOLDER / "cells.toml"))]
    return tuple(
        dict.fromkeys((str(a["connection"]), str(a["rule"]), bool(a["zero_init"])) for a in every)
    )


@cache
def costs(network: str) -> Mapping[tuple[str, str], tuple[int, int, int]]:
    """Return the cost of a network by connection and rule.

    The cost is the number of parameters, the multiplications for an image (in the first and the last
    layer), and the maximum number of additions that replace the others.
    """
    from danetc.tasks.networks import compile_spec

    stages = {"shape34": "resnet34(width = width)", "nine": "even(n = 9, width = width)"}[network]
    made = {}
    for connection, rule in {(c, r) for c, r, _ in kinds()} | {("origin", r) for r, _ in BASES}:
        settings = {"stages": f"{stages} via {connection} by {rule}"}
        facts = compile_spec(FOLDER / "beyond.danet", network=network, settings=settings).summary
        multiplied = facts.macs - facts.count_macs
        added = facts.additions + facts.count_additions
        made[connection, rule] = facts.parameters, multiplied, added
    return made


def candidates(cells: Sequence[Cell], tried: Sequence[Cell]) -> str:
    """Return the table of Origin, the readings of the paper's rule and all variants, in both networks."""

    def row(name: str, kind: Kind, groups: Sequence[Sequence[Cell]]) -> Row:
        both = [mean(c.accuracy for c in group) for group in groups if group]
        parameters, multiplied, added = costs("nine")[kind[:2]]
        return [
            name + (", zero-initialised" if kind[2] else ""),
            *map(accuracies, groups),
            f"{mean(both):.1f}" if len(both) == len(SHAPES) else MISSING,
            shown([c.firing_rate for c in groups[1]], 3),
            f"{parameters:,}",
            f"{multiplied / 1e6:.2f} M",
            f"{added / 1e6:.2f} M",
        ]

    rows = [
        row(RULES[rule], ("origin", rule, zero), [base(cells, n, rule, zero) for n in SHAPES])
        for rule, zero in BASES
    ]
    for kind in kinds():
        connection, rule, _ = kind
        name = f"`{rule}`" if connection == "origin" else f"`{connection}`, `{rule}`"
        rows.append(row(name, kind, [found(tried, n, kind) for n in SHAPES]))
    head = [
        "T = 1",
        *SHAPES.values(),
        "mean of both",
        "firing rate, 9",
        "parameters, 9",
        "multiplications, 9",
        "additions at most, 9",
    ]
    return table(head, rows)


# -- predictions -----------------------------------------------------------------------------------


def gaps(
    cells: Sequence[Cell], tried: Sequence[Cell], kind: Kind, rule: str, networks: Sequence[str]
) -> list[float] | None:
    """Return the accuracy of a kind minus that of Origin's blocks under a rule, in each network.

    Uses the seeds that both have; returns None if they share no seed in some network.
    """
    out = []
    for network in networks:
        ours, theirs = found(tried, network, kind), base(cells, network, rule)
        seeds = {cell.seed for cell in ours} & {cell.seed for cell in theirs}
        if not seeds:
            return None
        means = [mean(c.accuracy for c in own if c.seed in seeds) for own in (ours, theirs)]
        out.append(means[0] - means[1])
    return out


def _said(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in values)


def near_listing_1(
    rule: str, *, above: float = math.inf, below: float, refuted: float
) -> Callable[..., Outcome]:
    """Return a check that a rule is near Listing 1: at most ``above`` over it and ``below`` under it."""

    def compute(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
        values = gaps(cells, tried, ("origin", rule, False), ALL, list(SHAPES))
        if values is None:
            return Outcome("", WAITS)
        near = -below <= min(values) and max(values) <= above
        verdict = BORNE_OUT if near else REFUTED if min(values) < -refuted else UNDECIDED
        return Outcome(f"{_said(values)} points", verdict)

    return compute


def saturates(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
    values = gaps(cells, tried, ("origin", "any_before", False), EQ_11, list(SHAPES))
    if values is None:
        return Outcome("", WAITS)
    below = sum(value < 0 for value in values)
    verdict = {len(values): BORNE_OUT, 0: REFUTED}.get(below, UNDECIDED)
    return Outcome(f"{_said(values)} points", verdict)


def smaller_sums(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
    """Compare the loss of each rule from one network to the other with that of Listing 1."""
    more = []
    for rule in ("averaged", "window"):
        values = gaps(cells, tried, ("origin", rule, False), ALL, list(SHAPES))
        if values is None:
            return Outcome("", WAITS)
        more.append(values[0] - values[1])
    less = sum(value < 0 for value in more)
    verdict = {len(more): BORNE_OUT, 0: REFUTED}.get(less, UNDECIDED)
    return Outcome(f"lose {_said(more)} points more", verdict)


def rising(cells: Sequence[Cell], tried: Sequence[Cell]) -> Outcome:
    values = gaps(cells, tried, ("rising", EQ_11, False), EQ_11, ["nine"])
    if values is None:
        return Outcome("", WAITS)
    verdict = BORNE_OUT if values[0] >= 2 else REFUTED if values[0] < 0 else UNDECIDED
    return Outcome(f"{_said(values)} points", verdict)


PREDICTIONS: Mapping[str, tuple[str, Callable[..., Outcome]]] = {
    "l": ("the output of a stage matters: `chain_all` is near Listing 1", near_listing_1("chain_all", above=2, below=2, refuted=4)),
    "m": ("`dense_shortcut`, whose convolutions only read spikes, is near Listing 1", near_listing_1("dense_shortcut", below=1, refuted=3)),
    "n": ("`any_before` saturates: worse than Eq. 11", saturates),
    "o": ("`averaged` and `window` lose less with n than Listing 1", smaller_sums),
    "p": ("rising thresholds reduce the loss of Eq. 11 at 9 blocks a stage", rising),
}  # fmt: skip
"""Predictions by their letter in results/beyond/predictions.md."""


def predictions(cells: Sequence[Cell], tried: Sequence[Cell]) -> str:
    rows = []
    for letter, (short, compute) in PREDICTIONS.items():
        outcome = compute(cells, tried)
        rows.append([letter, short, outcome.text, f"**{outcome.verdict}**"])
    return table(["", "prediction (summary)", "outcome", ""], rows)


def waiting(cells: Sequence[Cell], tried: Sequence[Cell]) -> str:
    done = {cell.name for cell in tried}
    left = sum(minutes for run, _, minutes in planned("beyond") if run not in done) / 60
    state = f"{len(done)} of {len(planned('beyond'))}"
    return table(
        ["", "trained", "CPU-hours left (estimate)"], [["beyond the paper", state, f"{left:.1f}"]]
    )


BEYOND: dict[str, Callable[[Sequence[Cell]], str]] = {
    "beyond": lambda cells: candidates(cells, beyond()),
    "beyond, predictions": lambda cells: predictions(cells, beyond()),
    "beyond, waiting": lambda cells: waiting(cells, beyond()),
}
"""Tables by their name in results/README.md."""
