"""Tables of the paper's items, in results/README.md and docs/paper.md.

``results.findings`` computes the results and whether they agree; the claims of the paper and the reasons
for differences are written by hand.
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
    """A table or figure of the paper. ``why`` gives the reason if the result does not agree."""

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
        "the initialisation of last norms is not stated; SEW's authors, whose Origin it uses, initialise them to 0",
        "`danetc compare --grid zero_init=true`",
        "[the paper's architecture](#the-papers-architecture)",
        findings.zero_initialised,
    ),
    Item(
        "Eq. 11 and Listing 1",
        "the same rule as an equation and as code",
        "`danetc compare --grid rule=densely_additive,densely_additive_all`",
        "[the paper's architecture](#the-papers-architecture)",
        findings.readings,
        "taken literally, the output of a stage in the listing is the sum of all its blocks; in our reading of the equation and Fig. 4, it is the last block",
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
        "rises on ImageNet-1k from 68.26 (ResNet-34) to 70.90 (ResNet-50)",
        "`danetc compare`",
        "[Table II](#table-ii)",
        lambda cells: findings.along_depth(cells, DANET_C, (34, 50), rises=True),
        "small images of ten classes; on the paper's small data sets, DANet-C also falls with depth (Table III)",
    ),
    Item(
        "Table VI, T = 4",
        "DANet-A is better than C, and C better than D, in ResNet-34",
        "`danetc compare`",
        "[Table VI](#table-vi)",
        findings.four_steps,
    ),
    Item(
        "Table III, small sets",
        "Add falls with depth; Concate is below it in the first pair and above it in the last",
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
        "DANet-C is better than Origin, DANet-D better than BAA",
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
        "dO/dV of DANet-C is far above that of Origin",
        "`gradient_stability.svg`, last table of `danetc measure`",
        "[Tables IV and V](#tables-iv-and-v), T = 1",
        lambda cells: findings.measured(cells, "stability"),
        "interblock neurons that read sums of spikes are far above their threshold; Origin without zero initialisation fires half as often instead (Fig. 9)",
    ),
    Item(
        "Fig. 8, Table IV",
        "PA-A's gradients are the most stable from ResNet-34 on",
        "`gradient_stability.svg`, last table of `danetc measure`",
        "[older runs](#older-runs)",
        findings.stability_of_three,
        "unknown; at initialisation, the order depends on the weights of the norms",
    ),
    Item(
        "Fig. 11",
        "from ResNet-34 to ResNet-50, the training loss of Origin rises and that of DANet-C falls",
        "`training.svg` of `danetc compare`",
        "[the paper's architecture](#the-papers-architecture)",
        findings.loss,
    ),
    Item(
        "Sec. IV-A",
        "at initialisation, the input of each neuron is about N(0, 1) with tdBN and BAA",
        "`input.svg` of `danetc measure`",
        "[inputs of neurons](#inputs-of-neurons)",
        findings.inputs,
        "tdBN scales its last norms for a sum of two terms with variance 1; the variance of the spikes of an identity is at most 1/4",
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
            "the number of neurons on a path is a property of the graph; the rest is measured",
            PARTLY,
        ),
        "the proposition has no statement that could fail",
    ),
    Item(
        "Prop. 4",
        "dense addition bounds gradients from below",
        "`danetc prove`",
        "[Proposition 4](#proposition-4)",
        lambda cells: (
            "the bound holds; where block 0 spikes, the gradient of a chain is far larger",
            PARTLY,
        ),
        "the bound falls with the number of spikes that a block reads",
    ),
    Item(
        "SEW's logs (not in the paper)",
        "from depth 18 to 152, Origin falls from 62.3 to 10.0 %; SEW does not",
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
    return table(["paper", "claim", "runs", "result", "agrees", "reason for differences"], rows)


DRAWN = (
    ("Fig. 1", "six residual connections side by side", "`danetc draw`"),
    ("Fig. 2", "a neuron over time", "`danetc draw --level neuron`"),
    ("Fig. 4", "inputs of each block of a stage", "`danetc draw --level stage`"),
    (
        "Eqs. 4 to 9",
        "spatial and temporal parts of gradients",
        "`gradients.svg` of `danetc measure`",
    ),
    ("Table VI, cost", "parameters, epochs x T", "`danetc compare --dry-run`"),
)
"""Items of the paper that make no claim about trained networks, with the command for ours."""


def items(cells: Sequence[Cell]) -> str:
    """Return the table of docs/paper.md."""
    rows = [[name, says, command, "shown by the command", ""] for name, says, command in DRAWN]
    for item in ITEMS:
        _, agrees = item.compute(cells)
        ran = item.ran.replace("](#", "](../results/README.md#")
        rows.append([item.name, item.says, item.command, ran, agrees])
    return table(["paper", "content or claim", "command", "runs", "agrees"], rows)


OVERVIEW: dict[str, Callable[[Sequence[Cell]], str]] = {"overview": overview}
"""Table of results/README.md."""
ITEMS_OF_PAPER: dict[str, Callable[[Sequence[Cell]], str]] = {"items": items}
"""Table of docs/paper.md."""
