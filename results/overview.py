"""Tables of the paper's claims, in results/README.md and docs/paper.md.

``results.findings`` computes the results and verdicts; the claims of the paper and the reasons for
differences are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results import findings
from results.data import CONTRADICTED, MISSING, OPEN, SUPPORTED, Cell
from results.findings import (
    BAA,
    DANET_C,
    DANET_D,
    MS,
    ORIGIN,
    PA_A,
    PA_B,
    SEW,
    TDBN,
    WAITS,
    Found,
    along,
    between,
    judge,
    older_order,
)
from results.tables import table
from results.untrained import verdict_on


@dataclass(frozen=True)
class Claim:
    """A claim of the paper. ``why`` is our explanation if it is not supported."""

    name: str
    says: str
    ran: str
    compute: Callable[[Sequence[Cell]], Found]
    why: str = ""
    command: str = "`danetc compare`"


RATES = "`firing_rate.svg` of `danetc measure`"
STABILITY = "`gradient_stability.svg`, last table of `danetc measure`"
ARCHITECTURE = "[the paper's architecture](#the-papers-architecture)"
TWO, THREE, SIX = (f"[Table {n}](#table-{n.lower()})" for n in ("II", "III", "VI"))
FOUR_FIVE = "[Tables IV and V](#tables-iv-and-v), T = 1"
FIGURES, OLDER = "[Figs. 5 to 7](#figs-5-to-7)", "[older runs](#older-runs)"
SMALL = "small images of ten classes"

CLAIMS = (
    Claim(
        "Table I, Fig. 3",
        "PA-A fires most, then SEW, then PA-B",
        OLDER,
        lambda cells: older_order("firing_rate", (PA_A, SEW), (SEW, PA_B)),
        command=f"`danetc summary`, {RATES}",
    ),
    Claim(
        "Table II, Origin and DANet-C",
        "68.26 against 61.86 (ResNet-34), 70.90 against 57.66 (ResNet-50)",
        TWO,
        lambda cells: judge(between(cells, DANET_C, ORIGIN, 34, 50)),
    ),
    Claim(
        "Table II, both zero-initialised",
        "its Origin is that of SEW's authors, who initialise last norms to 0",
        ARCHITECTURE,
        lambda cells: judge(between(cells, DANET_C, ORIGIN, 34, zero_init=True)),
        "most of the difference above is one of initialisation",
    ),
    Claim(
        "Eq. 11 and Listing 1",
        "the same rule as an equation and as code",
        ARCHITECTURE,
        findings.readings,
        "taken literally, the output of a stage in the listing is the sum of all its blocks; in our reading of the equation and Fig. 4, it is the last block",
    ),
    Claim(
        "Table II, tdBN and DANet-D",
        "65.50 against 63.72 (ResNet-34)",
        TWO,
        lambda cells: judge(between(cells, DANET_D, TDBN, 34, 50)),
    ),
    Claim(
        "Table VI, DANet-C and DANet-D",
        "68.26 against 65.50 (ResNet-34): the norm of DANet-D weakens dense addition",
        TWO,
        lambda cells: judge(between(cells, DANET_C, DANET_D, 34, 50)),
        "not tested; the norm keeps sums of spikes near the threshold",
    ),
    Claim(
        "Table VI, DANet-C's depth",
        "rises on ImageNet-1k from 68.26 (ResNet-34) to 70.90 (ResNet-50)",
        TWO,
        lambda cells: judge(along(cells, DANET_C, 50, 34)),
        f"{SMALL}; on the paper's small data sets, DANet-C also falls with depth (Table III)",
    ),
    Claim(
        "Table VI, DANet-A's depth",
        "rises on ImageNet-1k from 66.48 (ResNet-18) to 77.22 (ResNet-152)",
        f"{FIGURES}, {OLDER}",
        lambda cells: judge(along(cells, PA_A, 50, 34, 18), along(cells, PA_A, 110, 56, 20)),
        SMALL,
    ),
    Claim(
        "Table VI, T = 4",
        "DANet-A is better than C, and C better than D, in ResNet-34",
        SIX,
        lambda cells: judge(
            between(cells, PA_A, DANET_C, 34, recipe="two_phase"),
            between(cells, DANET_C, DANET_D, 34, recipe="two_phase"),
        ),
    ),
    Claim(
        "Table VI, DANet-A and MS",
        "71.22 against 69.42 (ResNet-34, T = 4)",
        SIX,
        lambda cells: judge(between(cells, PA_A, MS, 34, recipe="two_phase")),
    ),
    Claim(
        "Table III, small sets",
        "Add falls with depth",
        THREE,
        lambda cells: judge(*(along(cells, DANET_C, 18, 50, **of) for of in findings.SMALL)),
    ),
    Claim(
        "Table III, first pair",
        "Add (ResNet-18) is better than Concate (DenseNet-121)",
        THREE,
        lambda cells: findings.add_and_concate(cells, 18, 121, above=True),
    ),
    Claim(
        "Table III, last pair",
        "Concate (DenseNet-161) is better than Add (ResNet-50)",
        THREE,
        lambda cells: findings.add_and_concate(cells, 50, 161, above=False),
    ),
    Claim(
        "Fig. 5, Origin",
        "Origin falls with depth",
        FIGURES,
        lambda cells: judge(along(cells, ORIGIN, 18, 34, 50)),
    ),
    Claim(
        "Fig. 5, tdBN and BAA",
        "both lose less with depth than Origin",
        FIGURES,
        lambda cells: judge(
            between(cells, TDBN, ORIGIN, 34, 50), between(cells, BAA, ORIGIN, 34, 50)
        ),
    ),
    Claim(
        "Fig. 6, small sets",
        "PA-A is worse than SEW and PA-B",
        f"{FIGURES}, five classes",
        lambda cells: judge(
            *(between(cells, better, PA_A, 18, 34, 50, classes=5) for better in (SEW, PA_B))
        ),
    ),
    Claim(
        "Fig. 6, ImageNet-1k",
        "PA-A is better than SEW and PA-B",
        OLDER,
        lambda cells: judge(*(between(cells, PA_A, other, 20, 56, 110) for other in (SEW, PA_B))),
        SMALL,
    ),
    Claim(
        "Fig. 7",
        "DANet-C is better than Origin, DANet-D better than BAA",
        FIGURES,
        lambda cells: judge(
            between(cells, DANET_C, ORIGIN, 34, 50), between(cells, DANET_D, BAA, 34, 50)
        ),
    ),
    Claim(
        "Fig. 9, DANet-C",
        "DANet-C fires more than Origin",
        f"{ARCHITECTURE}, T = 1",
        lambda cells: judge(
            between(cells, DANET_C, ORIGIN, 34, 50, value="firing_rate"),
            between(cells, DANET_C, ORIGIN, 34, value="firing_rate", zero_init=True),
        ),
        command=RATES,
    ),
    Claim(
        "Fig. 9, DANet-D",
        "Origin fires more than DANet-D",
        f"{TWO}, T = 1",
        lambda cells: judge(between(cells, ORIGIN, DANET_D, 34, 50, value="firing_rate")),
        command=RATES,
    ),
    Claim(
        "Fig. 10, Table V, DANet-C",
        "dO/dV of DANet-C is far above that of Origin",
        FOUR_FIVE,
        lambda cells: judge(
            between(cells, DANET_C, ORIGIN, 34, 50, value="stability"),
            between(cells, DANET_C, ORIGIN, 34, value="stability", zero_init=True),
        ),
        "interblock neurons that read sums of spikes are far above their threshold; Origin without zero initialisation fires half as often instead (Fig. 9)",
        STABILITY,
    ),
    Claim(
        "Fig. 10, Table V, DANet-D",
        "dO/dV of DANet-D is far above that of Origin",
        FOUR_FIVE,
        lambda cells: judge(between(cells, DANET_D, ORIGIN, 34, 50, value="stability")),
        command=STABILITY,
    ),
    Claim(
        "Fig. 8, Table IV",
        "PA-A's gradients are the most stable from ResNet-34 on",
        OLDER,
        lambda cells: older_order("stability", (PA_A, SEW), (PA_A, PA_B)),
        "unknown; at initialisation, the order depends on the weights of the norms",
        STABILITY,
    ),
    Claim(
        "Fig. 11",
        "from ResNet-34 to ResNet-50, the training loss of Origin rises and that of DANet-C falls",
        ARCHITECTURE,
        lambda cells: judge(
            along(cells, ORIGIN, 50, 34, value="train_loss"),
            along(cells, DANET_C, 34, 50, value="train_loss"),
        ),
        SMALL,
        "`training.svg` of `danetc compare`",
    ),
    Claim(
        "Prop. 3, trained",
        "the first neurons of PA-A's blocks fire more with each block of a stage",
        FIGURES,
        findings.rising_rates,
        "as the paper says, but of one seed",
        RATES,
    ),
    Claim(
        "SEW's logs",
        "from depth 18 to 152, Origin falls from 62.3 to 10.0 %, and SEW is above it at each depth",
        "[Origin and the literature](#origin-and-the-literature)",
        lambda cells: judge(
            along(cells, ORIGIN, 20, 56, 110), between(cells, SEW, ORIGIN, 20, 56, 110)
        ),
    ),
)


def judged(cells: Sequence[Cell]) -> list[tuple[Claim, Found]]:
    """Return all claims with their results, ordered by verdict."""
    order = (CONTRADICTED, OPEN, SUPPORTED, WAITS)
    found = [(claim, claim.compute(cells)) for claim in CLAIMS]
    return sorted(found, key=lambda pair: order.index(pair[1].verdict))


def claims(cells: Sequence[Cell]) -> str:
    """Return the table of all claims, and the number of its intervals."""
    rows, intervals = [], 0
    for claim, found in judged(cells):
        why = claim.why if found.verdict != SUPPORTED else ""
        said = f"**{found.verdict}**"
        rows.append([claim.name, claim.says, claim.ran, found.text or MISSING, said, why])
        intervals += found.intervals
    head = ["paper", "claim", "runs", "differences", "verdict", "our explanation"]
    return (
        f"{table(head, rows)}\n\nThe table has {intervals} intervals of 95 %. Without any effect, one in "
        "twenty excludes zero; they are not corrected for their number."
    )


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
    ("Sec. IV-A", "inputs of neurons at initialisation", "`input.svg` of `danetc measure`"),
)
"""Items of the paper that make no claim about trained networks, with the command for ours."""


PROPOSITIONS = (
    (ORIGIN, 1, "interblock modules disrupt gradients"),
    (PA_A, 3, "within a stage, the first neurons of deeper blocks fire more"),
    (DANET_C, 4, "dense addition bounds gradients from below"),
)


def items(cells: Sequence[Cell]) -> str:
    """Return the table of docs/paper.md."""
    rows = [[name, says, command, "shown by the command", ""] for name, says, command in DRAWN]
    for name, number, says in PROPOSITIONS:
        ran = "[propositions](../results/README.md#propositions), untrained"
        title = f"Prop. {number}, {name}"
        rows.append([title, says, "`danetc prove`", ran, verdict_on(name, number)])
    for claim in CLAIMS:
        ran = claim.ran.replace("](#", "](../results/README.md#")
        rows.append([claim.name, claim.says, claim.command, ran, claim.compute(cells).verdict])
    return table(["paper", "content or claim", "command", "runs", "verdict"], rows)
