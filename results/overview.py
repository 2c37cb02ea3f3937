"""The first table of results/README.md: each table and figure of the paper, and what we found.

What came out and whether it agrees are computed; what the paper says and why we differ is written by
hand, and what is said where nothing is trained yet is that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

from results.data import (
    CHAIN,
    EQ_11,
    HERE,
    MISSING,
    Cell,
    older_accuracies,
    older_measured,
    pick,
    read,
)
from results.tables import CONNECTIONS, table

YES, NO, PARTLY, WAITS = "yes", "no", "in part", "not yet run"

Found = tuple[str, str]
"""What came out, and whether it agrees."""


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper. ``why`` is why not, where it does not agree."""

    name: str
    says: str
    command: str
    ran: str
    compute: Callable[[Sequence[Cell]], Found]
    why: str = ""


def _at(cells: Sequence[Cell], name: str, depth: int, **more: int) -> float | None:
    """Mean accuracy of a connection in one of the paper's shapes; None where it is not trained."""
    connection, rule = CONNECTIONS[name]
    found = pick(cells, connection=connection, rule=rule, depth=depth, **more)
    return mean(cell.accuracy for cell in found) if found else None


def _compared(
    cells: Sequence[Cell], better: str, worse: str, depths: Sequence[int], **more: int
) -> Found:
    """Whether one is better than the other at each depth."""
    texts, signs = [], []
    for depth in depths:
        first, second = _at(cells, better, depth, **more), _at(cells, worse, depth, **more)
        if first is not None and second is not None:
            texts.append(f"{first:.1f} and {second:.1f} % in ResNet-{depth}'s shape")
            signs.append(first > second)
    if len(signs) < len(depths):
        return "; ".join(texts), f"{_said(signs)}, not all is run" if signs else WAITS
    return "; ".join(texts), _said(signs)


def _said(signs: Sequence[bool]) -> str:
    return YES if all(signs) else PARTLY if any(signs) else NO


def _zero_initialised(cells: Sequence[Cell]) -> Found:
    """How much of DANet-C's lead over Origin is left where both start as their shortcuts."""
    means = []
    for zero in (False, True):
        own = [
            pick(cells, connection="origin", rule=rule, depth=34, zero_init=zero)
            for rule in (CHAIN, EQ_11)
        ]
        seeds = min(map(len, own))
        if not seeds:
            return "", WAITS
        means.append([mean(cell.accuracy for cell in each[:seeds]) for each in own])
    (origin, dense), (origin_zero, dense_zero) = means
    left, lead = dense_zero - origin_zero, dense - origin
    text = (
        f"{dense_zero:.1f} and {origin_zero:.1f} % in ResNet-34's shape: {left:+.1f} points, "
        f"of {lead:+.1f} without"
    )
    return text, YES if left > 0 else NO


def _gain(cells: Sequence[Cell]) -> Found:
    """Table VI: DANet-C gains from ResNet-34 to ResNet-50."""
    shallow, deep = (_at(cells, "DANet-C (Eq. 11)", depth) for depth in (34, 50))
    if shallow is None or deep is None:
        return "", WAITS
    return f"{shallow:.1f} to {deep:.1f} %", YES if deep > shallow else NO


def _falls(cells: Sequence[Cell], name: str) -> Found:
    """Fig. 5: accuracy falls with depth."""
    known = [value for depth in (18, 34, 50) if (value := _at(cells, name, depth)) is not None]
    text = " to ".join(f"{value:.1f}" for value in known) + " %"
    if len(known) < 3:
        return text if known else "", WAITS
    return text, _said([a > b for a, b in pairwise(known)])


def _small_sets(cells: Sequence[Cell]) -> Found:
    """Table III on small sets."""
    add = [
        pick(cells, connection="origin", rule=EQ_11, depth=depth, classes=5) for depth in (18, 50)
    ]
    dense = [pick(cells, connection="dense_layer", depth=d, classes=5) for d in (121, 161)]
    if not all([*add, *dense]):
        return "", WAITS
    a, b, c, d = (mean(cell.accuracy for cell in own) for own in (*add, *dense))
    signs = [a > b, a > c, d > b]
    return f"Add {a:.1f} to {b:.1f}, Concate {c:.1f} to {d:.1f} %", _said(signs)


