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
    geometric,
    hand_model,
    on_fashion_mnist,
    pick,
    rank_correlation,
)

BORNE_OUT, REFUTED, UNDECIDED, WAITS = "borne out", "refuted", "between the two", "not yet run"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a prediction: the numbers and the verdict."""

    text: str
    verdict: str


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
    dense = [c for c in cells if c.record["axes"].get("n") == 2 and c.record["rule"] == EQ_11]
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
    return Outcome("; ".join(texts), verdict)


def zero_init(cells: Sequence[Cell]) -> Outcome:
    found = {
        (n, zero): pick(cells, connection="origin", rule=EQ_11, n=n, zero_init=zero)
        for n in (3, 9)
        for zero in (False, True)
    }
    if waits := _waits(*found.values(), seeds=3):
        return waits
    without, with_zero = (
        _accuracy(found[3, zero]) - _accuracy(found[9, zero]) for zero in (False, True)
    )
    text = f"loses {without:.1f} points without, {with_zero:.1f} with"
    return Outcome(text, BORNE_OUT if with_zero <= without / 2 else REFUTED)


def _lead(first: Sequence[Cell], second: Sequence[Cell], *, out: float, against: float) -> Outcome:
    """Compute the lead of the second over the first; a verdict needs three seeds of both."""
    shared = {cell.seed for cell in first} & {cell.seed for cell in second}
    if not shared:
        return Outcome("", WAITS)
    over = _accuracy([c for c in second if c.seed in shared]) - _accuracy(
        [c for c in first if c.seed in shared]
    )
    if len(shared) < 3:
        return Outcome(f"{over:+.1f} points so far, {len(shared)} of 3 seeds", WAITS)
    return Outcome(f"{over:+.1f} points", _between(over, out=out, against=against))


def paper_shape(cells: Sequence[Cell]) -> Outcome:
    origin, dense = (pick(cells, connection="origin", rule=r, depth=34) for r in (CHAIN, EQ_11))
    return _lead(origin, dense, out=2, against=0)


def deeper(cells: Sequence[Cell]) -> Outcome:
    shallow, deep = (pick(cells, connection="origin", rule=EQ_11, depth=d) for d in (34, 50))
    return _lead(shallow, deep, out=0.5, against=1.5)


def origin_with_zero(cells: Sequence[Cell]) -> Outcome:
    found = pick(cells, connection="origin", n=9, zero_init=True)
    if waits := _waits(found):
        return waits
    value = _accuracy(found)
    return Outcome(f"{value:.1f} % ({len(found)} seed)", _between(value, out=30, against=50))


def what_a_stage_gives(cells: Sequence[Cell]) -> Outcome:
    found = [pick(cells, connection="origin", rule=rule, n=9) for rule in (EQ_11, ALL, AFTER)]
    if waits := _waits(*found):
        return waits
    first, whole, after = (_accuracy(own[:1]) for own in found)  # the seed that all groups have
    text = (
        f"Eq. 11 {first:.1f}, Listing 1 {whole:.1f}, after the opening block {after:.1f} % (seed 0)"
    )
    if min(whole, after) < first:
        return Outcome(text, REFUTED)
    borne_out = min(whole, after) >= first + 2 and abs(whole - after) <= 2
    return Outcome(text, BORNE_OUT if borne_out else UNDECIDED)


def table_two(cells: Sequence[Cell]) -> Outcome:
    over = []
    for depth in (34, 50):
        tdbn = pick(cells, connection="tdbn", depth=depth)
        dense = pick(cells, connection="baa", rule=EQ_11, depth=depth)
        if waits := _waits(tdbn, dense):
            return waits
        seeds = min(len(tdbn), len(dense))
        over.append(_accuracy(dense[:seeds]) - _accuracy(tdbn[:seeds]))
    text = f"ResNet-34 {over[0]:+.1f}, ResNet-50 {over[1]:+.1f} points ({seeds} seed{'s' * (seeds > 1)})"
    return Outcome(text, _between(min(over), out=1, against=0))


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
    seeds = min(map(len, (*add, concate)))
    first, last, dense = (_accuracy(own[:seeds]) for own in (*add, concate))
    text = f"Add {first:.1f} to {last:.1f}, Concate {dense:.1f} % ({seeds} seed{'s' * (seeds > 1)})"
    falls, wins = first - last, dense - last
    if falls < 0 or wins <= -0.5:
        return Outcome(text, REFUTED)
    return Outcome(text, BORNE_OUT if min(falls, wins) >= 0.5 else UNDECIDED)


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
