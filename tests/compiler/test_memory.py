"""What a forward pass keeps for its backward pass, counted and measured; and its segments."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch.nn import functional as F

from danetc.compiler.emit.fx import emit
from danetc.compiler.frontend.program import check_file, check_text, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.fusion_groups import plan_fusion
from danetc.compiler.passes.recompute import block_of, plan_segments
from danetc.compiler.plans.memory import COUNTED, POLICIES, parse_size, show_size, step_memory
from danetc.runtime.bench.memory import saved_bytes
from danetc.tasks.inputs import taken
from tests.differential.networks import variety


@cache
def network(spec: str, image: int = 32, steps: int = 4, width: int = 64) -> Graph:
    settings = {"image": image, "steps": steps, "width": width}
    return graph_of(check_file(spec), None, settings)


# -- counted and measured -------------------------------------------------------------------------

LABEL = 8  # bytes
FIRST = """
use std
network first {
  input = events(2, 4, 4)
  steps = 3
  neuron = IF
  surrogate = atan
  out = in -> LAYER -> spike -> linear(5) -> mean_over_time
}
"""


def check_exact(graph: Graph, *cases: tuple[str, str, str], batch: int = 2) -> None:
    """What is counted of a network is what a forward pass keeps, byte for byte: under a backend, a
    policy and a dtype."""
    steps = (graph.steps,) if taken(graph).varies else ()
    x = torch.rand(*steps, batch, *taken(graph).shape)
    labels = 0  # made by the loss, which keeps them
    for id in graph.outputs.values():
        value = graph[id].value
        rows = batch * (graph.steps if value.varies else 1)
        labels += LABEL * rows * torch.Size(value.shape[:-1]).numel()

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", getattr(torch, dtype), dtype != "float32"):
            outputs = model(x)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            flat = [y.reshape(-1, y.shape[-1]) for y in outputs]
            zeros = [torch.zeros(len(y), dtype=torch.long) for y in flat]
            return torch.stack(
                [F.cross_entropy(*both) for both in zip(flat, zeros, strict=True)]
            ).sum()

    for backend, policy, dtype in cases:
        model = emit(graph, backend=backend, memory=policy)
        counted = step_memory(graph, batch, backend, policy, dtype)
        assert counted.saved == saved_bytes(loss) - labels, (backend, policy, dtype)
        tensors = [*model.parameters(), *model.buffers()]
        assert counted.weights == sum(x.numel() * x.element_size() for x in tensors)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_is_saved_is_exact(dtype: str) -> None:
    graph = network("danet_c_r18", width=16, steps=2)
    check_exact(graph, *((backend, policy, dtype) for backend in COUNTED for policy in POLICIES))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        "tdbn",  # a norm of spikes keeps bits
        "tebn",  # keeps what it has normed, before it is scaled, and gives float32
        "per_step",  # keeps a copy, with time among the channels
        "cumulative",
        "by_step",  # neurons with numbers of each step: they are there anyway
        "scheduled",  # its numbers are there anyway
        "groupnorm",  # statistics of each sample
        "dropped",  # keeps the state of the random numbers, and what is dropped
        "own_neurons",  # numbers of the whole layer are no maps
        "bottleneck",
        "densenet",  # parts that are joined, and kept instead of the whole
        "sew_iand",  # both factors in bits
        "attention",  # factors of products, in bits where they are spikes
        "functions",  # constants are kept, as float64
        "axes",
        "swapped",
        "over_time",
        "along",
        "ordinary",
        "causal",
        "windows",  # weights with 0 where they are masked
        "learnt_in_blocks",  # what is made of them is made again in a segment
        "learnt_values",  # weights themselves are there anyway, what is made of them is not
        "unet",  # segments that several scopes run; several outputs
        "poisson",  # float32 until the first convolution, also under autocast
    ],
)
def test_what_is_rare_is_exact(name: str) -> None:
    check_exact(variety(name), ("fused", "none", "bfloat16"), ("eager", "recompute", "float32"))


@pytest.mark.parametrize(
    "layer", ["linear(12)", "linear(over = time)", "linear(over = time, window = 2)"]
)
def test_a_layer_of_the_images_is_exact(layer: str) -> None:
    """No gradient of them is wanted, so that its weights are not kept for it."""
    graph = graph_of(check_text(FIRST.replace("LAYER", layer)))
    check_exact(graph, ("eager", "none", "float32"), ("fused", "none", "bfloat16"))


@pytest.mark.parametrize(("backend", "share"), [("eager", 1.0), ("fused", 0.05)])
def test_half_precision_keeps_copies_of_few_weights(backend: str, share: float) -> None:
    """Of the layers that take numbers, the first and the last; a convolution of spikes makes them again."""
    graph = network("sew_r18", image=224)
    half = step_memory(graph, 1, backend, dtype="bfloat16")
    twice = step_memory(graph, 2, backend, dtype="bfloat16")
    copies = half.saved - (twice.saved - half.saved)  # what does not go with the batch
    assert copies == pytest.approx(share * half.parameters / 2, rel=0.1)


def test_what_a_step_holds() -> None:
    graph = network("danet_c_r18", image=64)
    small, large = step_memory(graph, 8, "fused"), step_memory(graph, 16, "fused")
    assert large.saved == pytest.approx(2 * small.saved, rel=0.01)
    assert large.weights == small.weights > small.parameters
    assert (small.optimizer, small.gradients) == (0, 0)
    assert small.total == small.weights + small.saved
    momentum = step_memory(graph, 8, "fused", optimizer="sgd_momentum")
    adam = step_memory(graph, 8, "fused", optimizer="adamw")
    assert momentum.optimizer == small.parameters
    assert adam.optimizer == 2 * momentum.optimizer
    assert small.saved < 0.5 * step_memory(graph, 8, "eager").saved
    mean = step_memory(graph, 8, "fused", averaged=True)  # of weights and buffers
    assert mean.optimizer == mean.weights
    parts = step_memory(graph, 16, "fused", accumulate=2)
    assert (parts.saved, parts.gradients) == (small.saved, small.parameters)
    assert step_memory(graph, 8, "fused", "recompute").saved < 0.25 * small.saved


def test_unknown_names_are_named() -> None:
    graph = network("sew_r18")
    with pytest.raises(ValueError, match="there are none, recompute"):
        step_memory(graph, 8, "fused", "some")
    with pytest.raises(ValueError, match="there are eager, fused"):
        step_memory(graph, 8, "cuda")
    with pytest.raises(ValueError, match="sgd, sgd_momentum, adamw"):
        step_memory(graph, 8, optimizer="lion")
    with pytest.raises(ValueError, match="float32"):
        step_memory(graph, 8, dtype="int8")


# -- sizes ----------------------------------------------------------------------------------------


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
