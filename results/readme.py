"""Text of README.md that has figures of trained networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
    drawn,
    equal_runs,
    fair_pair,
    finalists,
    fresh,
    over_baselines,
    predictors,
    read_runs,
    shown_accuracy,
)
from results.experiments import paths as paths_verdict
from results.findings import DANET_C, ORIGIN, PA_B, shape
from results.networks import facts, millions, network_of
from results.overview import judged
from results.tables import accuracies, rank_correlations, table


def effect(cells: Sequence[Cell]) -> str:
    """Return the effect of dense addition in ResNet-34's shape, with its controls and its cost."""
    dense, origin = (shape(cells, name, 34) for name in (DANET_C, ORIGIN))
    zero = [shape(cells, name, 34, zero_init=True) for name in (ORIGIN, DANET_C)]
    fair, slow = read_runs("fair"), {"slow": read_runs("slow")}
    nine = {name: after_nine(slow, name) for name in FOUR}
    pairs = {
        "as networks start by default": (origin, dense),
        "control: the last norm of each block starts at 0": zero,
        **{
            f"the control with fresh seeds, ResNet-{depth}": fair_pair(fair, depth)
            for depth in (34, 50)
        },
        "nine epochs, learning rates chosen on validation images": (
            nine["Origin"], nine["DANet-C"]
        ),
        "nine epochs, last norms of `via origin` start at 0": (
            nine["Origin, zero-initialised"], nine["DANet-C"]
        ),
    }  # fmt: skip
    rows = [
        [name, *map(shown_accuracy, own), difference(own[1], own[0]).text()]
        for name, own in pairs.items()
    ]
    head = ["", "`via origin`", "`via origin by densely_additive`", "difference"]
    pa_b = shape(cells, PA_B, 34)
    chain_all = found(read_cells("beyond"), "shape34", ("origin", "chain_all", False))
    (one,) = {len(own) for own in (pa_b, chain_all)}

    def cost(name: str, own: Sequence[Cell]) -> str:
        counts = facts()[network_of(own[0].name)][name]
        return millions(counts if isinstance(counts, list) else [counts])

    bound, measured = "additions", "measured_additions"
    legend = """The effect of that one line on the test accuracy of a narrow ResNet-34, in per cent, after three
        epochs on Fashion-MNIST: mean ± standard deviation (seeds), and differences paired by seed with their
        95 % interval."""
    controls = f"""The control has the initialisation of the networks whose accuracy the paper gives for Origin.
        An interval that contains 0 leaves the effect of the rule open. The last four rows are from
        [experiments](results/experiments/README.md) whose criteria were written before their first run.
        After nine epochs `via sew` is better than `densely_additive`, by
        {difference(nine["SEW"], nine["DANet-C"]).text()} points."""
    costs = f"""The rule costs additions: at most {cost(bound, dense)} for an image instead of
        {cost(bound, origin)}, and {cost(measured, dense)} instead of {cost(measured, origin)} at the measured
        firing rates. Others are better with fewer: `via pa_b` has {average(pa_b):.1f} % ({one} seed) with
        {cost(bound, pa_b)} and {cost(measured, pa_b)}, but {cost("multiplications", pa_b)} multiplications
        instead of {cost("multiplications", dense)}; `via origin by chain_all` has {average(chain_all):.1f} %
        ({one} seed) with {cost(bound, chain_all)} and {cost(measured, chain_all)}."""
    texts = [paragraph(text) for text in (controls, costs, f"{at_equal_cost()} {searched()}")]
    return "\n\n".join([paragraph(legend), table(head, rows), *texts])


def at_equal_cost() -> str:
    """Return the accuracies of networks whose widths give all the same cost."""
    equal = equal_runs({"equal": read_runs("equal")})
    (seeds,) = {len(own) for own in equal.values()}
    ranked = sorted(equal, key=lambda name: -average(equal[name]))
    texts = (
        f"`via {' by '.join(name.split()).removesuffix(' by chain')}` {average(equal[name]):.1f}"
        for name in ranked
    )
    return f"""With widths that give all the same cost, and all networks `via origin` zero-initialised, the
        accuracies are ({seeds} seeds): {", ".join(texts)}."""


def searched() -> str:
    """Return what the search at equal cost has found."""
    cells = {"search": read_runs("search")}
    rows = finalists("candidates", cells)
    leads = [over_baselines(row, cells) for row in rows]
    better = sum(min(each.low for each in own) > 0 for own in leads)
    accuracies, (dense, sew) = fresh(rows[0], cells), leads[0]
    pa_a, pa_b = (difference(accuracies, fresh(row, cells)) for row in drawn("search")["controls"])
    effect = ", so its rule has no measured effect" if pa_a.low <= 0 <= pa_a.high else ""
    feed, spec = SPECS[rows[0]["axes"]["connection"], rows[0]["axes"]["rule"]]
    return f"""An [experiment](results/experiments/README.md#6-beyond-the-paper-a-search) searched what feeds a
        block, what a stage gives and where neurons stand, at this cost and on validation images. {better} of
        {len(rows)} finalists are better than DANet-C and `via sew` with fresh seeds. The first, {feed},
        has {average(accuracies):.1f} % ({len(accuracies)} seeds): {dense.text()} over DANet-C,
        {sew.text()} over `via sew`, {pa_b.text()} over `via pa_b`, and {pa_a.text()} over its control, `via pa_a`
        with each block fed by the last{effect}. [{spec}](specs/{spec}.danet) is its spec at the
        paper's size, which was not trained."""


SPECS = {
    ("pa_a", "learnt_last"): (
        "`via pa_a` with each block fed by a sum of all before it with learnt weights",
        "pa_a_learnt_r34",
    )
}
"""Description and spec of the first finalist, by its connection and rule."""


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
