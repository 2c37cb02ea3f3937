"""The first table of results/README.md and that of docs/paper.md: the paper's tables and figures.

What came out and whether it agrees are computed (``results.findings``); what the paper says and why we
differ is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results import findings
from results.data import MISSING, Cell
from results.findings import DANET_C, DANET_D, NO, ORIGIN, PA_A, PARTLY, YES, Found
from results.tables import table


@dataclass(frozen=True)
class Item:
    """A table or figure of the paper. ``why`` is why not, where it does not agree."""

    name: str
    says: str
    command: str
    ran: str
    compute: Callable[[Sequence[Cell]], Found]
    why: str = ""


ITEMS = (
    Item(
        "Table I, Fig. 3",
        "PA-A fires most, then SEW, then PA-B",
        "`danetc summary`, `firing_rate.svg` of `danetc measure`",
        "[older runs](#older-runs)",
        findings.order_of_rates,
    ),
    Item(
        "Table II, Origin and DANet-C",
        "68.26 against 61.86 (ResNet-34), 70.90 against 57.66 (ResNet-50)",
        "`danetc compare --columns wiring`",
        "[Table II](#table-ii)",
        lambda cells: findings.compared(cells, [(DANET_C, ORIGIN)], (34, 50)),
    ),
    Item(
        "Table II, both zero-initialised",
        "how last norms start is not said; SEW's authors, whose Origin it takes, start them at 0",
        "`danetc compare --grid zero_init=true`",
        "[the paper's architecture](#the-papers-architecture)",
        findings.zero_initialised,
    ),
    Item(
        "Eq. 11 and Listing 1",
        "one rule, as an equation and as code",
        "`danetc compare --grid rule=densely_additive,densely_additive_all`",
        "[the paper's architecture](#the-papers-architecture)",
        findings.readings,
        "taken at its word, a stage of the listing gives the sum of all its blocks; by our reading of the equation and Fig. 4 it gives the last",
    ),
    Item(
        "Table II, tdBN and DANet-D",
        "65.50 against 63.72 (ResNet-34)",
        "`danetc compare --columns wiring`",
        "[Table II](#table-ii)",
        lambda cells: findings.compared(cells, [(DANET_D, "tdBN")], (34, 50)),
    ),
    Item(
        "Table VI, DANet-C's depth",
        "on ImageNet-1k 68.26 (ResNet-34) to 70.90 (ResNet-50)",
        "`danetc compare`",
        "[Table II](#table-ii)",
        lambda cells: findings.along_depth(cells, DANET_C, (34, 50), rises=True),
        "ten classes of small images; on its own small sets the paper has DANet-C fall with depth (Table III)",
    ),
    Item(
        "Table VI, T = 4",
        "DANet-A before C before D in ResNet-34",
        "`danetc compare`",
        "[Table VI](#table-vi)",
        findings.four_steps,
    ),
    Item(
        "Table III, small sets",
        "Add falls with depth; Concate below it in the first pair, above it in the last",
        "`danetc compare --columns classes,network`",
        "[Table III](#table-iii)",
        findings.small_sets,
    ),
    Item(
        "Fig. 5",
        "Origin falls with depth",
        "`accuracy.svg` of `danetc compare`",
        "[Figs. 5 to 7](#figs-5-to-7)",
        lambda cells: findings.along_depth(cells, ORIGIN, (18, 34, 50), rises=False),
    ),
    Item(
        "Fig. 6, small sets",
        "PA-A is worse than SEW and PA-B",
        "`accuracy.svg` of `danetc compare`",
        "[Figs. 5 to 7](#figs-5-to-7), five classes",
        lambda cells: findings.compared(
            cells, [("SEW", PA_A), ("PA-B (DANet-B)", PA_A)], (18, 34, 50), classes=5
        ),
    ),
    Item(
        "Fig. 7",
        "DANet-C above Origin, DANet-D above BAA",
        "`accuracy.svg` of `danetc compare`",
        "[Figs. 5 to 7](#figs-5-to-7)",
        lambda cells: findings.compared(cells, [(DANET_C, ORIGIN), (DANET_D, "BAA")], (34, 50)),
    ),
    Item(
        "Fig. 9",
        "DANet-C fires more than Origin",
        "`firing_rate.svg` of `danetc measure`",
        "[the paper's architecture](#the-papers-architecture), T = 1",
        lambda cells: findings.measured(cells, "firing_rate"),
    ),
    Item(
        "Fig. 10, Table V",
        "DANet-C's dO/dV far above Origin's",
        "`gradient_stability.svg`, last table of `danetc measure`",
        "[Tables IV and V](#tables-iv-and-v), T = 1",
        lambda cells: findings.measured(cells, "stability"),
        "interblock neurons that read sums of spikes lie far above their threshold; Origin that does not start at zero fires half as often instead (Fig. 9)",
    ),
    Item(
        "Fig. 8, Table IV",
        "PA-A's gradients are the most stable from ResNet-34 on",
        "`gradient_stability.svg`, last table of `danetc measure`",
        "[older runs](#older-runs)",
        findings.stability_of_three,
        "not known; at initialisation the order depends on the norms' weights",
    ),
    Item(
        "Fig. 11",
        "from ResNet-34 to ResNet-50 Origin's training loss rises, DANet-C's falls",
        "`training.svg` of `danetc compare`",
        "[the paper's architecture](#the-papers-architecture)",
        findings.loss,
    ),
    Item(
        "Sec. IV-A",
        "at initialisation tdBN and BAA give each neuron about N(0, 1)",
        "`input.svg` of `danetc measure`",
        "[inputs of neurons](#inputs-of-neurons)",
        findings.inputs,
        "tdBN scales its last norms for a sum of two parts of variance 1; the spikes of an identity have 1/4 at most",
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
        findings.older_collapse,
    ),
)


def overview(cells: Sequence[Cell]) -> str:
    rows = []
    for item in ITEMS:
        text, agrees = item.compute(cells)
        why = item.why if agrees.split(",")[0] in (NO, PARTLY) else ""
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
