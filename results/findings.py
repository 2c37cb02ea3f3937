"""Claims of the paper as differences between trained networks, with the verdicts on them.

Differences are paired by seed. A claim is supported if the 95 % interval of each of its differences is
above 0, contradicted if that of one is below 0, and otherwise open, as is one with a single seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any

from results.data import ALL as LISTING_1
from results.data import (
    CONTRADICTED,
    DIGITS,
    EQ_11,
    OPEN,
    Cell,
    Interval,
    Older,
    Seeded,
    older_accuracies,
    older_measured,
    paired,
    pick,
    verdict,
)
from results.tables import CONNECTIONS, SHAPES

WAITS = "not yet run"
ORIGIN, DANET_C, DANET_D, PA_A = "Origin", "DANet-C (Eq. 11)", "DANet-D", "PA-A (DANet-A)"
SEW, PA_B, BAA, TDBN, MS = "SEW", "PA-B (DANet-B)", "BAA", "tdBN", "MS"


@dataclass(frozen=True)
class Difference:
    """The claim that a value of some networks is higher than that of others."""

    name: str
    higher: Sequence[Seeded]
    lower: Sequence[Seeded]
    value: str = "accuracy"

    @property
    def interval(self) -> Interval | None:
        return paired(self.higher, self.lower, attrgetter(self.value))

    @property
    def text(self) -> str:
        digits = {"accuracy": 1, "train_loss": 2}.get(self.value, 3)
        return f"{self.name} {self.interval.text(digits)}" if self.interval else ""


@dataclass(frozen=True)
class Found:
    """Result of a claim: its text, the verdict and the number of intervals."""

    text: str
    verdict: str
    intervals: int = 0


def judge(*groups: Sequence[Difference], same: bool = False) -> Found:
    """Return the verdict on a claim of these differences, or that there are none (``same``)."""
    differences = [each for group in groups for each in group]
    found = [each.interval for each in differences]
    known = [each for each in found if each]
    if len(known) < len(found):
        return Found("", WAITS)
    said = verdict(known)
    if same:
        said = OPEN if {each.verdict for each in known} == {OPEN} else CONTRADICTED
    text = "; ".join(each.text for each in differences)
    return Found(text, said, sum(each.pairs > 1 for each in known))


OLDER = {
    ORIGIN: "origin_net",
    DANET_C: "danet_c_net",
    "Listing 1": "listing1_net",
    SEW: "sew_net",
    PA_A: "pa_a_net",
    PA_B: "pa_b_net",
}
"""Networks of results/depth/depth.danet by their names in tables."""


def shape(cells: Sequence[Cell], name: str, depth: int, **more: Any) -> list[Cell]:
    """Return the cells of a connection in one of the paper's shapes."""
    connection, rule = CONNECTIONS[name]
    return pick(cells, connection=connection, rule=rule, depth=depth, **more)


def runs(cells: Sequence[Cell], name: str, depth: int, **more: Any) -> Sequence[Seeded]:
    """Return the runs of a connection: at depth 20, 56 and 110 those of the first set of older runs."""
    if depth in SHAPES:
        return shape(cells, name, depth, **more)
    accuracies = older_accuracies("accuracy.json")[OLDER[name], depth]
    return [Older(OLDER[name], depth, seed, value) for seed, value in accuracies.items()]


def short(name: str) -> str:
    return name.partition(" (")[0]


def at(*depths: int, zero_init: bool = False, classes: int = 10, recipe: str = "") -> str:
    """Return the words for depths and for settings other than the usual ones."""
    words = {"zero-initialised": zero_init, "five classes": classes == 5}
    words |= {"digits": recipe == DIGITS, "T = 4": recipe == "two_phase"}
    shapes = " − ".join(
        f"ResNet-{depth}" if depth in SHAPES else f"depth {depth}" for depth in depths
    )
    return ", ".join([shapes] * bool(depths) + [word for word, said in words.items() if said])


def between(
    cells: Sequence[Cell],
    higher: str,
    lower: str,
    *depths: int,
    value: str = "accuracy",
    **more: Any,
) -> list[Difference]:
    """Return the differences of two connections at some depths."""
    return [
        Difference(
            f"{short(higher)} − {short(lower)}, {at(depth, **more)}",
            runs(cells, higher, depth, **more),
            runs(cells, lower, depth, **more),
            value,
        )
        for depth in depths
    ]


def along(
    cells: Sequence[Cell], name: str, *depths: int, value: str = "accuracy", **more: Any
) -> list[Difference]:
    """Return the differences of a connection from the first to the second depth, and so on."""
    return [
        Difference(
            f"{short(name)}, {at(first, second, **more)}",
            runs(cells, name, first, **more),
            runs(cells, name, second, **more),
            value,
        )
        for first, second in pairwise(depths)
    ]


def readings(cells: Sequence[Cell]) -> Found:
    """Compare Eq. 11 and Listing 1, which are claimed to be the same, in ResNet-34's shape."""
    listing, equation = (
        pick(cells, connection="origin", rule=rule, depth=34) for rule in (LISTING_1, EQ_11)
    )
    return judge([Difference("Listing 1 − Eq. 11, ResNet-34", listing, equation)], same=True)


SMALL: Sequence[Mapping[str, Any]] = ({"classes": 5}, {"recipe": DIGITS})


def add_and_concate(cells: Sequence[Cell], depth: int, dense: int, *, above: bool) -> Found:
    """Compare Add with Concate on small sets: above it in Table III's first pair, below in the last."""
    differences = []
    for of in SMALL:
        pair = (
            shape(cells, DANET_C, depth, **of),
            pick(cells, connection="dense_layer", depth=dense, **of),
        )
        higher, lower = pair if above else pair[::-1]
        title = "Add − Concate" if above else "Concate − Add"
        differences.append(Difference(f"{title}, {at(**of)}", higher, lower))
    return judge(differences)


def older_order(value: str, *pairs: tuple[str, str]) -> Found:
    """Compare a measure of the older networks at depth 110."""
    found = {
        name: [each for each in older_measured() if (each.network, each.depth) == (network, 110)]
        for name, network in OLDER.items()
    }
    return judge(
        [
            Difference(f"{short(a)} − {short(b)}, {at(110)}", found[a], found[b], value)
            for a, b in pairs
        ]
    )


def rising_rates(cells: Sequence[Cell]) -> Found:
    """Count the blocks of trained PA-A whose first neuron fires more than that of the block before.

    The first step of a stage is left out: its opening block reads the stage before.
    """
    steps, networks, seeds = [], 0, set()
    for cell in cells:
        first = [
            layer
            for layer in cell.layers
            if layer.main and layer.block and layer.name.endswith("branch.spike1")
        ]
        stages = [list(own) for _, own in groupby(first, attrgetter("stage"))]
        own = [b.rate > a.rate for stage in stages for a, b in pairwise(stage)]
        if cell.record.get("connection") == "pa_a" and own:
            steps += own
            networks += 1
            seeds.add(cell.seed)
    if not steps:
        return Found("", WAITS)
    text = f"rates rise in {sum(steps)} of {len(steps)} steps from block to block in {networks} networks"
    return Found(f"{text} ({len(seeds)} seed{'s' * (len(seeds) > 1)} each)", OPEN)