def _order_of_rates(cells: Sequence[Cell]) -> Found:
    """Table I and Fig. 3: PA-A fires most, then SEW, then PA-B."""
    found = {
        name: [e for e in older_measured() if e.network == key and e.depth == 110]
        for name, key in (("PA-A", "pa_a_net"), ("SEW", "sew_net"), ("PA-B", "pa_b_net"))
    }
    rates = {name: mean(e.firing_rate or 0 for e in own) for name, own in found.items()}
    a, sew, b = (rates[name] for name in ("PA-A", "SEW", "PA-B"))
    return f"depth 110: {a:.3f}, {sew:.3f}, {b:.3f}", YES if a > sew > b else NO


def _rates_of_origin(cells: Sequence[Cell]) -> Found:
    """Fig. 9: DANet-C fires more than Origin."""
    return _measure(cells, "firing_rate")


def _stability_of_origin(cells: Sequence[Cell]) -> Found:
    """Fig. 10 and Table V: DANet-C's dO/dV is above Origin's."""
    return _measure(cells, "stability")


def _measure(cells: Sequence[Cell], measure: str) -> Found:
    texts, signs = [], []
    for depth in (34, 50):
        own = [pick(cells, connection="origin", rule=rule, depth=depth) for rule in (CHAIN, EQ_11)]
        if all(own):
            origin, dense = (mean(getattr(cell, measure) for cell in each) for each in own)
            texts.append(f"ResNet-{depth}'s shape: {dense:.3f}, Origin {origin:.3f}")
            signs.append(dense > origin)
    return "; ".join(texts), _said(signs) if signs else WAITS


def _stability_of_three(cells: Sequence[Cell]) -> Found:
    """Table IV: PA-A has the most stable gradients from ResNet-34 on."""
    found = {}
    for name, key in (("PA-A", "pa_a_net"), ("SEW", "sew_net"), ("PA-B", "pa_b_net")):
        own = [e for e in older_measured() if e.network == key and e.depth == 110]
        found[name] = mean(e.stability or 0 for e in own)
    text = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    return f"a layer at depth 110, T = 1: {text}", YES if max(
        found, key=found.__getitem__
    ) == "PA-A" else NO


def _loss(cells: Sequence[Cell]) -> Found:
    """Fig. 11: Origin's training loss is higher in the deeper network, DANet-C's lower."""
    texts, signs = [], []
    for name, sign in (("Origin", 1), ("DANet-C (Eq. 11)", -1)):
        connection, rule = CONNECTIONS[name]
        own = [pick(cells, connection=connection, rule=rule, depth=depth) for depth in (34, 50)]
        if not all(own):
            return "", WAITS
        a, b = (mean(c.record["epochs"][-1]["train_loss"] for c in each) for each in own)
        texts.append(f"{name} {a:.2f} to {b:.2f}")
        signs.append(sign * (b - a) > 0)
    return "; ".join(texts), _said(signs)


def _four_steps(cells: Sequence[Cell]) -> Found:
    """Table VI at T = 4: DANet-A, then C, then D."""
    values = []
    for name in ("PA-A (DANet-A)", "DANet-C (Eq. 11)", "DANet-D"):
        connection, rule = CONNECTIONS[name]
        own = pick(cells, connection=connection, rule=rule, depth=34, recipe="two_phase")
        if not own:
            return "", WAITS
        values.append(mean(c.accuracy for c in own))
    a, c, d = values
    return f"A {a:.1f}, C {c:.1f}, D {d:.1f} %", _said([a > c, c > d])


def _inputs(cells: Sequence[Cell]) -> Found:
    """Sec. IV-A: means within 0.1 of 0 and deviations within 0.1 of 1 in every layer."""
    texts, signs = [], []
    for network in read(HERE / "paper" / "inputs.json")["networks"][1:]:
        deviations = [layer[2] for layer in network["layers"]]
        signs.append(
            all(abs(mean) <= 0.1 and abs(d - 1) <= 0.1 for _, mean, d in network["layers"])
        )
        texts.append(
            f"{network['name']}'s deviations {min(deviations):.2f} to {max(deviations):.2f}"
        )
    return "; ".join(texts), _said(signs)


