"""The predicted memory of a training step against what is measured, and the choice of a policy."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from torch.nn import functional as F

from danetc.compiler.emit.fx import emit
from danetc.compiler.frontend.program import check_file, check_text, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes.fusion_groups import plan_fusion
from danetc.compiler.passes.recompute import block_of, plan_segments
from danetc.compiler.plans.memory import (
    POLICIES,
    TooLittleMemory,
    choose_policy,
    parse_size,
    predict,
    show_size,
)
from danetc.compiler.plans.saved import FUSED, KEEPS
from danetc.runtime.bench.memory import peak_bytes, saved_bytes
from tests.differential import helpers
from tests.differential.networks import VARIETY


@cache
def network(spec: str, image: int = 32, steps: int = 4, width: int = 64) -> Graph:
    settings = {"image": image, "steps": steps, "width": width}
    return graph_of(check_file(spec), None, settings)


# -- the table ------------------------------------------------------------------------------------


def test_every_operation_says_what_it_keeps() -> None:
    assert set(KEEPS) == set(OPS)
    assert set(FUSED) <= set(OPS)


# -- predicted and measured -----------------------------------------------------------------------

CASES = [
    (f"{connection}_r{depth}", backend, policy)
    for connection in ("origin", "sew", "danet_a", "danet_c", "baa")
    for depth in (18, 50)
    for backend in ("eager", "fused")
    for policy in POLICIES
]


def measured(
    graph: Graph, batch: int, backend: str, policy: str, mixed: bool = False
) -> tuple[int, int, int]:
    """Weights with buffers, what is saved, and the peak of a step above the weights."""
    model = emit(graph, backend=backend, memory=policy)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    weights += sum(b.numel() * b.element_size() for b in model.buffers())
    x = torch.rand(batch, *graph.input.value.shape)
    labels = torch.arange(batch)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, mixed):
            return F.cross_entropy(model(x), labels)

    def step() -> None:
        loss().backward()
        model.zero_grad()

    step()  # kernels are compiled
    return weights, saved_bytes(loss), peak_bytes(step)


@pytest.mark.parametrize(("spec", "backend", "policy"), CASES)
def test_prediction_of_a_step(spec: str, backend: str, policy: str) -> None:
    batch = 2
    graph = network(spec, width=16, steps=2)
    plan = predict(graph, batch, backend, policy)
    weights, saved, peak = measured(graph, batch, backend, policy)
    assert plan.weights == weights
    assert plan.held == pytest.approx(saved, rel=0.05)
    assert plan.total - plan.weights == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("policy", POLICIES)
def test_prediction_where_activations_dominate(backend: str, policy: str) -> None:
    graph = network("danet_a_r18", image=64, width=16)
    plan = predict(graph, 16, backend, policy)
    _, saved, peak = measured(graph, 16, backend, policy)
    assert plan.gradients < 0.2 * plan.total or policy == "recompute"
    assert plan.held == pytest.approx(saved, rel=0.05)
    assert plan.total - plan.weights == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("policy", POLICIES)
def test_prediction_of_mixed_precision(policy: str) -> None:
    graph = network("danet_a_r18", image=64, width=16)
    plan = predict(graph, 8, "fused", policy, "bfloat16")
    weights, saved, peak = measured(graph, 8, "fused", policy, mixed=True)
    assert plan.weights == weights
    assert plan.held == pytest.approx(saved, rel=0.1)
    assert plan.total - plan.weights == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("tdbn", "fused"),  # a norm of spikes keeps bits
        ("tebn", "eager"),  # keeps what it has normed, before it is scaled
        ("dropped", "eager"),  # keeps the state of the random numbers
        ("own_neurons", "eager"),  # numbers of the whole layer are no maps
        ("inception", "eager"),  # fewer channels than a block of oneDNN's
    ],
)
def test_prediction_of_what_is_rare(name: str, backend: str, policy: str) -> None:
    graph = helpers.text(VARIETY[name].replace("8, 8)", "24, 24)"))
    model = emit(graph, backend=backend, memory=policy)
    steps = (graph.steps,) if graph.input.value.varies else ()
    x = torch.rand(*steps, 16, *graph.input.value.shape)

    def loss() -> torch.Tensor:
        return model(x).square().sum()

    def step() -> None:
        loss().backward()
        model.zero_grad()

    step()
    plan = predict(graph, 16, backend, policy)
    assert plan.held == pytest.approx(saved_bytes(loss), rel=0.05)
    assert plan.total - plan.weights == pytest.approx(peak_bytes(step), rel=0.15)


@pytest.mark.parametrize("policy", POLICIES)
def test_prediction_of_a_batch_in_parts(policy: str) -> None:
    """The gradients of the parts before are there from the beginning of each later one."""
    graph = network("danet_c_r18", image=32, width=64, steps=2)
    model = emit(graph, backend="fused", memory=policy)
    x, labels = torch.rand(6, *graph.input.value.shape), torch.arange(6)

    def step() -> None:
        for some, them in zip(x.chunk(3), labels.chunk(3), strict=True):
            F.cross_entropy(model(some), them).backward()
        model.zero_grad()

    step()
    plan = predict(graph, 6, "fused", policy, accumulate=3)
    whole = predict(graph, 2, "fused", policy)
    assert plan.total - plan.weights == pytest.approx(peak_bytes(step), rel=0.15)
    assert plan.gradients > whole.gradients


DENSE = """
use std

