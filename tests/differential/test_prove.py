"""Verdicts of `danetc prove` on random specs, against the interpreter of `tests/reference`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from danetc.compiler import check_text, graph_of
from danetc.tasks.proofs import prove
from tests.reference.language import Bound, StageOf, Wire
from tests.reference.network import Network
from tests.reference.tape import Array, Var, gradients
from tests.reference.weights import Weights

NOT, HOLDS, FAILS = "does not apply", "holds", "fails"
WITH_INTERBLOCK = ("origin", "tdbn", "rising")
CONNECTIONS = (*WITH_INTERBLOCK, *WITH_INTERBLOCK, "sew", "pa_a", "pa_b")
NEURONS = ("IF", "IF", "IF", "IF_soft", "LIF", "IF(v_threshold = -0.5)", "IF(v_threshold = 0.7)",
           "IF(v_rest = 0.25)", "PLIF(tau = 1.5)", "IF(detach_reset = true)")  # fmt: skip


class Untrained(Weights):
    """Weights of an untrained network, drawn when they are first read."""

    def __init__(self, seed: int, starts: Mapping[str, float] | None = None) -> None:
        super().__init__({}, ((), (), {}, {}))
        self.given = starts or {}
        self.random = np.random.default_rng(seed)

    def name(self, path: tuple[str, ...], leaf: str) -> str:
        return ".".join((*path, leaf))

    def take(
        self, path: tuple[str, ...], leaf: str, *shape: int, start: float | None = None
    ) -> Var:
        name = self.name(path, leaf)
        if start is not None:
            self.starts[name] = start
            self.started.append(name)
        if name not in self.known:
            fixed = {"running_mean": 0.0, "running_var": 1.0}.get(leaf, self.given.get(name, start))
            drawn = self.random.standard_normal(shape)
            self.known[name] = Var(drawn if fixed is None else np.full(shape, fixed))
        return self.known[name]

    def next_of(self, path: tuple[str, ...], start: float, *shape: int) -> Var:
        return self.take(path, "learnt", *shape, start=start)


class Watched(Network):
    """An interpreted network that records the inputs and outputs of its blocks and firing rates."""

    def __init__(self, weights: Weights, x: Array, *, training: bool) -> None:
        super().__init__(weights, Var(x), training=training)
        self.shortcuts: list[Var] = []
        self.outs: list[Var] = []
        self.feeds: list[Wire] = []
        self.rates: list[float] = []

    def block(self, stage: StageOf, wire: Wire, i: int, start: Wire) -> Wire:
        self.shortcuts.append(start.data)
        self.feeds.append(wire)
        self.outs.append(super().block(stage, wire, i, start).data)
        return Wire(self.outs[-1], True)

    def stage(self, stage: StageOf, entry: Wire) -> Wire:
        result = super().stage(stage, entry)
        self.given = result.data
        return result

    def neuron(self, bound: Bound, wire: Wire) -> Wire:
        found = super().neuron(bound, wire)
        if any(wire is feed for feed in self.feeds):
            self.rates.append(float((found.data.data != 0).mean()))
        return found


Terms = Mapping[int, float]


@dataclass(frozen=True)
class Spec:
    """A random network with one stage. ``terms`` is None if the result is a ``max`` or ``min``."""

    text: str
    terms: tuple[Terms, ...] | None
    connection: str


def _terms(random: Random, n: int) -> list[Terms]:
    """For each of the blocks 1 .. n-1 and the result: the factors of the outputs that it sums."""
    kind = random.choice(("chain", "chain", "dense", "all", "window", "mean", "any"))
    last: Terms = {n - 1: 1.0}
    match kind:
        case "chain":
            return [*({i - 1: 1.0} for i in range(1, n)), last]
        case "dense" | "all":
            whole = [dict.fromkeys(range(i), 1.0) for i in range(1, n + 1)]
            return whole if kind == "all" else [*whole[:-1], last]
        case "window":
            return [*(dict.fromkeys(range(max(0, i - 2), i), 1.0) for i in range(1, n)), last]
        case "mean":
            return [*(dict.fromkeys(range(i), 1 / i) for i in range(1, n)), last]
    made: list[Terms] = []
    for i in range(1, n + 1):  # every output is read by the next block or the result
        read = {i - 1, *(j for j in range(i - 1) if random.random() < 0.5)}
        made.append({j: random.choice((1.0, 1.0, 0.5, 2.0, 0.25, -1.0)) for j in sorted(read)})
    return made


def _surrogate(random: Random) -> str:
    a, b = (random.choice((-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0)) for _ in range(2))
    return random.choice(
        ("dy = 4 * sigmoid(4 * x) * (1 - sigmoid(4 * x))", f"dy = {a} + {b} * x", f"dy = {a} + 0 * x",
         f"dy = max({a} - {b} * abs(x), 0)", "dy = exp(-x * x) - 0.1", "dy = 1 if x >= 0 else 0.5")
    )  # fmt: skip


def _spec(seed: int) -> Spec:
    random = Random(seed)
    n = random.choice((2, 3, 3, 4, 5))
    terms: tuple[Terms, ...] | None = tuple(_terms(random, n))
    sums = [
        f"sum({', '.join(f'{factor!r} * out[{j}]' for j, factor in each.items())})"
        for each in terms
    ]
    if random.random() < 0.1:
        sums[-1], terms = random.choice(("max(out[0 .. n-1])", "min(out[0 .. n-1])")), None
        sums[:-1] = [f"out[{i}]" for i in range(n - 1)]
    feeds = "".join(f"{each} if i == {i} else " for i, each in enumerate(sums[:-2], 1)) + sums[-2]
    connection = random.choice(CONNECTIONS)
    text = f"""use std