def _older_collapse(cells: Sequence[Cell]) -> Found:
    found = older_accuracies("accuracy.json")
    origin = [mean(found["origin_net", d].values()) for d in (20, 56, 110)]
    sew = [mean(found["sew_net", d].values()) for d in (20, 56, 110)]
    text = (
        "Origin "
        + ", ".join(f"{v:.1f}" for v in origin)
        + "; SEW "
        + ", ".join(f"{v:.1f}" for v in sew)
    )
    return f"{text} % at depth 20, 56, 110", _said(
        [origin[0] > origin[1] > origin[2], sew[2] > origin[2]]
    )


ITEMS = (
    Item(
        "Table I, Fig. 3",
        "PA-A fires most, then SEW, then PA-B",
        "`danetc summary`, `firing_rate.svg` of `danetc measure`",
        "[older runs](#older-runs)",
        _order_of_rates,
    ),
    Item(
        "Table II, Origin and DANet-C",
        "68.26 against 61.86 (ResNet-34), 70.90 against 57.66 (ResNet-50)",
        "`danetc compare --columns wiring`",
        "[Table II](#table-ii)",
        lambda cells: _compared(cells, "DANet-C (Eq. 11)", "Origin", (34, 50)),
    ),
    Item(
        "Table II, both zero-initialised",
        "how last norms start is not said; SEW's authors, whose Origin it takes, start them at 0",
        "`danetc compare --grid zero_init=true`",
        "[the paper's architecture](#the-papers-architecture)",
        _zero_initialised,
    ),
    Item(
        "Table II, tdBN and DANet-D",
        "65.50 against 63.72 (ResNet-34)",
        "`danetc compare --columns wiring`",
        "[Table II](#table-ii)",
        lambda cells: _compared(cells, "DANet-D", "tdBN", (34, 50)),
    ),
    Item(
        "Table VI, DANet-C's depth",
        "on ImageNet-1k 68.26 (ResNet-34) to 70.90 (ResNet-50)",
        "`danetc compare`",
        "[Table II](#table-ii)",
        _gain,
        "ten classes of small images; on its own small sets the paper has DANet-C fall with depth (Table III)",
    ),
    Item(
        "Table VI, T = 4",
        "DANet-A before C before D in ResNet-34",
        "`danetc compare`",
        "[Table VI](#table-vi)",
        _four_steps,
    ),
    Item(
        "Table III, small sets",
        "Add falls with depth; Concate below it in the first pair, above it in the last",
        "`danetc compare --columns classes,network`",
        "[Table III](#table-iii)",
        _small_sets,
    ),
    Item(
        "Fig. 5",
        "Origin falls with depth",
        "`accuracy.svg` of `danetc compare`",
        "[Figs. 5 to 7](#figs-5-to-7)",
        lambda cells: _falls(cells, "Origin"),
    ),
    Item(
        "Fig. 6, small sets",
        "PA-A is worse than SEW and PA-B",
        "`accuracy.svg` of `danetc compare`",
        "[Figs. 5 to 7](#figs-5-to-7), five classes",
        lambda cells: _compared(cells, "SEW", "PA-A (DANet-A)", (18, 34, 50), classes=5),
    ),
    Item(
        "Fig. 7",
        "DANet-C above Origin, DANet-D above BAA",
        "`accuracy.svg` of `danetc compare`",
        "[Figs. 5 to 7](#figs-5-to-7)",
        lambda cells: _compared(cells, "DANet-D", "BAA", (34, 50)),
    ),
    Item(
        "Fig. 9",
        "DANet-C fires more than Origin",
        "`firing_rate.svg` of `danetc measure`",
        "[the paper's architecture](#the-papers-architecture), T = 1",
        _rates_of_origin,
    ),
    Item(
        "Fig. 10, Table V",
        "DANet-C's dO/dV far above Origin's",
        "`gradient_stability.svg`, last table of `danetc measure`",
        "[Tables IV and V](#tables-iv-and-v), T = 1",
        _stability_of_origin,
        "interblock neurons that read sums of spikes lie far above their threshold",
    ),
    Item(
        "Fig. 8, Table IV",
        "PA-A's gradients are the most stable from ResNet-34 on",
        "`gradient_stability.svg`, last table of `danetc measure`",
        "[older runs](#older-runs)",
        _stability_of_three,
        "not known; at initialisation the order depends on the norms' weights",
    ),
    Item(
        "Fig. 11",
        "from ResNet-34 to ResNet-50 Origin's training loss rises, DANet-C's falls",
        "`training.svg` of `danetc compare`",
        "[the paper's architecture](#the-papers-architecture)",
        _loss,
    ),
    Item(
        "Sec. IV-A",
        "at initialisation tdBN and BAA give each neuron about N(0, 1)",
        "`input.svg` of `danetc measure`",
        "[inputs of neurons](#inputs-of-neurons)",
        _inputs,
        "tdBN scales its last norms for a sum of two independent parts of variance 1; spikes vary less",
    ),
    Item(
        "Props. 1 and 3",
        "interblock neurons disrupt gradients; the variance of PA-A's inputs grows within a stage",
        "`danetc prove`",
        "tests/runtime/test_propositions.py",
        lambda cells: ("hold as stated at T = 1, against autograd", YES),
    ),
    Item(
        "Prop. 2",
        "sparsity shrinks gradients",
        "`danetc prove`, `danetc measure`",
        "[what stability predicts](#what-stability-predicts)",
        lambda cells: (
            "the number of neurons on a path is a property of the graph; the rest is a measure",
            PARTLY,
        ),
        "no statement that could fail",
    ),
    Item(
        "Prop. 4",
        "dense addition bounds gradients from below",
        "`danetc prove`",
        "[Proposition 4](#proposition-4)",
        lambda cells: ("the bound holds, and where block 0 spikes a chain has far more", PARTLY),
        "the bound falls with the number of spikes that a block reads",
    ),
    Item(
        "SEW's logs (not in the paper)",
        "Origin falls from 62.3 to 10.0 % from depth 18 to 152, SEW does not",
        "`danetc compare`",
        "[Origin and the literature](#origin-and-the-literature)",
        _older_collapse,
    ),
)