backbone dense_stages = stage(dense(8), 5) -> transition -> stage(dense(8), 4)

network dense_net {
  input = image(3, 32, 32)
  steps = 4
  neuron = IF
  surrogate = sigmoid(alpha = 4)
  stem = conv(16, kernel = 3) -> norm -> spike
  stages = dense_stages via dense_layer by densely_concatenated
  head = norm -> spike -> avgpool -> mean_over_time -> linear(10)
}
"""


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("policy", POLICIES)
def test_prediction_of_a_densenet(backend: str, policy: str) -> None:
    graph = graph_of(check_text(DENSE))
    plan = predict(graph, 4, backend, policy)
    _, saved, peak = measured(graph, 4, backend, policy)
    assert plan.held == pytest.approx(saved, rel=0.05)
    assert plan.total - plan.weights == pytest.approx(peak, rel=0.15)


def test_what_a_prediction_counts() -> None:
    graph = network("danet_c_r18", image=64)
    small, large = predict(graph, 8, "fused"), predict(graph, 16, "fused")
    assert large.held == pytest.approx(2 * small.held, rel=0.05)
    assert large.weights == small.weights
    assert small.total == (
        small.weights + small.optimizer + small.gradients + small.saved + small.transient
    )
    assert small.optimizer == 0
    momentum = predict(graph, 8, "fused", optimizer="sgd_momentum")
    adam = predict(graph, 8, "fused", optimizer="adamw")
    assert momentum.optimizer > 0
    assert adam.optimizer == 2 * momentum.optimizer
    half = predict(graph, 8, "fused", dtype="bfloat16")
    assert half.weights == small.weights
    copies = 2 * small.weights // 4  # of the weights, for the backward pass
    assert small.held / 2.2 < half.held - copies < small.held / 1.8
    assert predict(graph, 8, "fused").held < 0.5 * predict(graph, 8, "eager").held
    mean = predict(graph, 8, "fused", averaged=True)  # of weights and buffers
    assert mean.optimizer == mean.weights
    lean = predict(graph, 8, "fused", "recompute")
    assert lean.held < 0.25 * small.held
    assert "recompute" in str(lean)


def test_unknown_names_are_named() -> None:
    graph = network("sew_r18")
    with pytest.raises(ValueError, match="there are none, recompute"):
        predict(graph, 8, "fused", "some")
    with pytest.raises(ValueError, match="there are eager, fused"):
        predict(graph, 8, "cuda")
    with pytest.raises(ValueError, match="sgd, sgd_momentum, adamw"):
        predict(graph, 8, optimizer="lion")
    with pytest.raises(ValueError, match="float32"):
        predict(graph, 8, dtype="int8")


# -- a budget -------------------------------------------------------------------------------------


def test_the_cheapest_policy_that_fits() -> None:
    graph = network("danet_a_r18", image=64, width=16)
    none, lean = (predict(graph, 64, "fused", policy) for policy in POLICIES)
    assert lean.total < none.total
    assert choose_policy(graph, 64, none.total, "fused") == none
    assert choose_policy(graph, 64, none.total - 1, "fused") == lean
    with pytest.raises(TooLittleMemory, match="a smaller network or image, or fewer steps"):
        choose_policy(graph, 64, 1000, "fused")


def test_what_does_not_fit_says_what_would() -> None:
    """The advice of the message, taken, fits; and a batch of one more does not."""
    graph = network("danet_a_r18", image=64, width=16)
    lean = predict(graph, 64, "fused", "recompute", averaged=True)
    budget = lean.total * 2 // 3
    with pytest.raises(TooLittleMemory) as error:
        choose_policy(graph, 64, budget, "fused", averaged=True)
    message = str(error.value)
    assert error.value.smallest == lean
    assert f"{show_size(lean.total)} with the policy recompute" in message
    found = re.search(
        r"a batch of at most (\d+), or accumulate = (\d+), .*precision = bf16", message
    )
    assert found is not None, message
    batch, parts = int(found[1]), int(found[2])
    assert 1 < parts < 64 > batch
    choose_policy(graph, batch, budget, "fused", averaged=True)
    choose_policy(graph, 64, budget, "fused", accumulate=parts, averaged=True)
    choose_policy(graph, 64, budget, "fused", dtype="bfloat16", averaged=True)
    with pytest.raises(TooLittleMemory):
        choose_policy(graph, batch + 1, budget, "fused", averaged=True)
    with pytest.raises(TooLittleMemory):
        choose_policy(graph, 64, budget, "fused", accumulate=parts - 1, averaged=True)
    with pytest.raises(
        TooLittleMemory, match=r"for a batch of 64 in 2 parts, .* accumulate = [3-9]"
    ):
        choose_policy(graph, 64, budget // 2, "fused", accumulate=2, averaged=True)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("8 gb", 8 * 10**9),
        ("1.5G", 15 * 10**8),
        ("512MiB", 512 * 2**20),
        ("64k", 64_000),
        ("100", 100),
        ("2 TiB", 2**41),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "8XB", "-1GB", "0GB", "8 G B", "eight", "1e9", "8i"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(8 * 10**9, "8.00 GB"), (33_200_000, "33.2 MB"), (640_000, "640 kB"), (12, "12 B")],
)
def test_sizes_are_shown(size: int, text: str) -> None:
    assert show_size(size) == text


# -- segments -------------------------------------------------------------------------------------


def segments_of(spec: str, length: int | None = None) -> dict[tuple[str, ...], int | None]:
    """For each block the segment of its nodes."""
    graph = plan_fusion(network(spec, image=64)).graph
    plan = plan_segments(graph, length)
    found: dict[tuple[str, ...], set[int | None]] = {}
    for node in graph.nodes.values():
        block = block_of(node)
        if block is not None:
            found.setdefault(block, set()).add(plan.of.get(node.id))
    assert all(len(each) == 1 for each in found.values())
    return {block: each.pop() for block, each in found.items()}


def test_segments_follow_each_other() -> None:
    for spec in ("sew_r18", "danet_a_r50", "danet_c_r50"):
        for length in (None, 1, 2):
            numbers = [n for n in segments_of(spec, length).values() if n is not None]
            assert numbers == sorted(numbers)


def test_spikes_enter_one_block_and_analog_values_several() -> None:
    assert len(set(segments_of("sew_r50", 1).values())) == 16
    assert len(set(segments_of("sew_r50").values()) - {None}) == 13
    assert 4 <= len(set(segments_of("danet_a_r50").values()) - {None}) < 13


def test_late_stages_compute_much_for_little() -> None:
    left = {block[1] for block, number in segments_of("sew_r50").items() if number is None}
    assert left == {"3"}


def test_what_is_in_no_segment() -> None:
    graph = network("danet_c_r50", image=64)
    plan = plan_segments(graph, 1)
    outside = {node.op for node in graph.nodes.values() if node.id not in plan.of}
    # Running sums are counts: a segment keeps the sum itself. The head keeps next to nothing.
    assert outside == {
        "input", "add", "global_avgpool", "mean_over_time", "flatten", "linear"
    }  # fmt: skip
    assert plan.random == frozenset()
