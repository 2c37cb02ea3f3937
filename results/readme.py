"""Text of README.md that has figures of trained networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import mean
from textwrap import fill

from results.beyond import found
from results.data import (
    ALL,
    CHAIN,
    CONTRADICTED,
    EQ_11,
    OPEN,
    SUPPORTED,
    Cell,
    older_accuracies,
    paired,
    pick,
    read_cells,
    read_diverged,
    shown,
)
from results.experiments import (
    FOUR,
    after_nine,
    average,
    difference,
    equal_runs,
    lead,
    predictors,
    read_runs,
)
from results.experiments import paths as paths_verdict
from results.findings import DANET_C, ORIGIN, PA_B, shape
from results.networks import facts, millions, network_of
from results.overview import judged
from results.tables import accuracies, rank_correlations, table


def effect(cells: Sequence[Cell]) -> str:
    """Return the effect of dense addition in ResNet-34's shape, with its control and its cost."""
    dense, origin = (shape(cells, name, 34) for name in (DANET_C, ORIGIN))
    zero = [shape(cells, name, 34, zero_init=True) for name in (DANET_C, ORIGIN)]
    pa_b = shape(cells, PA_B, 34)
    chain_all = found(read_cells("beyond"), "shape34", ("origin", "chain_all", False))
    control = paired(zero[0], zero[1])
    assert control is not None
    fresh = [lead({"fair": read_runs("fair")}, depth) for depth in (34, 50)]

    def percent(own: Sequence[Cell], digits: int = 0) -> str:
        return f"{mean(cell.accuracy for cell in own):.{digits}f}"

    def cost(name: str, own: Sequence[Cell]) -> str:
        counts = facts()[network_of(own[0].name)][name]
        return millions(counts if isinstance(counts, list) else [counts])

    equal = equal_runs({"equal": read_runs("equal")})
    ranked = sorted(equal, key=lambda name: -average(equal[name]))
    at_equal_cost = ", ".join(
        f"`via {' by '.join(name.split()).removesuffix(' by chain')}` {average(equal[name]):.1f}"
        for name in ranked
    )
    (trained,) = {len(own) for own in equal.values()}
    slow = {"slow": read_runs("slow")}
    nine = {name: after_nine(slow, name) for name in FOUR}
    ahead = [difference(nine["DANet-C"], nine[name]).text() for name in FOUR if name != "DANet-C"]
    (seeds,) = {len(own) for own in (dense, origin, *zero)}
    (one,) = {len(own) for own in (pa_b, chain_all)}
    bound, measured = "additions", "measured_additions"
    return paragraph(
        f"""The effect of that one line: with `via origin by densely_additive`, a narrow ResNet-34
        trained for three epochs on Fashion-MNIST classifies {percent(dense)} % of the test images
        correctly, and with `via origin` {percent(origin)} % ({seeds} seeds). The control: if the last
        norm of each block is initialised to 0, as in the networks from which the paper takes Origin's
        accuracy, it is {percent(zero[0])} and {percent(zero[1])} %, {control.text()} points. With other
        seeds, in an [experiment](results/experiments/README.md) whose criteria were written before its
        first run, it is {fresh[0].text()}, so that the effect of the rule is {fresh[0].verdict}, and in
        ResNet-50's shape {fresh[1].text()}: {fresh[1].verdict}. After nine epochs with learning rates chosen on validation
        images, its difference from `via origin` is {ahead[0]}, from the zero-initialised one {ahead[1]},
        and from `via sew` {ahead[2]}. The rule costs additions: at most
        {cost(bound, dense)} for an image instead of {cost(bound, origin)}, and {cost(measured, dense)}
        instead of {cost(measured, origin)} at the measured firing rates. Others are better with fewer: `via pa_b` has
        {percent(pa_b, 1)} % ({one} seed) with {cost(bound, pa_b)} and {cost(measured, pa_b)}, but
        {cost("multiplications", pa_b)} multiplications instead of {cost("multiplications", dense)};
        `via origin by chain_all` has {percent(chain_all, 1)} % ({one} seed) with
        {cost(bound, chain_all)} and {cost(measured, chain_all)}. With widths that give all the same cost, and
        `via origin` zero-initialised, the accuracies in per cent are ({trained} seeds): {at_equal_cost}.
        [Results](#results) explains the interval in brackets."""
    )


