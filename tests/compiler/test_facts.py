"""Facts of the shipped specs, compared with the paper's figures and with independent counts."""

import random
from collections import Counter
from functools import cache
from itertools import accumulate

import networkx
import pytest
import torch
import torchvision
from torch import Tensor, nn

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.analysis.summary import Summary, neurons_on_paths, operations, summarise
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from tests.differential.helpers import text
from tests.differential.networks import graph_of_neuron, small

DEPTHS = (18, 34, 50, 101, 152)
TABLE_6 = (11_689_512, 21_797_672, 25_557_032, 44_549_160, 60_192_808)
PA_B = (11_689_640, 21_797_800, 25_557_160, 44_549_288, 60_192_936)
PARAMETERS = {
    **{
        f"{name}_r{depth}": count
        for name in ("origin", "tdbn", "baa", "sew", "danet_a", "danet_c", "danet_d")
        for depth, count in zip(DEPTHS, TABLE_6, strict=True)
    },
    **{f"danet_b_r{depth}": count for depth, count in zip(DEPTHS, PA_B, strict=True)},
    "spiking_densenet121": 7_978_856,
    "spiking_densenet161": 28_681_000,
    "spiking_densenet201": 20_013_928,
    "ms_resnet18": 11_693_736,
    "ms_resnet34": 21_801_896,
    "ms_resnet104": 77_350_504,
}
"""Table VI in exact counts, and the peers of Tables III and VI from their authors' code."""

OF_STAGES = ((2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3))
BLOCKS = dict(zip(DEPTHS, OF_STAGES, strict=True))
FEWEST = {
    **{f"{n}_r{d}": [*accumulate(BLOCKS[d])] for n in ("origin", "tdbn", "baa") for d in DEPTHS},
    **{f"danet_{n}_r{d}": [2, 4, 6, 8] for n in "cd" for d in DEPTHS},
    **{f"danet_{n}_r{d}": [0, 0, 0, 0] for n in "ab" for d in DEPTHS},
    **{f"sew_r{d}": [0, 1, 2, 3] for d in (18, 34)},
    **{f"sew_r{d}": [1, 2, 3, 4] for d in (50, 101, 152)},
}
"""The fewest spiking neurons from the stem's output to the end of each stage."""


@cache
def graph(name: str) -> Graph:
    return graph_of(check_file(name))


@cache
def summary(name: str) -> Summary:
    return summarise(graph(name))


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items(), ids=PARAMETERS)
def test_parameters_are_those_of_the_paper(name: str, count: int) -> None:
    assert summary(name).parameters == count


BUILT = ("danet_c_r18", "danet_b_r50", "ms_resnet18", "spiking_densenet121", "own_neuron",
         "own_connection")  # fmt: skip


@pytest.mark.parametrize("name", BUILT)
def test_a_built_model_has_the_parameters_that_the_graph_counts(name: str) -> None:
    model = emit(graph(name))
    assert sum(p.numel() for p in model.parameters()) == summary(name).parameters


@pytest.mark.parametrize(("name", "fewest"), FEWEST.items(), ids=FEWEST)
def test_fewest_neurons_to_each_stage_are_those_of_the_table(name: str, fewest: list[int]) -> None:
    assert [stage.fewest_neurons for stage in summary(name).stages] == fewest


@pytest.mark.parametrize(
    "name", [*FEWEST, "spiking_densenet121", "ms_resnet104", "own_rule", "own_connection"]
)
def test_fewest_neurons_are_the_shortest_paths_of_networkx(name: str) -> None:
    """Dijkstra over the same edges, where an edge that leads to a neuron costs 1."""
    net = graph(name)
    flow = net.to_networkx()

    def cost(_: int, target: int, edges: object) -> int:
        node = net[target]
        text = net.program(node).text() if node.op == "neuron" else ""
        return int("; state " in text or " = heaviside " in text)

    lengths = networkx.single_source_dijkstra_path_length(flow, net.stem_output, weight=cost)
    found = neurons_on_paths(net, [net.stem_output])
    assert {id: fewest for id, (fewest, _) in found.items()} == lengths


