"""Outcomes of the predictions in results/paper/predictions.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from results.data import (
    AFTER,
    ALL,
    CHAIN,
    DIGITS,
    EQ_11,
    Cell,
    Interval,
    geometric,
    hand_model,
    interval,
    on_fashion_mnist,
    paired,
    pick,
    rank_correlation,
)

BORNE_OUT, REFUTED, UNDECIDED, WAITS = "borne out", "refuted", "between the two", "not yet run"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a prediction: the numbers, and the verdict by the criterion that was written before.

    ``differences`` are those that the prediction says are positive: empty for single seeds, None if
    the prediction is not on differences.
    """

    text: str
    verdict: str
    differences: Sequence[Interval] | None = None


def _between(value: float, *, out: float, against: float) -> str:
    """Return the verdict: borne out if ``value`` reaches ``out``, refuted if it is beyond ``against``."""
    sign = 1 if out > against else -1
    if sign * value >= sign * out:
        return BORNE_OUT
    return REFUTED if sign * value < sign * against else UNDECIDED


def _accuracy(cells: Sequence[Cell]) -> float:
    return mean(cell.accuracy for cell in cells)


def _waits(*groups: Sequence[Cell], seeds: int = 1) -> Outcome | None:
    """Return a waiting outcome if a group has fewer seeds than requested."""
    have = min(len(group) for group in groups)
    if have >= seeds:
        return None
    done = sum(len(group) >= seeds for group in groups)
    return Outcome(f"{done} of {len(groups)} cells with all seeds", WAITS)


def two_blocks(cells: Sequence[Cell]) -> Outcome:
    chain = pick(cells, connection="origin", n=2)
    dense = [c for c in cells if c.axes.get("n") == 2 and c.record["rule"] == EQ_11]
    if not chain or not dense:
        return Outcome("", WAITS)
    names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    same = all(
        a[name] == b[name]
        for a, b in zip(chain[0].record["epochs"], dense[0].record["epochs"], strict=True)
        for name in names
    )
    text = f"{chain[0].accuracy:.2f} % and {dense[0].accuracy:.2f} %"
    return Outcome(
        f"{text}, all figures of all epochs {'equal' if same else 'not equal'}",
        BORNE_OUT if same else REFUTED,
    )


def hand(cells: Sequence[Cell]) -> Outcome:
    def trained(rule: str) -> dict[int, float]:
        found = {n: pick(cells, connection="origin", rule=rule, n=n) for n in (3, 6, 9, 18)}
        return {
            n: geometric([cell.interblock_dodv for cell in own]) for n, own in found.items() if own
        }

    dense, chain = trained(EQ_11), trained(CHAIN)
    if not {3, 9} <= dense.keys() & chain.keys():
        return Outcome("", WAITS)
    off = {n: value / geometric(hand_model(n, dense=True)) for n, value in dense.items()}
    text = "; ".join(
        f"n = {n}: {dense[n]:.3f} (hand {geometric(hand_model(n, dense=True)):.3f})" for n in dense
    )
    falls, flat = dense[9] / dense[3], chain[9] / chain[3]
    text += f"; from n = 3 to 9 Eq. 11 × {falls:.2f}, chain × {flat:.2f}"
    if any(not 0.5 <= factor <= 2 for factor in off.values()) or falls >= 1:
        return Outcome(text, REFUTED)
    near = all(1 / 1.5 <= factor <= 1.5 for factor in off.values())
    return Outcome(text, BORNE_OUT if near and falls < 0.9 < flat else UNDECIDED)


def product_at_four_steps(cells: Sequence[Cell]) -> Outcome:
    signs, texts = [], []
    for n in (3, 6, 9):
        origin, dense = (
            pick(cells, connection="origin", rule=rule, n=n, recipe="two_phase")
            for rule in (CHAIN, EQ_11)
        )
        if not origin or not dense:
            return Outcome("; ".join(texts), WAITS)
        over = mean(c.log10_product for c in dense) - mean(c.log10_product for c in origin)
        signs.append(over > 0 if n < 9 else over < 0)
        texts.append(f"n = {n}: 10^{over:.1f} times Origin's")
    verdict = BORNE_OUT if all(signs) else REFUTED if sum(signs) < 2 else UNDECIDED
    return Outcome("; ".join(texts), verdict, [])


def zero_init(cells: Sequence[Cell]) -> Outcome:
    found = {
        (n, zero): pick(cells, connection="origin", rule=EQ_11, n=n, zero_init=zero)
        for n in (3, 9)
        for zero in (False, True)
    }
    if waits := _waits(*found.values(), seeds=3):
        return waits
    without, with_zero = (
        [a.accuracy - b.accuracy for a, b in zip(found[3, zero], found[9, zero], strict=True)]
        for zero in (False, True)
    )
    text = f"loses {mean(without):.1f} points without, {mean(with_zero):.1f} with"
    verdict = BORNE_OUT if mean(with_zero) <= mean(without) / 2 else REFUTED
    removed = [a / 2 - b for a, b in zip(without, with_zero, strict=True)]
    return Outcome(text, verdict, [interval(removed)])


def _lead(over: Interval | None, *, out: float, against: float) -> Outcome:
    """Judge a mean difference; a verdict needs three seeds. It may be predicted to be negative."""
    if over is None:
        return Outcome("", WAITS)
    if over.pairs < 3:
        return Outcome(f"{over.text()} points so far", WAITS)
    claimed = over if out > against else Interval(over.pairs, -over.mean, -over.high, -over.low)
    return Outcome(
        f"{over.text()} points", _between(over.mean, out=out, against=against), [claimed]
    )


