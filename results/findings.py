"""Results for each table and figure of the paper, and whether they agree.

Compared networks have the same seeds; the text gives their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from results.data import ALL as LISTING_1
from results.data import DIGITS, EQ_11, HERE, Cell, older_accuracies, older_measured, pick, read
from results.tables import CONNECTIONS

YES, NO, PARTLY, WAITS = "yes", "no", "in part", "not yet run"
MORE_WAITS = "not all runs done"

Found = tuple[str, str]
"""Result, and whether it agrees."""

ORIGIN, DANET_C, DANET_D, PA_A = "Origin", "DANet-C (Eq. 11)", "DANet-D", "PA-A (DANet-A)"


def agrees(signs: Sequence[bool]) -> str:
    return YES if all(signs) else PARTLY if any(signs) else NO


def same_seeds(*groups: Sequence[Cell]) -> list[list[Cell]] | None:
    """Return the cells of the seeds that all groups share, or None if there are none."""
    shared = set.intersection(*({cell.seed for cell in group} for group in groups))
    return [[cell for cell in group if cell.seed in shared] for group in groups] if shared else None


def seeds(cells: Sequence[Cell]) -> str:
    return f"({len(cells)} seed{'s' * (len(cells) > 1)})"


def accuracy(cells: Sequence[Cell]) -> float:
    return mean(cell.accuracy for cell in cells)


def shape(cells: Sequence[Cell], name: str, depth: int, **more: Any) -> list[Cell]:
    """Return the cells of a connection in one of the paper's shapes."""
    connection, rule = CONNECTIONS[name]
    return pick(cells, connection=connection, rule=rule, depth=depth, **more)


def compared(
    cells: Sequence[Cell], pairs: Sequence[tuple[str, str]], depths: Sequence[int], **more: Any
) -> Found:
    """Check that the first of each pair is better than the second, at each depth."""
    texts, signs = [], []
    for better, worse in pairs:
        for depth in depths:
            found = same_seeds(*(shape(cells, name, depth, **more) for name in (better, worse)))
            if found is not None:
                first, second = map(accuracy, found)
                texts.append(
                    f"{better} {first:.1f}, {worse} {second:.1f} % in ResNet-{depth}'s shape "
                    + seeds(found[0])
                )
                signs.append(first > second)
    if not signs:
        return "", WAITS
    rest = "" if len(signs) == len(pairs) * len(depths) else f", {MORE_WAITS}"
    return "; ".join(texts), agrees(signs) + rest


def zero_initialised(cells: Sequence[Cell]) -> Found:
    """Compute how much of DANet-C's lead over Origin remains if both are zero-initialised."""
    groups = [
        shape(cells, name, 34, zero_init=zero)
        for zero in (False, True)
        for name in (ORIGIN, DANET_C)
    ]
    found = same_seeds(*groups)
    if found is None:
        return "", WAITS
    origin, dense, origin_zero, dense_zero = map(accuracy, found)
    left = dense_zero - origin_zero
    text = (
        f"{dense_zero:.1f} and {origin_zero:.1f} % in ResNet-34's shape: {left:+.1f} points, of "
        f"{dense - origin:+.1f} without {seeds(found[0])}"
    )
    return text, YES if left > 0 else NO


def readings(cells: Sequence[Cell]) -> Found:
    """Check that Eq. 11 and Listing 1 agree within a point in ResNet-34's shape."""
    found = same_seeds(
        *(pick(cells, connection="origin", rule=rule, depth=34) for rule in (EQ_11, LISTING_1))
    )
    if found is None:
        return "", WAITS
    equation, listing = map(accuracy, found)
    text = f"Eq. 11 {equation:.1f}, Listing 1 {listing:.1f} % in ResNet-34's shape"
    return f"{text} {seeds(found[0])}", YES if abs(listing - equation) <= 1 else NO


def along_depth(cells: Sequence[Cell], name: str, depths: Sequence[int], *, rises: bool) -> Found:
    """Check that accuracy rises, or falls, from each depth to the next."""
    found = same_seeds(*(shape(cells, name, depth) for depth in depths))
    if found is None:
        return "", WAITS
    values = list(map(accuracy, found))
    text = " to ".join(f"{value:.1f}" for value in values)
    return f"{text} % {seeds(found[0])}", agrees([(b > a) == rises for a, b in pairwise(values)])


def small_sets(cells: Sequence[Cell]) -> Found:
    """Table III on small sets."""
    texts, signs = [], []
    small: Mapping[str, Mapping[str, Any]] = {
        "five classes": {"classes": 5},
        "digits": {"recipe": DIGITS},
    }
    for name, of in small.items():
        found = same_seeds(
            *(shape(cells, DANET_C, depth, **of) for depth in (18, 50)),
            *(pick(cells, connection="dense_layer", depth=depth, **of) for depth in (121, 161)),
        )
        if found is None:
            return "; ".join(texts), WAITS
        first, last, first_dense, last_dense = map(accuracy, found)
        texts.append(
            f"Add {first:.1f} to {last:.1f}, Concate {first_dense:.1f} to {last_dense:.1f} % on {name} "
            + seeds(found[0])
        )
        signs += [first > last, first > first_dense, last_dense > last]
    return "; ".join(texts), agrees(signs)