@pytest.mark.parametrize("seed", range(8))
def test_neurons_on_paths_are_those_of_each_path(seed: int) -> None:
    """All paths of a random network are listed one by one while its lines are written."""
    dice = random.Random(seed)
    paths = {"in": [0]}  # the number of neurons on each path to a line
    unread: set[str] = set()
    lines = []
    for name in "abcdefgh":
        read = dice.sample([*paths], min(len(paths), dice.choice([1, 2, 2, 3])))
        layers = dice.sample(["spike", "conv(2)", "norm", "spike", "relu"], 2)
        paths[name] = [count + layers.count("spike") for line in read for count in paths[line]]
        unread = unread - {*read} | {name}
        lines.append(f"{name} = ({' + '.join(read)}) -> {' -> '.join(layers)}")
    out = f"out = ({' + '.join(sorted(unread))}) -> avgpool -> linear(2)"
    body = "\n".join(["input = image(2, 4, 4); neuron = IF; surrogate = atan", *lines, out])
    found = summarise(graph_of(check_text(f"use std\nnetwork n {{ {body} }}")))
    counts = [count for line in unread for count in paths[line]]
    assert (found.fewest_neurons, found.most_neurons) == (min(counts), max(counts))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("family", ["origin", "sew", "danet_a", "danet_b", "danet_c", "danet_d"])
def test_main_path_has_one_neuron_less_than_layers(family: str, depth: int) -> None:
    assert summary(f"{family}_r{depth}").neurons_on_main_path == depth - 1


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_passes_between_blocks_is_table_1s_row(depth: int) -> None:
    def kinds(family: str) -> list[str]:
        return [stage.block_gives for stage in summary(f"{family}_r{depth}").stages]

    for family in ("origin", "tdbn", "baa", "danet_c", "danet_d"):
        assert kinds(family) == ["spike"] * 4
    for family in ("danet_a", "danet_b"):
        assert kinds(family) == ["analog"] * 4
    # a stage of n blocks adds at most n + 1 spikes at a position: one comes from the projection
    assert kinds("sew") == [f"0 .. {n + 1}" for n in BLOCKS[depth]]


def hooked_macs(model: nn.Module, size: int) -> int:
    """The multiply-accumulates of a forward pass, counted by hooks."""
    found: list[int] = []

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            found.append(output.numel() * module.weight[0].numel())

    for module in model.modules():
        module.register_forward_hook(count)
    model(torch.empty(1, 3, size, size, device="meta"))
    return sum(found)


@pytest.mark.thorough
@pytest.mark.parametrize("theirs", ["resnet18", "resnet50", "densenet121"])
def test_operations_are_those_of_torchvision(theirs: str) -> None:
    with torch.device("meta"):
        reference = getattr(torchvision.models, theirs)(weights=None)
    expected = hooked_macs(reference.eval(), 224)
    ours = theirs.replace("resnet", "origin_r").replace("densenet", "spiking_densenet")
    assert operations(as_ann(ours)) == (expected, 0, 0, 0)
    if theirs == "resnet50":
        assert round(expected / 1e9, 2) == 4.09


def as_ann(name: str) -> Graph:
    return graph_of(check_file(name), settings={"neuron": "ReLU", "steps": 1})


STEM_AND_HEAD = 64 * 3 * 49 * 112 * 112 + 512 * 1000


def test_convolutions_of_spikes_are_additions_at_every_step() -> None:
    """All layers of Origin except the stem and the head read spikes. The stem runs once."""
    additions = 4 * (operations(as_ann("origin_r18")).macs - STEM_AND_HEAD)
    assert operations(graph("origin_r18")) == (STEM_AND_HEAD, additions, 0, 0)


def test_a_convolution_of_counts_multiplies() -> None:
    """In SEW the first convolution of a block reads counts, the second spikes."""
    net = graph_of(check_file("sew_r18"), settings={"steps": 1})
    found = operations(net)
    assert found.macs + found.additions == operations(as_ann("origin_r18")).macs
    counted: Counter[int] = Counter()  # largest input count -> multiply-accumulates, from shapes
    for node in net.nodes.values():
        source = net[node.inputs[0]].value if node.inputs else None
        if node.op == "conv" and source is not None and source.kind.high > 1:
            channels, height, width = node.value.shape
            window = source.shape[0] * int(node.attrs["kernel"] or 0) ** 2
            counted[source.kind.high] += channels * height * width * window
    assert set(counted) == {2, 3}
    assert found.macs == STEM_AND_HEAD + found.count_macs
    assert found.count_macs == sum(counted.values())
    assert found.count_additions == sum(most * number for most, number in counted.items())