def paper_shape(cells: Sequence[Cell]) -> Outcome:
    origin, dense = (pick(cells, connection="origin", rule=r, depth=34) for r in (CHAIN, EQ_11))
    return _lead(paired(dense, origin), out=2, against=0)


def deeper(cells: Sequence[Cell]) -> Outcome:
    shallow, deep = (pick(cells, connection="origin", rule=EQ_11, depth=d) for d in (34, 50))
    return _lead(paired(deep, shallow), out=0.5, against=1.5)


def origin_with_zero(cells: Sequence[Cell]) -> Outcome:
    found = pick(cells, connection="origin", n=9, zero_init=True)
    if waits := _waits(found):
        return waits
    value = _accuracy(found)
    return Outcome(f"{value:.1f} % ({len(found)} seed)", _between(value, out=30, against=50), [])


def what_a_stage_gives(cells: Sequence[Cell]) -> Outcome:
    found = [pick(cells, connection="origin", rule=rule, n=9) for rule in (EQ_11, ALL, AFTER)]
    if waits := _waits(*found):
        return waits
    first, whole, after = (_accuracy(own[:1]) for own in found)  # the seed that all groups have
    text = (
        f"Eq. 11 {first:.1f}, Listing 1 {whole:.1f}, after the opening block {after:.1f} % (seed 0)"
    )
    if min(whole, after) < first:
        return Outcome(text, REFUTED, [])
    borne_out = min(whole, after) >= first + 2 and abs(whole - after) <= 2
    return Outcome(text, BORNE_OUT if borne_out else UNDECIDED, [])


def table_two(cells: Sequence[Cell]) -> Outcome:
    over = []
    for depth in (34, 50):
        tdbn = pick(cells, connection="tdbn", depth=depth)
        found = paired(pick(cells, connection="baa", rule=EQ_11, depth=depth), tdbn)
        if found is None:
            return Outcome("", WAITS)
        over.append(found)
    text = f"ResNet-34 {over[0].text()}, ResNet-50 {over[1].text()} points"
    return Outcome(text, _between(min(each.mean for each in over), out=1, against=0), over)


def five_classes(cells: Sequence[Cell]) -> Outcome:
    return _table_three(cells, classes=5)


def digits(cells: Sequence[Cell]) -> Outcome:
    return _table_three(cells, recipe=DIGITS, asked=3)


def _table_three(cells: Sequence[Cell], asked: int = 1, **of: Any) -> Outcome:
    """Check that Add falls from the first pair to the last, and that Concate wins there."""
    add = [pick(cells, connection="origin", rule=EQ_11, depth=d, **of) for d in (18, 50)]
    concate = pick(cells, connection="dense_layer", depth=161, **of)
    if waits := _waits(*add, concate, seeds=asked):
        return waits
    falls, wins = paired(add[0], add[1]), paired(concate, add[1])
    if falls is None or wins is None:
        return Outcome("", WAITS)
    text = f"Add falls by {falls.text()} points, Concate − Add {wins.text()}"
    borne_out = min(falls.mean, wins.mean) >= 0.5
    verdict = BORNE_OUT if borne_out else UNDECIDED
    if falls.mean < 0 or wins.mean <= -0.5:
        verdict = REFUTED
    return Outcome(text, verdict, [falls, wins])


def stability_and_accuracy(cells: Sequence[Cell]) -> Outcome:
    own = on_fashion_mnist(cells)
    found = rank_correlation([c.stability for c in own], [c.accuracy for c in own])
    if found is None or len(own) < 20:
        return Outcome(f"{len(own)} cells", WAITS)
    text = f"{found:+.2f} over {len(own)} cells"
    if abs(found) <= 0.3:
        return Outcome(text, BORNE_OUT)
    return Outcome(text, REFUTED if found > 0.6 else UNDECIDED)


PREDICTIONS: dict[str, tuple[str, Callable[[Sequence[Cell]], Outcome]]] = {
    "a": ("with two blocks a stage, Eq. 11 equals the chain", two_blocks),
    "b": ("interblock dO/dV of Eq. 11 follows the hand model and falls with n", hand),
    "c": ("at T = 4, the product of dO/dV is above Origin's up to n = 6 and below it from n = 9", product_at_four_steps),
    "d": ("zero initialisation halves the loss of Eq. 11 from n = 3 to 9", zero_init),
    "e": ("DANet-C beats Origin by 2 points in ResNet-34's shape", paper_shape),
    "f": ("DANet-C does not gain from ResNet-34's shape to ResNet-50's", deeper),
    "g": ("zero initialisation does not rescue Origin at n = 9", origin_with_zero),
    "h": ("at n = 9, both forms of Listing 1 beat Eq. 11 by 2 points", what_a_stage_gives),
    "i": ("DANet-D beats tdBN by a point in ResNet-34's and ResNet-50's shapes", table_two),
    "j": ("on five classes, Add falls with depth, and Concate wins in the last pair", five_classes),
    "k": ("dO/dV a layer does not predict accuracy (rank correlation at most 0.3)", stability_and_accuracy),
    "q": ("on digits, too, Add falls with depth, and Concate wins in the last pair", digits),
}  # fmt: skip
"""Predictions by their letter in predictions.md of paper/ and digits/: summary and outcome function."""
