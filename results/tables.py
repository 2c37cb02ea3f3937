"""Tables of results/README.md, computed from the trained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from statistics import mean

from results.data import (
    AFTER,
    ALL,
    CHAIN,
    DIGITS,
    EQ_11,
    HERE,
    MISSING,
    OF_PAPER,
    RULES,
    Cell,
    geometric,
    hand_model,
    on_fashion_mnist,
    pick,
    rank_correlation,
    read_cells,
    read_diverged,
    shown,
    verdict,
)
from results.networks import facts, millions, network_of
from results.predictions import PREDICTIONS, WAITS, Outcome

Row = Sequence[str]
SHAPES = (18, 34, 50)
BLOCKS = (2, 3, 6, 9, 18)
CONNECTIONS: Mapping[str, tuple[str, str]] = {
    "Origin": ("origin", CHAIN),
    "tdBN": ("tdbn", CHAIN),
    "BAA": ("baa", CHAIN),
    "DANet-C (Eq. 11)": ("origin", EQ_11),
    "DANet-D": ("baa", EQ_11),
    "SEW": ("sew", CHAIN),
    "PA-A (DANet-A)": ("pa_a", CHAIN),
    "PA-B (DANet-B)": ("pa_b", CHAIN),
    "MS": ("ms_conv", CHAIN),
}


def table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def accuracies(cells: Sequence[Cell], diverged: Sequence[Cell] = ()) -> str:
    if not diverged:
        return shown([cell.accuracy for cell in cells])
    return f"{accuracies(cells) + ', ' if cells else ''}diverges ({len(diverged)})"


# -- what was run ----------------------------------------------------------------------------------


ITEMS = {
    1: "the paper's architectures",
    2: "blocks a stage",
    3: "Tables II, III, VI, Figs. 5 to 7",
    8: "beyond the paper",
}
FOLDERS = (*OF_PAPER, "beyond")


@cache
def planned(*folders: str) -> tuple[tuple[str, int, float], ...]:
    """Return the name, item and estimated CPU-minutes of each training in these folders."""
    from results.run import all_runs, read_groups

    return tuple(
        (run.name, run.group.item, run.group.minutes)
        for each in folders
        for run in all_runs(read_groups(HERE / each / "cells.toml"), HERE / each / "cells")
    )


def waiting(cells: Sequence[Cell]) -> str:
    """Return the finished trainings and the estimated remaining CPU-hours for each item of the plan."""
    ended = [*read_cells(*FOLDERS), *read_diverged(*FOLDERS)]
    done = {cell.name: cell.record["made"]["commit"] for cell in ended}
    spent = sum(cell.record["made"]["cpu_seconds"] for cell in ended) / 3600
    rows = []
    for name, items in [*((name, {item}) for item, name in ITEMS.items()), ("total", {*ITEMS})]:
        own = [(run, minutes) for run, item, minutes in planned(*FOLDERS) if item in items]
        left = sum(minutes for run, minutes in own if run not in done) / 60
        commits = sorted({done[run][:7] for run, _ in own if run in done})
        state = f"{sum(run in done for run, _ in own)} of {len(own)}"
        rows.append([name, state, f"{left:.1f}", ", ".join(commits)])
    rows[-1][1] += f", in {spent:.1f} CPU-hours"
    return table(["", "trained", "CPU-hours left (estimate)", "commits"], rows)


def predicted(outcomes: Mapping[str, tuple[str, Outcome]]) -> str:
    """Return the table of predictions from their summaries and outcomes, by letter."""
    rows = []
    for letter, (short, outcome) in outcomes.items():
        known = outcome.differences is not None and outcome.verdict != WAITS
        said = f"**{verdict(outcome.differences or ())}**" if known else MISSING
        rows.append([letter, short, outcome.text, outcome.verdict, said])
    return table(["", "prediction (summary)", "outcome", "by its criterion", "at 95 %"], rows)


def predictions(cells: Sequence[Cell]) -> str:
    return predicted(
        {letter: (short, compute(cells)) for letter, (short, compute) in PREDICTIONS.items()}
    )


# -- items 1 and 2 ---------------------------------------------------------------------------------


def architecture(cells: Sequence[Cell]) -> str:
    rows = []
    for zero in (False, True):
        for rule, name in RULES.items():
            own = {
                depth: pick(cells, connection="origin", rule=rule, depth=depth, zero_init=zero)
                for depth in SHAPES
            }
            at = own[34]
            rows.append(
                [
                    name + (", zero-initialised" if zero else ""),
                    *(accuracies(own[depth]) for depth in SHAPES),
                    shown([c.firing_rate for c in at], 3),
                    shown([c.stability for c in at], 3),
                    shown([c.log10_product for c in at], 1),
                ]
            )
    head = [
        "T = 1",
        *(f"ResNet-{d}" for d in SHAPES),
        "firing rate, ResNet-34",
        "dO/dV a layer",
        "log10 of its product",
    ]
    return table(head, rows)


def blocks(cells: Sequence[Cell]) -> str:
    diverged = read_diverged()
    networks = [
        (name + (", zero-initialised" if zero else ""), "origin", rule, zero)
        for zero in (False, True)
        for rule, name in RULES.items()
    ]
    rows = []
    for name, connection, rule, zero in (*networks, ("SEW", "sew", CHAIN, False)):
        axes = {"connection": connection, "rule": rule, "zero_init": zero}
        found = (
            accuracies(*(pick(some, n=n, **axes) for some in (cells, diverged))) for n in BLOCKS
        )
        rows.append([name, *found])
    return table(["blocks a stage", *map(str, BLOCKS)], rows)


def interblock(cells: Sequence[Cell]) -> str:
    """Return dO/dV of trained interblock neurons and of the hand model."""
    rows = []
    for dense, rules in ((True, (EQ_11, ALL, AFTER)), (False, (CHAIN,))):
        hand = [f"{geometric(hand_model(n, dense=dense)):.3f}" for n in BLOCKS]
        rows.append([f"hand model, {'sums of all earlier blocks' if dense else 'chain'}", *hand])
        for rule in rules:
            for zero in (False, True):
                found = [
                    pick(cells, connection="origin", rule=rule, n=n, zero_init=zero) for n in BLOCKS
                ]
                values = [shown([c.interblock_dodv for c in own], 3) for own in found]
                rows.append([RULES[rule] + (", zero-initialised" if zero else ""), *values])
    return table(["dO/dV of interblock neurons", *map(str, BLOCKS)], rows)


# -- item 3 ----------------------------------------------------------------------------------------

PAPER_TWO = {34: ("61.86", "68.26", "63.72", "65.50"), 50: ("57.66", "70.90", "64.88", MISSING)}
PAPER_THREE = {  # ImageNet-5, ImageNet-20, ImageNet-1k: add and concatenate
    (18, 121): ("97.22 / 94.92", "84.98 / 83.30", "– / 47.78"),
    (34, 201): ("96.88 / 95.70", "85.06 / 84.04", "57.18 / 49.89"),
    (50, 161): ("95.70 / 97.66", "83.23 / 85.32", "61.79 / –"),
}


def table_two(cells: Sequence[Cell]) -> str:
    names = ("Origin", "DANet-C (Eq. 11)", "tdBN", "DANet-D")
    rows: list[Row] = [[f"paper, ImageNet-1k, ResNet-{d}", *PAPER_TWO[d]] for d in PAPER_TWO]
    for depth in SHAPES:
        own = [
            accuracies(pick(cells, connection=connection, rule=rule, depth=depth))
            for connection, rule in (CONNECTIONS[name] for name in names)
        ]
        rows = [*rows, [f"ours, ResNet-{depth}'s shape", *own]]
    return table(["accuracy, %", *names], rows)


def table_three(cells: Sequence[Cell]) -> str:
    rows = []
    for (depth, dense), (five, twenty, all_classes) in PAPER_THREE.items():
        pairs = []
        for recipe, classes in (("one_step", 5), ("one_step", 10), (DIGITS, 10)):
            of = {"classes": classes, "recipe": recipe}
            add = pick(cells, connection="origin", rule=EQ_11, depth=depth, **of)
            concate = pick(cells, connection="dense_layer", depth=dense, **of)
            pairs.append(f"{accuracies(add)} / {accuracies(concate)}")
        rows.append([f"ResNet-{depth} / DenseNet-{dense}", five, twenty, all_classes, *pairs])
    head = [
        "Add / Concate",
        "paper, ImageNet-5",
        "ImageNet-20",
        "ImageNet-1k",
        "ours, 5 classes",
        "ours, 10 classes",
        "ours, digits",
    ]
    return table(head, rows)


def connections(cells: Sequence[Cell]) -> str:
    rows = [
        [
            name,
            *(
                accuracies(
                    pick(cells, connection=connection, rule=rule, depth=depth, classes=classes)
                )
                for classes in (5, 10)
                for depth in SHAPES
            ),
        ]
        for name, (connection, rule) in CONNECTIONS.items()
        if name != "MS"
    ]
    head = ["", *(f"{classes} classes, ResNet-{d}" for classes in (5, 10) for d in SHAPES)]
    return table(head, rows)


def table_six(cells: Sequence[Cell]) -> str:
    rows = []
    for name, (connection, rule) in CONNECTIONS.items():
        own = pick(cells, connection=connection, rule=rule, depth=34, recipe="two_phase")
        if name in ("tdBN", "BAA"):
            continue
        rows.append(
            [name, shown([c.after("one_step") for c in own]), shown([c.accuracy for c in own])]
        )
    return table(["ResNet-34's shape", "3 epochs at T = 1", "then 1 at T = 4"], rows)


# -- item 5 ----------------------------------------------------------------------------------------

PAPER_FIVE = {  # products of Tables IV and V and the number of neurons on the main path
    "Origin": {34: 1.2e-5, 50: 1.0e-6},
    "DANet-C (Eq. 11)": {34: 0.0088, 50: 0.0004},
    "DANet-D": {34: 0.0040},
    "SEW": {34: 0.0075, 50: 0.0007},
    "PA-A (DANet-A)": {34: 0.0082, 50: 0.0020},
    "PA-B (DANet-B)": {34: 0.0051, 50: 0.0005},
}
NEURONS = {34: 33, 50: 49}


def stability(cells: Sequence[Cell]) -> str:
    """Return Tables IV and V as dO/dV per layer: the paper's values, and ours for T = 4 and T = 1."""
    rows = []
    for name, products in PAPER_FIVE.items():
        connection, rule = CONNECTIONS[name]
        row = [name]
        for depth in (34, 50):
            product = products.get(depth)
            row.append(MISSING if product is None else f"{product ** (1 / NEURONS[depth]):.3f}")
            for recipe in ("two_phase", "one_step"):
                own = pick(cells, connection=connection, rule=rule, depth=depth, recipe=recipe)
                row.append(shown([c.stability for c in own], 3))
        rows.append(row)
    head = ["dO/dV a layer"]
    for depth in (34, 50):
        head += [f"paper, ResNet-{depth}", "ours, T = 4", "ours, T = 1"]
    return table(head, rows)