def measured(cells: Sequence[Cell], measure: str) -> Found:
    """Check that a measure of DANet-C is above Origin's, in ResNet-34's and ResNet-50's shapes."""
    texts, signs = [], []
    for depth, zero in ((34, False), (34, True), (50, False)):
        found = same_seeds(
            *(shape(cells, name, depth, zero_init=zero) for name in (ORIGIN, DANET_C))
        )
        if found is not None:
            origin, dense = (mean(getattr(cell, measure) for cell in own) for own in found)
            start = ", zero-initialised" if zero else ""
            texts.append(
                f"DANet-C {dense:.3f}, Origin {origin:.3f} in ResNet-{depth}'s shape{start} "
                + seeds(found[0])
            )
            signs.append(dense > origin)
    rest = "" if len(signs) == 3 else f", {MORE_WAITS}"
    return "; ".join(texts), agrees(signs) + rest if signs else WAITS


def loss(cells: Sequence[Cell]) -> Found:
    """Fig. 11: Origin's training loss is higher in the deeper network, DANet-C's lower."""
    texts, signs = [], []
    for name, rises in ((ORIGIN, True), (DANET_C, False)):
        found = same_seeds(*(shape(cells, name, depth) for depth in (34, 50)))
        if found is None:
            return "", WAITS
        first, last = (mean(c.record["epochs"][-1]["train_loss"] for c in own) for own in found)
        texts.append(f"{name} {first:.2f} to {last:.2f} {seeds(found[0])}")
        signs.append((last > first) == rises)
    return "; ".join(texts), agrees(signs)


def four_steps(cells: Sequence[Cell]) -> Found:
    """Table VI at T = 4: DANet-A, then C, then D."""
    found = same_seeds(
        *(shape(cells, name, 34, recipe="two_phase") for name in (PA_A, DANET_C, DANET_D))
    )
    if found is None:
        return "", WAITS
    values = list(map(accuracy, found))
    text = ", ".join(f"{letter} {value:.1f}" for letter, value in zip("ACD", values, strict=True))
    return f"{text} % {seeds(found[0])}", agrees([a > b for a, b in pairwise(values)])


# -- of files that are no cells --------------------------------------------------------------------


def _three_at_110(measure: str) -> tuple[Mapping[str, float], int]:
    """Return a measure of the older runs without interblock neurons at depth 110, and the number of seeds."""
    found, counts = {}, []
    for name, network in (("PA-A", "pa_a_net"), ("SEW", "sew_net"), ("PA-B", "pa_b_net")):
        own = [each for each in older_measured() if (each.network, each.depth) == (network, 110)]
        found[name] = mean(getattr(each, measure) for each in own)
        counts.append(len(own))
    return found, min(counts)


def order_of_rates(cells: Sequence[Cell]) -> Found:
    """Table I and Fig. 3: PA-A fires most, then SEW, then PA-B."""
    rates, count = _three_at_110("firing_rate")
    text = ", ".join(f"{name} {value:.3f}" for name, value in rates.items())
    return f"{text} at depth 110 ({count} seeds)", YES if sorted(rates.values())[::-1] == [
        *rates.values()
    ] else NO


def stability_of_three(cells: Sequence[Cell]) -> Found:
    """Table IV: PA-A has the most stable gradients from ResNet-34 on."""
    slopes, count = _three_at_110("stability")
    text = ", ".join(f"{name} {value:.3f}" for name, value in slopes.items())
    best = max(slopes, key=slopes.__getitem__)
    return f"{text} a layer at depth 110, T = 1 ({count} seeds)", YES if best == "PA-A" else NO


def inputs(cells: Sequence[Cell]) -> Found:
    """Sec. IV-A: means within 0.1 of 0 and deviations within 0.1 of 1 in every layer."""
    texts, signs = [], []
    for network in read(HERE / "paper" / "inputs.json")["networks"][1:]:
        layers = [(average, deviation) for _, average, deviation in network["layers"]]
        signs.append(all(abs(a) <= 0.1 and abs(d - 1) <= 0.1 for a, d in layers))
        low, high = (choose(d for _, d in layers) for choose in (min, max))
        texts.append(f"{network['name']}'s deviations {low:.2f} to {high:.2f}")
    return "; ".join(texts), agrees(signs)


def older_collapse(cells: Sequence[Cell]) -> Found:
    """Origin falls with depth and SEW does not."""
    found = older_accuracies("accuracy.json")
    depths = (20, 56, 110)
    origin, sew = ([mean(found[n, d].values()) for d in depths] for n in ("origin_net", "sew_net"))
    texts = [
        f"{name} " + ", ".join(f"{value:.1f}" for value in values)
        for name, values in (("Origin", origin), ("SEW", sew))
    ]
    signs = [a > b for a, b in pairwise(origin)] + [sew[-1] > sew[0] - 1]
    return f"{'; '.join(texts)} % at depth 20, 56, 110 (3 seeds)", agrees(signs)
