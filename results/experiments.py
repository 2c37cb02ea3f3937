"""Tables and verdicts of results/experiments: pre-registered claims and predictions, from the JSON of runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import TYPE_CHECKING, Any

from results.data import (
    ALL,
    CHAIN,
    EQ_11,
    HERE,
    MISSING,
    OPEN,
    RULES,
    SUPPORTED,
    Cell,
    Interval,
    paired,
    rank_correlation,
    read,
    shown,
)
from results.predictions import BORNE_OUT, REFUTED, UNDECIDED
from results.tables import Row, table

if TYPE_CHECKING:
    from results.run import State

FOLDER = HERE / "experiments"
EXPERIMENTS = ("fair", "slow", "gradients", "paths", "equal", "search")
"""Folders in the order of the claims."""
CHANCE = 10.0
"""Accuracy of a run that diverged, in per cent."""
MULTIPLICATION = 4.6 / 0.9
BLOCKS = (3, 6, 9)

Cells = Mapping[str, Sequence[Cell]]
"""Runs by the folder of their experiment."""
Found = tuple[str, str]
"""The numbers, and a verdict."""


def accuracy(cell: Cell) -> float:
    """Return the test accuracy in per cent; chance if the run diverged."""
    return CHANCE if "diverged" in cell.record else cell.accuracy


def validation(cell: Cell) -> float:
    """Return the validation accuracy after the last epoch in per cent; 0 if the run diverged."""
    if "diverged" in cell.record:
        return 0.0
    return 100 * float(cell.record["epochs"][-1]["val_accuracy"])


def read_runs(name: str) -> list[Cell]:
    """Return all runs of an experiment, those that diverged too."""
    return [
        Cell(path.stem, read(path)) for path in sorted((FOLDER / name / "cells").glob("*.json"))
    ]


@cache
def progress(name: str) -> tuple[State, ...]:
    """Return the progress of the groups of an experiment."""
    from results.run import read_groups, states

    table = FOLDER / name / "cells.toml"
    return tuple(states(read_groups(table), FOLDER / name / "cells"))


def of(cells: Sequence[Cell], recipe: str = "one_step", **axes: Any) -> list[Cell]:
    """Return the runs with these values on the axes, ordered by seed."""
    found = [
        cell
        for cell in cells
        if cell.record["recipe"] == recipe and axes.items() <= cell.record["axes"].items()
    ]
    return sorted(found, key=lambda cell: cell.seed)


def difference(first: Sequence[Cell], second: Sequence[Cell]) -> Interval:
    """Return the interval of the accuracy of first minus second, by seed."""
    found = paired(first, second, accuracy)
    if found is None:
        raise ValueError("no seed is common")
    return found


def average(cells: Sequence[Cell]) -> float:
    return mean(map(accuracy, cells))


def verdict(supported: bool, refuted: bool) -> str:
    return REFUTED if refuted else SUPPORTED if supported else OPEN


def predicted(borne_out: bool, refuted: bool) -> str:
    return BORNE_OUT if borne_out else REFUTED if refuted else UNDECIDED


# -- 1: fair baselines -----------------------------------------------------------------------------


def fair_pair(runs: Sequence[Cell], depth: int, recipe: str = "one_step") -> list[list[Cell]]:
    """Return the runs of Origin and of DANet-C, both zero-initialised."""
    return [of(runs, recipe, depth=depth, rule=rule) for rule in (CHAIN, EQ_11)]


def lead(cells: Cells, depth: int, recipe: str = "one_step") -> Interval:
    """Return the lead of DANet-C over Origin, both zero-initialised."""
    origin, dense = fair_pair(cells["fair"], depth, recipe)
    return difference(dense, origin)


def fair(cells: Cells) -> Found:
    leads = {depth: lead(cells, depth) for depth in (34, 50)}
    text = ", ".join(f"ResNet-{depth} {each.text()}" for depth, each in leads.items())
    supported = all(each.low > 0 for each in leads.values())
    return text, verdict(supported, min(each.mean for each in leads.values()) < 1)


def in_shape(depth: int, low: float, high: float, refuted: float) -> Callable[[Cells], Found]:
    """Return a check that the lead is between ``low`` and ``high``; below 0 or above ``refuted`` refutes."""

    def compute(cells: Cells) -> Found:
        found = lead(cells, depth)
        return found.text(), predicted(low <= found.mean <= high, not 0 <= found.mean <= refuted)

    return compute


def on_digits(cells: Cells) -> Found:
    leads = [lead(cells, depth, "digits_14") for depth in (34, 50)]
    above = sum(each.low > 0 for each in leads)
    return ", ".join(each.text() for each in leads), predicted(above == 0, above == 2)


def fair_table(cells: Cells) -> str:
    rows = []
    for recipe, data in (("one_step", "Fashion-MNIST"), ("digits_14", "digits")):
        for depth in (34, 50):
            groups = fair_pair(cells["fair"], depth, recipe)
            row = [f"{data}, ResNet-{depth}'s shape", *(shown_accuracy(own) for own in groups)]
            found = paired(groups[1], groups[0], accuracy)
            rows.append([*row, MISSING if found is None else found.text()])
    return table(["both zero-initialised", "Origin", "DANet-C", "C minus Origin"], rows)


def shown_accuracy(cells: Sequence[Cell]) -> str:
    lost = sum("diverged" in cell.record for cell in cells)
    return shown(list(map(accuracy, cells))) + (f", {lost} diverged" if lost else "")


# -- 2: slow or degraded ---------------------------------------------------------------------------

FOUR = {
    "Origin": {"connection": "origin", "rule": CHAIN, "zero_init": False},
    "Origin, zero-initialised": {"connection": "origin", "rule": CHAIN, "zero_init": True},
    "SEW": {"connection": "sew", "rule": CHAIN, "zero_init": False},
    "DANet-C": {"connection": "origin", "rule": EQ_11, "zero_init": False},
}
RATES = (0.01, 0.02, 0.04)
RATE = "recipe.optimizer.lr"


def after_nine(cells: Cells, name: str) -> list[Cell]:
    return of(cells["slow"], "clipped_nine", **FOUR[name])


def slow(cells: Cells) -> Found:
    found = difference(after_nine(cells, "DANet-C"), after_nine(cells, "Origin"))
    return f"C minus Origin {found.text()}", verdict(found.mean >= 5, found.mean <= 2)


def after_nine_epochs(cells: Cells) -> Found:
    origin, dense = (average(after_nine(cells, name)) for name in ("Origin", "DANet-C"))
    text = f"Origin {origin:.1f}, DANet-C {dense:.1f} %"
    return text, predicted(64 <= origin <= 76 and 81 <= dense <= 85, origin > 80)


def zero_is_slow(cells: Cells) -> Found:
    dense, zero = (after_nine(cells, name) for name in ("DANet-C", "Origin, zero-initialised"))
    found = difference(dense, zero)
    return f"C minus Origin {found.text()}", predicted(found.mean <= 2, found.mean >= 5)


def slow_table(cells: Cells) -> str:
    rows = []
    for name, axes in FOUR.items():
        tried = [of(cells["slow"], "clipped", **axes, **{RATE: rate}) for rate in RATES]
        nine = after_nine(cells, name)
        row = [name, *(shown(list(map(validation, own))) for own in tried)]
        row.append(str(nine[0].record["axes"][RATE]) if nine else MISSING)
        ended = [cell.record["epochs"][-1] for cell in nine if "diverged" not in cell.record]
        row += [shown_accuracy(nine), shown([each["train_loss"] for each in ended], 2)]
        gap = paired(after_nine(cells, "DANet-C"), nine, accuracy) if name != "DANet-C" else None
        rows.append([*row, MISSING if gap is None else gap.text()])
    head = ["ResNet-34's shape", *(f"validation, lr {rate}" for rate in RATES), "chosen lr"]
    return table([*head, "test after 9 epochs", "training loss", "C minus it"], rows)


# -- 3: gradients ----------------------------------------------------------------------------------

FIVE = {
    "Origin": {"connection": "origin", "rule": CHAIN},
    "DANet-C (Eq. 11)": {"connection": "origin", "rule": EQ_11},
    "Listing 1": {"connection": "origin", "rule": ALL},
    "mean": {"connection": "origin", "rule": "averaged"},
    "SEW": {"connection": "sew", "rule": CHAIN},
}


def ratios(cell: Cell) -> list[float]:
    """Return the gradient norm at the stem's neurons over that at the last ones of the stages.

    The first entry is from before the training; the others from after each epoch.
    """
    found = []
    for each in cell.record.get("gradients", ()):
        layers = list(each["neurons"].values())
        first, last = layers[0], layers[-1]
        found.append(first / last if last else math.inf if first else 0.0)
    return found


def measured(cells: Cells, name: str, n: int, zero: bool) -> list[float]:
    (cell,) = of(cells["gradients"], n=n, zero_init=zero, **FIVE[name])
    return ratios(cell)


def span(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"


def vanishing(cells: Cells) -> Found:
    found = {n: measured(cells, "Origin", n, False) for n in BLOCKS}
    text = ", ".join(f"n = {n}: {span(values)}" for n, values in found.items())
    every = [value for values in found.values() for value in values]
    return text, verdict(min(found[9]) < 0.1, min(every) > 1)


def growing(cells: Cells) -> Found:
    found = {n: measured(cells, "Origin", n, False) for n in BLOCKS}
    every = [value for values in found.values() for value in values]
    text = f"{span(every)}; before the training {found[3][0]:.3g} at n = 3, {found[9][0]:.3g} at 9"
    return text, predicted(min(every) > 1 and found[9][0] > found[3][0], min(every) < 0.1)


def zero_flattens(cells: Cells) -> Found:
    plain, zero = (measured(cells, "Origin", 9, zero)[0] for zero in (False, True))
    factor = plain / zero
    return f"{plain:.3g} and {zero:.3g}", predicted(factor >= 5, factor < 2)


def gradients_table(cells: Cells) -> str:
    rows = []
    for zero in (False, True):
        for name, axes in FIVE.items():
            row = [name + (", zero-initialised" if zero else "")]
            for n in BLOCKS:
                own = of(cells["gradients"], n=n, zero_init=zero, **axes)
                row.append(", ".join(f"{v:.3g}" for v in ratios(own[0])) if own else MISSING)
                row.append(shown_accuracy(own))
            rows.append(row)
    heads = [(f"n = {n}: before, after 1, 2, 3 epochs", "accuracy") for n in BLOCKS]
    return table(["stem / last", *(head for pair in heads for head in pair)], rows)


# -- 4: paths --------------------------------------------------------------------------------------


@cache
def drawn(name: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    found: Mapping[str, Sequence[Mapping[str, Any]]] = read(FOLDER / name / "drawn.json")
    return found


def run_of(row: Mapping[str, Any], cells: Sequence[Cell], recipe: str = "one_step") -> list[Cell]:
    """Return the runs of a drawn network."""
    return of(cells, recipe, network=row["network"], **row["axes"])


def with_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, str]:
    """Return a rank correlation, and its text with the 95 % interval."""
    r = rank_correlation(first, second)
    if r is None:
        return 0.0, MISSING
    half = 1.96 * math.sqrt((1 + r * r / 2) / (len(first) - 3))
    low, high = (math.tanh(math.atanh(max(-0.9999, min(r, 0.9999))) + s * half) for s in (-1, 1))
    return r, f"{r:+.2f} [{low:+.2f}, {high:+.2f}] ({len(first)})"


def predictors(cells: Cells) -> dict[str, tuple[float, str]]:
    """Return the rank correlation of accuracy with each predictor over the drawn networks that have run."""
    rows = [
        (row, own[0]) for row in drawn("paths")["networks"] if (own := run_of(row, cells["paths"]))
    ]
    values = {
        "minus the fewest neurons on a path": [-row["fewest"] for row, _ in rows],
        "dO/dV a layer": [cell.record.get("dodv_a_layer", 0.0) for _, cell in rows],
        "firing rate": [cell.record.get("firing_rate", 0.0) for _, cell in rows],
        "minus the most neurons on a path": [-row["most"] for row, _ in rows],
        "minus the cost": [-row["cost"] for row, _ in rows],
    }
    accuracies = [accuracy(cell) for _, cell in rows]
    return {name: with_interval(each, accuracies) for name, each in values.items()}


def paths(cells: Cells) -> Found:
    (fewest, text), (slope, other), *_ = predictors(cells).values()
    text = f"paths {text}, dO/dV {other}"
    return text, verdict(fewest >= 0.7 and fewest > slope, fewest < 0.3)


def both_correlations(cells: Cells) -> Found:
    (fewest, text), (slope, other), *_ = predictors(cells).values()
    near = 0.6 <= fewest <= 0.9 and 0.1 <= slope <= 0.6
    return f"{text}, {other}", predicted(near, fewest < 0.5)


def paths_table(cells: Cells) -> str:
    rows = []
    for row in sorted(drawn("paths")["networks"], key=lambda row: row["fewest"]):
        own, axes = run_of(row, cells["paths"]), row["axes"]
        slopes = [cell.stability for cell in own if "diverged" not in cell.record]
        counts = [
            f"{axes['n']}",
            f"{row['fewest']}",
            f"{row['most']}",
            f"{row['cost'] / 1e6:.2f} M",
        ]
        rows.append(
            [
                f"`{axes['connection']}`, `{axes['rule']}`",
                *counts,
                shown_accuracy(own),
                shown(slopes, 3),
            ]
        )
    head = ["network", "blocks per stage", "fewest", "most", "cost", "accuracy", "dO/dV a layer"]
    return table(head, rows)


def correlations_table(cells: Cells) -> str:
    rows = [[name, text] for name, (_, text) in predictors(cells).items()]
    return table(["predictor", "rank correlation with accuracy"], rows)


# -- 5: equal cost ---------------------------------------------------------------------------------


def name_of(axes: Mapping[str, Any]) -> str:
    """Return the name of a connection, rule and start."""
    connection, rule = axes["connection"], axes["rule"]
    names = {"sew": "SEW", "pa_a": "PA-A", "pa_b": "PA-B"}
    name = RULES.get(rule, f"`{rule}`") if connection == "origin" else names[connection]
    return name + (", zero-initialised" if axes["zero_init"] else "")


def equal_runs(cells: Cells) -> dict[str, list[Cell]]:
    """Return the runs of each network of equal cost by connection and rule."""
    return {
        f"{row['axes']['connection']} {row['axes']['rule']}": run_of(row, cells["equal"])
        for row in drawn("equal")["networks"]
    }


def equal(cells: Cells) -> Found:
    runs = equal_runs(cells)
    found = difference(runs["origin densely_additive"], runs["origin chain"])
    return f"C minus Origin {found.text()}", verdict(found.low > 0, found.mean < 0)


def order(cells: Cells) -> Found:
    found = {name: average(own) for name, own in equal_runs(cells).items()}
    ranked = sorted(found, key=lambda name: -found[name])
    text = ", ".join(f"`{name}` {found[name]:.1f}" for name in ranked)
    wanted = ["pa_b chain", "sew chain", "origin chain_all", "origin densely_additive_all"]
    wrong = found["origin chain"] > found["origin chain_all"] or ranked[0] != wanted[0]
    return text, predicted(ranked[:4] == wanted, wrong)


def energy(cells: Sequence[Cell]) -> list[float]:
    """Return the measured energy for an image in microjoules, for each seed."""
    return [1e6 * c.record["operations"]["energy"] for c in cells if "operations" in c.record]


def measured_energy(cells: Cells) -> Found:
    runs = equal_runs(cells)
    sew, origin = (mean(energy(runs[name]) or [math.nan]) for name in ("sew chain", "origin chain"))
    return f"SEW {sew:.2f}, Origin {origin:.2f} µJ", predicted(sew > 1.2 * origin, sew < origin)


def equal_table(cells: Cells) -> str:
    runs = equal_runs(cells)
    rows = []
    for row, own in zip(drawn("equal")["networks"], runs.values(), strict=True):
        axes = row["axes"]
        ended = [cell for cell in own if "diverged" not in cell.record]
        gap = (
            paired(own, runs["origin chain"], accuracy) if own is not runs["origin chain"] else None
        )
        rows.append(
            [
                name_of(axes),
                " ".join(str(axes[name]) for name in ("width", "b", "c", "d")),
                f"{row['cost'] / 1e6:.2f} M",
                str(row["fewest"]),
                shown_accuracy(own),
                MISSING if gap is None else gap.text(),
                shown([cell.firing_rate for cell in ended], 3),
                shown([cell.record["operations"]["additions"] / 1e6 for cell in ended], 2),
                shown([cell.record["operations"]["macs"] / 1e6 for cell in ended], 2),
                shown(energy(own), 2),
            ]
        )
    head = ["network", "widths", "cost", "fewest neurons on a path", "accuracy", "minus Origin"]
    head += ["firing rate", "measured additions, M", "multiplications, M", "energy, µJ"]
    return table(head, rows)


# -- 6: the search ---------------------------------------------------------------------------------

FRESH = (611, 612, 613, 614, 615)


def fresh(row: Mapping[str, Any], cells: Cells) -> list[Cell]:
    return [cell for cell in run_of(row, cells["search"]) if cell.seed in FRESH]


def trial(row: Mapping[str, Any], cells: Cells, recipe: str = "one_step") -> list[Cell]:
    """Return the run of a candidate whose validation accuracy counts."""
    return [cell for cell in run_of(row, cells["search"], recipe) if cell.seed == 601]


def best(rows: Sequence[Mapping[str, Any]], cells: Cells, recipe: str, keep: int) -> list[Any]:
    """Return the rows with the highest validation accuracy, none while a run is missing."""
    runs = [trial(row, cells, recipe) for row in rows]
    if not all(runs):
        return []
    order = sorted(range(len(rows)), key=lambda place: -validation(runs[place][0]))
    return [rows[place] for place in order[:keep]]


def finalists(name: str, cells: Cells) -> list[Mapping[str, Any]]:
    """Return the finalists of a list, the best first, as results/run.py chooses them."""
    rows = drawn("search")[name]
    if name == "random":
        return best(rows, cells, "one_step", 1)
    return best(best(rows, cells, "one_epoch", 12), cells, "one_step", 4)


def over_baselines(row: Mapping[str, Any], cells: Cells) -> list[Interval]:
    """Return the lead of a network over DANet-C and over SEW at equal cost."""
    baselines = drawn("search")["baselines"]
    return [difference(fresh(row, cells), fresh(baseline, cells)) for baseline in baselines]


def beyond(cells: Cells) -> Found:
    leads = {spelt(row): over_baselines(row, cells) for row in finalists("candidates", cells)}
    text = "; ".join(
        f"{name}: {dense.text()} over DANet-C, {sew.text()} over SEW"
        for name, (dense, sew) in leads.items()
    )
    supported = any(min(each.low for each in own) > 0 for own in leads.values())
    return text, verdict(supported, all(min(e.mean for e in own) < 0 for own in leads.values()))


def spelt(row: Mapping[str, Any]) -> str:
    axes = row["axes"]
    start = ", zero-initialised" if axes["zero_init"] else ""
    return f"`{axes['connection']}` `{axes['rule']}`{start}"


def without_interblock(cells: Cells) -> Found:
    rows = finalists("candidates", cells)
    analog = sum(row["axes"]["connection"].startswith("pa_") for row in rows)
    return f"{analog} of {len(rows)}", predicted(analog == 4, analog <= 2)


def first_finalist(cells: Cells) -> Found:
    best = average(fresh(finalists("candidates", cells)[0], cells))
    return f"{best:.1f} %", predicted(86.5 <= best <= 88.5, best < 86)


def halving(cells: Cells) -> Found:
    first, other = (fresh(finalists(name, cells)[0], cells) for name in ("candidates", "random"))
    found = average(first) - average(other)
    return f"{found:+.1f} points", predicted(abs(found) < 1, abs(found) >= 2)


def fall(row: Mapping[str, Any], cells: Cells) -> float:
    """Return the validation accuracy of a choice minus the mean test accuracy on fresh seeds."""
    return validation(trial(row, cells)[0]) - average(fresh(row, cells))


def falls(cells: Cells) -> Found:
    found = mean(fall(row, cells) for row in finalists("candidates", cells))
    return f"{found:.2f} points", predicted(0.1 <= found <= 1.5, found <= 0 or found > 3)


def over_control(cells: Cells) -> Found:
    rows = finalists("candidates", cells)[0], drawn("search")["controls"][0]
    found = difference(*(fresh(row, cells) for row in rows))
    return f"{found.text()} points", predicted(found.mean < 0.5, found.mean >= 1)


def paths_in_search(cells: Cells) -> Found:
    rows = drawn("search")["candidates"]
    scores = [validation(trial(row, cells, "one_epoch")[0]) for row in rows]
    r, text = with_interval([-row["fewest"] for row in rows], scores)
    return text, predicted(r >= 0.5, r < 0.2)


def trials_table(cells: Cells) -> str:
    rows = []
    for name in ("candidates", "random"):
        for row in drawn("search")[name]:
            runs = [trial(row, cells, recipe) for recipe in ("one_epoch", "one_step")]
            if name == "random":
                runs[0] = []  # a candidate is the same network
            scores = [shown(list(map(validation, own))) for own in runs]
            rows.append(
                [name, spelt(row), str(row["fewest"]), f"{row['cost'] / 1e6:.2f} M", *scores]
            )
    head = ["list", "network", "fewest neurons on a path", "cost", "validation after 1 epoch"]
    return table([*head, "after 3"], rows)


def finalists_table(cells: Cells) -> str:
    rows, lists = [], drawn("search")
    others = [*lists["baselines"], *lists["controls"]]
    for name in ("candidates", "random"):
        for row in finalists(name, cells):
            leads = [paired(fresh(row, cells), fresh(other, cells), accuracy) for other in others]
            own = fresh(row, cells)
            scores = [f"{validation(trial(row, cells)[0]):.1f}", shown_accuracy(own)]
            scores.append(f"{fall(row, cells):.2f}" if own else MISSING)
            texts = [MISSING if each is None else each.text() for each in leads]
            rows.append([f"{name}: {spelt(row)}", *scores, *texts])
    for row in others:
        own = fresh(row, cells)
        rows.append([name_of(row["axes"]), MISSING, shown_accuracy(own), *[MISSING] * 5])
    head = ["finalist", "validation when chosen", "test, fresh seeds", "fall"]
    return table([*head, "over DANet-C", "over SEW", "over PA-A", "over PA-B"], rows)


# -- the page --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A claim or prediction: its text, what it needs and its computation.

    ``groups`` are the groups of the experiment whose runs it needs, all if there are none.
    """

    says: str
    experiment: str
    compute: Callable[[Cells], Found]
    groups: tuple[str, ...] = ()

    def found(self, states: Sequence[State], cells: Cells) -> Found:
        """Return the outcome, or how many runs it waits for."""
        own = [each for each in states if not self.groups or each.group.name in self.groups]
        done, count = sum(each.done for each in own), sum(each.count for each in own)
        return ("", f"waiting: {done} of {count}") if done < count else self.compute(cells)