surrogate drawn_slope {{ {_surrogate(random)} }}
connection rising {{
  each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm
  out = (branch + shortcut) -> IF(v_threshold = {random.choice((0.2, 0.5, 1.0))} * i)
}}
rule drawn {{ in[i] = {feeds}; result = {sums[-1]} }}
network net {{
  input = image(2, 4, 4); steps = 1; neuron = {random.choice(NEURONS)}; surrogate = drawn_slope
  zero_init = true
  stem = conv(3) -> norm {"" if connection.startswith("pa") else "-> spike"}
  stages = stage(basic(3), {n}) via {connection} by drawn
  head = avgpool -> mean_over_time -> linear(2)
}}"""
    return Spec(text, terms, connection)


def _shortest(terms: tuple[Terms, ...], slopes: list[Array]) -> tuple[int, Array]:
    """The number of paths from block 0 to the result, and the gradient along the shortest paths."""
    found: list[tuple[int, Array]] = []

    def follow(block: int, length: int, product: Array) -> None:
        if block in terms[-1]:
            found.append((length, terms[-1][block] * product))
        for i, each in enumerate(terms[:-1], 1):
            if block in each:
                follow(i, length + 1, each[block] * slopes[i] * product)

    follow(0, 0, np.ones_like(slopes[0]))
    fewest = min((length for length, _ in found), default=0)
    return len(found), sum((each for length, each in found if length == fewest), 0 * slopes[0])


def _expected(spec: Spec) -> tuple[dict[str, str], Array, Array]:
    """Verdicts on Propositions 1 and 4, the gradient of the result with respect to O^0, and O^0."""
    checked = check_text(spec.text)
    starts: Mapping[str, float] = {}
    x = np.random.default_rng(1).standard_normal((8, 2, 4, 4))
    for _ in range(2):  # the first run finds the weights that zero_init sets
        run = Watched(Untrained(0, starts), x, training=False)
        run.run(checked.declaration("net"), checked.module)
        starts = run.weights.starts
    outs = [each.data for each in run.outs]
    (whole,) = gradients([(run.given, np.ones(run.given.shape))], [run.outs[0]])
    slopes = [np.ones(outs[0].shape)]
    for start, out in zip(run.shortcuts[1:], run.outs[1:], strict=True):
        slopes += gradients([(out, np.ones(out.shape))], [start])
    verdicts = dict.fromkeys("14", NOT)
    n, terms, interblock = len(outs), spec.terms, spec.connection in WITH_INTERBLOCK
    if interblock:
        assert set(np.unique(outs[0])) <= {0.0, 1.0}
    elif any(
        not np.array_equal(s.data, o) for s, o in zip(run.shortcuts[1:], outs[1:], strict=True)
    ):
        return verdicts, whole, outs[0]  # blocks do not start as the identity
    chain = terms == tuple({i: 1.0} for i in range(n))
    passed_on = all(np.array_equal(out, outs[0]) for out in outs)
    if chain and interblock and passed_on and any((abs(g) < 1).any() for g in slopes[1:]):
        verdicts["1"] = HOLDS if (abs(whole) < 1).any() else FAILS
    if terms is not None and min(min(each.values()) for each in terms) >= 0:
        paths, bound = _shortest(terms, slopes)
        if (n == 2 or paths > 1) and all((g >= 0).all() for g in slopes):
            verdicts["4"] = HOLDS if (whole >= bound - 1e-12).all() else FAILS
    return verdicts, whole, outs[0]


def _check(seed: int) -> dict[str, str]:
    spec = _spec(seed)
    expected, whole, first = _expected(spec)
    if spec.connection in WITH_INTERBLOCK and set(np.unique(first)) != {0.0, 1.0}:
        return {}  # all neurons of block 0 fire, or none, so one case does not occur
    proof = prove(graph_of(check_text(spec.text), passes=()))
    assert proof["agrees"]
    found = {item["proposition"]: item for item in proof["findings"]}
    assert {number: found[number]["verdict"] for number in "14"} == expected, spec.text
    for number in "14":
        for place, mask in (("spikes", first != 0), ("is_silent", first == 0)):
            if (value := found[number].get(f"where_block_0_{place}")) is not None:
                assert value == pytest.approx(whole[mask].mean(), rel=1e-9, abs=1e-12), spec.text
    return expected


@pytest.mark.parametrize("seed", range(8))
def test_verdicts_on_gradients(seed: int) -> None:
    _check(seed)


@pytest.mark.thorough
def test_verdicts_on_gradients_of_many() -> None:
    seen = Counter(item for seed in range(8, 150) for item in _check(seed).items())
    assert min(seen[number, verdict] for number in "14" for verdict in (NOT, HOLDS)) >= 10


# -- Proposition 3 ---------------------------------------------------------------------------------


def _rates(text: str, steps: int) -> list[float]:
    """Firing rates of the first neurons of blocks 1, 2, ..., averaged over several seeds."""
    checked = check_text(text)
    found: list[list[float]] = []
    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal((steps, 16, 4, 4, 4))
        run = Watched(Untrained(seed), x, training=True)
        run.run(checked.declaration("net"), checked.module)
        found.append(run.rates[1:])
    return list(np.mean(found, 0))


RATES: Mapping[tuple[str, str, int], str] = {
    ("IF", "1", 1): HOLDS,
    ("IF", "1", 3): HOLDS,
    ("LIF", "0.5", 2): HOLDS,
    ("IF_soft", "2", 1): HOLDS,
    ("IF", "0", 1): FAILS,
    ("IF(v_threshold = -0.5)", "1", 1): FAILS,
    ("IF(v_threshold = 100.0)", "1", 2): FAILS,
}


@pytest.mark.thorough
@pytest.mark.parametrize(("neuron", "init", "steps"), RATES)
def test_verdicts_on_firing_rates(neuron: str, init: str, steps: int) -> None:
    text = f"""use std
network net {{
  input = events(4, 4, 4); steps = {steps}; neuron = {neuron}; surrogate = sigmoid(alpha = 4)
  stem = conv(8) -> norm
  stages = stage(basic(8), 4) via pa_a with (norm = batchnorm(init = {init}))
  head = avgpool -> mean_over_time -> linear(2)
}}"""
    rates = _rates(text, steps)
    (found,) = (
        item
        for item in prove(graph_of(check_text(text), passes=()))["findings"]
        if item["proposition"] == "3"
    )
    rises = all(later > earlier + 0.004 for earlier, later in pairwise(rates))
    assert found["verdict"] == RATES[neuron, init, steps] == (HOLDS if rises else FAILS)
    assert found["rates"] == pytest.approx(rates, abs=0.03)