def four_steps(cells: Sequence[Cell]) -> str:
    """Return the comparison of Table V over blocks per stage, at T = 4."""
    rows = []
    for name in ("Origin", "DANet-C (Eq. 11)"):
        connection, rule = CONNECTIONS[name]
        found = [
            pick(cells, connection=connection, rule=rule, n=n, recipe="two_phase")
            for n in (3, 6, 9)
        ]
        rows.append(
            [name]
            + [f"{shown([c.log10_product for c in own], 1)}" for own in found]
            + [accuracies(own) for own in found]
        )
    head = ["T = 4, n blocks a stage", *(f"log10 of the product, n = {n}" for n in (3, 6, 9))]
    return table([*head, *(f"accuracy, n = {n}" for n in (3, 6, 9))], rows)


def by_network(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return the cells of each network, which differ in their seeds."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(network_of(cell.name), []).append(cell)
    return list(groups.values())


def in_shape_34(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of ten classes at T = 1 in ResNet-34's shape, with those of beyond/."""
    return [
        cell
        for cell in on_fashion_mnist(cells)
        if cell.axes.get("depth") == 34 or cell.record["network"] == "shape34"
    ]


EACH_SEED = "the same, each seed by itself"


def rank_correlations(cells: Sequence[Cell]) -> dict[str, tuple[int, dict[str, float | None]]]:
    """Return the rank correlations of measures and accuracy over networks, by their means over seeds.

    Returns the number of networks and the correlation of each measure, for groups of networks.
    """
    every = [*cells, *read_cells("beyond")]
    ten = on_fashion_mnist(every)
    origin = [c for c in ten if c.record["connection"] == "origin"]
    shape = in_shape_34(every)
    groups: dict[str, list[Cell]] = {
        "ResNet-34's shape": shape,
        "of these, without `rising`": [c for c in shape if c.record["connection"] != "rising"],
        "3 blocks a stage": [c for c in ten if c.axes.get("n") == 3],
        "9 blocks a stage": [
            c for c in ten if c.axes.get("n") == 9 or c.record["network"] == "nine"
        ],
        "all of ten classes, T = 1": ten,
        EACH_SEED: ten,
        "Origin's blocks by any rule": origin,
        "of these, not zero-initialised": [c for c in origin if not c.axes["zero_init"]],
        "of these, zero-initialised": [c for c in origin if c.axes["zero_init"]],
        "five classes": on_fashion_mnist(every, classes=5),
        "T = 4": on_fashion_mnist(every, steps=4),
    }
    measures: dict[str, Callable[[Cell], float]] = {
        "fewer neurons on a path": lambda cell: -facts()[network_of(cell.name)]["fewest_neurons"],
        "dO/dV a layer": attrgetter("stability"),
        "its product": attrgetter("log10_product"),
        "firing rate": attrgetter("firing_rate"),
        "fewer layers": lambda cell: -cell.record["depth"],
    }
    found = {}
    for name, own in groups.items():
        networks = by_network(own) if name != EACH_SEED else [[cell] for cell in own]
        accuracy = [mean(c.accuracy for c in each) for each in networks]
        found[name] = (
            len(networks),
            {
                measure: rank_correlation([mean(map(value, each)) for each in networks], accuracy)
                for measure, value in measures.items()
            },
        )
    return found


def correlations(cells: Sequence[Cell]) -> str:
    found = rank_correlations(cells)
    rows = [[name, str(count), *map(_signed, of.values())] for name, (count, of) in found.items()]
    measures = next(iter(found.values()))[1]
    return table(["rank correlation with accuracy over", "networks", *measures], rows)


def costs(cells: Sequence[Cell]) -> str:
    """Return the networks in ResNet-34's shape, by the fewest neurons on a path."""
    rows = []
    for own in by_network(in_shape_34([*cells, *read_cells("beyond")])):
        of = facts()[network_of(own[0].name)]
        zero = ", zero-initialised" if own[0].axes["zero_init"] else ""
        rows.append(
            [
                f"`{own[0].axes['connection']}` by `{own[0].axes['rule']}`{zero}",
                str(of["fewest_neurons"]),
                accuracies(own),
                shown([c.stability for c in own], 3),
                shown([c.firing_rate for c in own], 3),
                millions([of["multiplications"]]),
                millions([of["additions"]]),
                millions(of["measured_additions"]),
            ]
        )
    head = ["T = 1", "neurons", "accuracy", "dO/dV a layer", "firing rate", "multiplications"]
    head += ["additions at most", "measured"]
    return table(head, sorted(rows, key=lambda row: int(row[1])))


def _signed(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.2f}"


TABLES: dict[str, Callable[[Sequence[Cell]], str]] = {
    "waiting": waiting,
    "predictions": predictions,
    "architecture": architecture,
    "blocks": blocks,
    "interblock": interblock,
    "table two": table_two,
    "table three": table_three,
    "connections": connections,
    "table six": table_six,
    "stability": stability,
    "four steps": four_steps,
    "correlations": correlations,
    "costs": costs,
}
"""Tables by their name in the page."""