SHAPE_34, SHAPE_50, DIGITS = "ResNet-34's shape", "ResNet-50's shape", "Digits"
FIRST = "36 for one epoch"
HALVING = (FIRST, "12 for three epochs", "4 finalists")
CLAIMS: Mapping[str, Claim] = {
    "1": Claim("DANet-C is better than Origin, both zero-initialised", "fair", fair, (SHAPE_34, SHAPE_50)),
    "2": Claim("Origin is degraded, not slow", "slow", slow),
    "3": Claim("gradients of Origin vanish", "gradients", vanishing),
    "4": Claim("the fewest neurons on a path predict accuracy, better than dO/dV", "paths", paths),
    "5": Claim("DANet-C is better than Origin at equal cost", "equal", equal),
    "6": Claim("a finalist of the search is better than DANet-C and SEW at equal cost", "search", beyond, (*HALVING, "DANet-C and SEW")),
}  # fmt: skip
"""Claims by their number in predictions.md."""

PREDICTIONS: Mapping[str, Claim] = {
    "r": Claim("ResNet-34's shape: C minus Origin is +3", "fair", in_shape(34, 1, 5, 7), (SHAPE_34,)),
    "s": Claim("ResNet-50's shape: C minus Origin is +6", "fair", in_shape(50, 3, 10, 15), (SHAPE_50,)),
    "t": Claim("on digits, no interval of C minus Origin is above 0", "fair", on_digits, (DIGITS,)),
    "u": Claim("after nine epochs, Origin has 70 % and DANet-C 83 %", "slow", after_nine_epochs),
    "v": Claim("zero-initialised Origin is within 2 points of C after nine epochs", "slow", zero_is_slow),
    "w": Claim("Origin's gradients grow towards the stem, more with more blocks", "gradients", growing),
    "x": Claim("zero initialisation divides Origin's stem / last by 5 at n = 9", "gradients", zero_flattens),
    "y": Claim("rank correlations: 0.75 for paths, 0.35 for dO/dV", "paths", both_correlations),
    "z": Claim("at equal cost: PA-B, SEW, `chain_all`, Listing 1, then DANet-C and Origin", "equal", order),
    "aa": Claim("at equal cost, SEW needs more measured energy than Origin", "equal", measured_energy),
    "ab": Claim("no finalist has an interblock neuron", "search", without_interblock, HALVING),
    "ac": Claim("the finalist that validation ranks first has 87.5 %", "search", first_finalist, HALVING),
    "ad": Claim("successive halving is within 1 point of the random search", "search", halving),
    "ae": Claim("finalists fall by 0.5 points on fresh seeds", "search", falls, HALVING),
    "af": Claim("paths predict the accuracy of candidates after one epoch", "search", paths_in_search, (FIRST,)),
    "ag": Claim("the first finalist is no better than PA-A by the chain rule", "search", over_control, (*HALVING, "PA-A and PA-B")),
}  # fmt: skip
"""Predictions by their letter in predictions.md."""