def overview(cells: Sequence[Cell]) -> str:
    rows = []
    for item in ITEMS:
        text, agrees = item.compute(cells)
        why = item.why if agrees.startswith((NO, PARTLY)) else ""
        rows.append([item.name, item.says, item.ran, text or MISSING, f"**{agrees}**", why])
    return table(["paper", "says", "ran", "came out", "agrees", "why not"], rows)


DRAWN = (
    ("Fig. 1", "six residual connections side by side", "`danetc draw --compare`"),
    ("Fig. 2", "a neuron over time", "`danetc draw --level neuron`"),
    ("Fig. 4", "what feeds each block of a stage", "`danetc draw --level stage`"),
    (
        "Eqs. 4 to 9",
        "gradients in a spatial and a temporal part",
        "`gradients.svg` of `danetc measure`",
    ),
    ("Table VI, cost", "parameters, epochs x T", "`danetc compare --dry-run`"),
)
"""What is no claim about trained networks: what the paper shows, and the command that shows ours."""


def items(cells: Sequence[Cell]) -> str:
    """The table of docs/paper.md."""
    rows = [[name, says, command, "shown by the command", ""] for name, says, command in DRAWN]
    for item in ITEMS:
        _, agrees = item.compute(cells)
        ran = item.ran.replace("](#", "](../results/README.md#")
        rows.append([item.name, item.says, item.command, ran, agrees])
    return table(["paper", "shows or says", "command", "ran", "agrees"], rows)


OVERVIEW: dict[str, Callable[[Sequence[Cell]], str]] = {"overview": overview}
"""Of results/README.md."""
ITEMS_OF_PAPER: dict[str, Callable[[Sequence[Cell]], str]] = {"items": items}
"""Of docs/paper.md."""