def paragraph(text: str) -> str:
    return fill(" ".join(text.split()), 104, break_on_hyphens=False, break_long_words=False)


DEPTHS = {20: 3, 56: 9, 110: 18}
"""Depth of a ResNet for CIFAR and its blocks per stage."""
ROWS = (
    ("Origin (`via origin`)", "origin", CHAIN, False),
    ("Origin, zero-initialised", "origin", CHAIN, True),
    ("DANet-C (`via origin by densely_additive`)", "origin", EQ_11, False),
    ("DANet-C, zero-initialised", "origin", EQ_11, True),
    ("Listing 1 (`via origin by densely_additive_all`)", "origin", ALL, False),
    ("SEW (`via sew`)", "sew", CHAIN, False),
)


def depth(cells: Sequence[Cell]) -> str:
    """Return the accuracies over depth of runs of one commit, and how many of them are waiting."""
    diverged = read_diverged()
    rows, runs = [], []
    for name, connection, rule, zero in ROWS:
        own = [
            [
                pick(some, connection=connection, rule=rule, n=n, zero_init=zero)
                for some in (cells, diverged)
            ]
            for n in DEPTHS.values()
        ]
        rows.append([name, *(accuracies(*each) for each in own)])
        runs += [cell for each in own for some in each for cell in some]
    (commit,) = {cell.record["made"]["commit"][:7] for cell in runs}
    left = 3 * len(ROWS) * len(DEPTHS) - len(runs)
    waiting = f"**{left} of {left + len(runs)} runs are waiting.** " if left else ""
    older = " and ".join(
        shown(list(older_accuracies(file)["danet_c_net", 110].values()))
        for file in ("accuracy.json", "training.json")
    )
    note = f"""{waiting}These runs are of commit {commit}. Two older sets of runs, which do not record
        theirs, have {older} % for DANet-C at depth 110."""
    return f"{table(['', *(f'depth {d}' for d in DEPTHS)], rows)}\n\n{paragraph(note)}"


def outcome(cells: Sequence[Cell]) -> str:
    """Return the verdicts on the paper's claims, and what predicts accuracy."""
    found = judged(cells)
    counts = Counter(each.verdict for _, each in found)
    named = {
        verdict: "; ".join(claim.name for claim, each in found if each.verdict == verdict)
        for verdict in (SUPPORTED, CONTRADICTED)
    }
    claims = f"""Of {len(found)} claims of the paper and of SEW's logs, {counts[SUPPORTED]} are supported at this size
        ({named[SUPPORTED]}), {counts[CONTRADICTED]} contradicted ({named[CONTRADICTED]}), and
        {counts[OPEN]} open: a claim is supported only if the 95 % interval of each of its differences,
        paired by seed, excludes zero. Differences are written as mean [interval] (pairs)."""
    (shape_34, few), (every, all_of) = (
        rank_correlations(cells)[name]
        for name in ("ResNet-34's shape", "all of ten classes, T = 1")
    )
    runs = {"paths": read_runs("paths")}
    (_, paths), (_, slopes), *_ = predictors(runs).values()
    held = paths_verdict(runs)[1]
    path, slope = "fewer neurons on a path", "dO/dV a layer"
    predictor = f"""The fewest neurons on a path from the stem to the last stage, which `danetc summary`
        prints without training, has a rank correlation with accuracy of {few[path]:.2f} over
        {shape_34} networks in ResNet-34's shape (the paper's gradient stability: {few[slope]:.2f}), and
        of {all_of[path]:.2f} over {every} networks of all depths ({all_of[slope]:.2f}). This was found
        after the trainings, in the same networks. In networks that were drawn and counted before
        their trainings, it is {paths}, against {slopes} for gradient stability, one seed each: by the
        [criterion](results/experiments/README.md) written before, the prediction is {held}."""
    return f"{paragraph(claims)}\n\n{paragraph(predictor)}"