def judged(claims: Mapping[str, Claim], cells: Cells, head: str) -> str:
    rows: list[Row] = []
    for key, claim in claims.items():
        text, said = claim.found(progress(claim.experiment), cells)
        rows.append([key, claim.says, text, f"**{said}**"])
    return table(["", head, "outcome", "verdict"], rows)


def waiting(cells: Cells) -> str:
    rows = []
    for name in EXPERIMENTS:
        states = progress(name)
        done, count = sum(each.done for each in states), sum(each.count for each in states)
        spent = sum(cell.record["made"]["cpu_seconds"] for cell in cells[name]) / 3600
        left = sum(each.minutes for each in states) / 60
        rows.append([f"[{name}]({name})", f"{done} of {count}", f"{spent:.1f}", f"{left:.1f}"])
    return table(["", "runs", "CPU-hours", "left (estimate)"], rows)


@cache
def read_all() -> Cells:
    return {name: read_runs(name) for name in EXPERIMENTS}


_TABLES: Mapping[str, Callable[[Cells], str]] = {
    "experiments, waiting": waiting,
    "claims": lambda cells: judged(CLAIMS, cells, "claim"),
    "experiments, predictions": lambda cells: judged(PREDICTIONS, cells, "prediction (summary)"),
    "fair": fair_table,
    "slow": slow_table,
    "gradients": gradients_table,
    "paths, correlations": correlations_table,
    "paths, networks": paths_table,
    "equal": equal_table,
    "finalists": finalists_table,
    "trials": trials_table,
}
TABLES: Mapping[str, Callable[[Sequence[Cell]], str]] = {
    name: lambda _, make=make: make(read_all()) for name, make in _TABLES.items()
}
"""Tables by their name in results/experiments/README.md."""