STAGE_KINDS = [
    ("stage(basic(4), 5) via origin by chain", ["spike", "spike", "spike"]),
    ("stage(basic(4), 5) via origin by densely_additive", ["0 .. 4", "spike", "spike"]),
    ("stage(basic(4), 5) via origin by densely_additive_all", ["0 .. 4", "spike", "0 .. 5"]),
    ("stage(basic(4), 5) via sew by chain", ["0 .. 5", "0 .. 6", "0 .. 6"]),
    ("stage(basic(4), 3) via sew by densely_additive", ["0 .. 5", "0 .. 6", "0 .. 6"]),
    ("stage(basic(4), 3) via sew_iand by chain", ["spike", "spike", "spike"]),
    ("stage(basic(4), 3) via pa_a by chain", ["analog", "analog", "analog"]),
    ("stage(dense(2), 3) via dense_layer by densely_concatenated", ["analog"] * 3),
    ("stage(basic(4), 3) via baa by mean", ["0 .. 3 of 1/2", "spike", "spike"]),
]


@pytest.mark.parametrize(("stages", "kinds"), STAGE_KINDS)
def test_what_blocks_read_and_give_and_what_the_stage_gives(stages: str, kinds: list[str]) -> None:
    """In SEW block i of a dense stage reads a sum of i outputs: up to 2, then up to 2 + 3."""
    mean = "rule mean { in[i] = (sum(out[0 .. i-1]) + out[i-1]) / 2; result = out[n-1] }"
    head = "spike -> avgpool -> mean_over_time -> linear(5)"
    (stage,) = summarise(text(small(stages, head=head, more=mean))).stages
    assert [stage.block_reads, stage.block_gives, stage.gives] == kinds


LEAKY = "state u = 0.0; v = 0.5 * u + x; "
OF_NEURONS = {
    LEAKY + "s = heaviside(v - 0.5) + heaviside(v - 1); u = v - s": "0 .. 2",
    LEAKY + "h = heaviside(v - 0.5); s = 2 * h; u = v - s": "0 .. 1 of 2",
    LEAKY + "s = round(min(max(v, 0), 4)); u = v - s": "0 .. 4",
    LEAKY + "s = heaviside(v - 1) - heaviside(-v - 1); u = v - s": "-1 .. 1",
    "state d = 0.0; h = heaviside(x); s = d; d = h": "spike",
    LEAKY + "s = round(tanh(v)); u = v - s": "-1 .. 1",
    LEAKY + "s = v; u = v": "analog",
}


@pytest.mark.parametrize("body", OF_NEURONS)
def test_neurons_that_give_more_than_0_and_1_are_neurons(body: str) -> None:
    """They count as neurons, and their kind decides whether the next layer adds or multiplies."""
    found = summarise(graph_of_neuron(body))
    kind = OF_NEURONS[body]
    assert (found.neurons_on_main_path, found.neuron_layers) == (5, 5)
    assert found.stages[0].fewest_neurons == 2
    (stage,) = found.stages
    assert {stage.block_reads, stage.block_gives, stage.gives} == {kind}
    stem_and_head, others = 64 * 27 * 4 + 4 * 5, 3 * 4 * 64 * 36 * 4
    most = {"0 .. 2": 2, "0 .. 4": 4}.get(kind, 0)
    adds = kind in ("spike", "-1 .. 1", "0 .. 1 of 2")
    assert found.additions == (others if adds else 0)
    assert found.macs == stem_and_head + (0 if adds else others)
    assert (found.count_macs, found.count_additions) == (others if most else 0, most * others)


def test_a_network_of_activations_has_no_neurons() -> None:
    found = summarise(graph_of(check_file("danet_c_r18"), settings={"neuron": "ReLU"}))
    assert (found.neurons_on_main_path, found.neuron_layers, found.additions) == (0, 0, 0)
    assert all(stage.fewest_neurons == 0 for stage in found.stages)


def test_neurons_are_given_with_their_parameters() -> None:
    text = """use std
    network n { input = image(1, 4, 4); steps = 2; neuron = LIF(tau = 1.5); surrogate = atan
      out = in -> conv(2) -> spike -> conv(2) -> LIF(tau = 4.0) -> conv(2) -> spike }"""
    kinds = summarise(graph_of(check_text(text))).neuron_kinds
    assert [kind.parameters["tau"] for kind in kinds] == [1.5, 4.0]
    assert {kind.text for kind in kinds} == {
        f"LIF(tau={tau}, v_threshold=1, v_rest=0, detach_reset=false), surrogate atan(alpha=2)"
        for tau in ("1.5", "4")
    }
