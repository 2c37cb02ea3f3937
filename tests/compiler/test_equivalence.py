"""Equivalence of graphs: what counts as one network, and what does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs, paired_weights
from danetc.compiler.analysis.neuron_forms import program_form
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.names import attribute
from danetc.compiler.ir.graph import Graph, Node
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.syntax.printer import print_program
from danetc.runtime.checks.agreement import agreement
from tests.compiler.drawn import programs
from tests.generating import examples

DEPTHS = (18, 34, 50, 101, 152)


def shipped(name: str, **settings: object) -> Graph:
    return graph_of(check_file(name), settings=settings, passes=())


def network(body: str, more: str = "") -> Graph:
    """A small network of a connection and stages; ``body`` overrides any of its settings."""
    text = f"""use std
    {more}
    network base(classes = 5) {{
      input = image(3, 8, 8); steps = 2; neuron = LIF; surrogate = sigmoid(alpha = 4)
      stem = conv(4) -> norm -> spike
      stages = stage(basic(4), 3) via origin
      head = avgpool -> mean_over_time -> linear(classes)
    }}
    network it = base {{ {body} }}"""
    return graph_of(check_text(text), "it", passes=())


def same(left: Graph, right: Graph) -> Same:
    result = compare_graphs(left, right)
    assert isinstance(result, Same), result
    back = compare_graphs(right, left)
    assert isinstance(back, Same)
    assert len(back.weights) == len(result.weights) == len(dict(result.weights))
    return result


def different(left: Graph, right: Graph) -> Different:
    result = compare_graphs(left, right)
    assert isinstance(result, Different)
    assert isinstance(compare_graphs(right, left), Different)
    return result


# -- the paper's networks --------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("base", "dense"), [("origin", "danet_c"), ("baa", "danet_d")])
def test_dense_rule_changes_stages_of_three_blocks(base: str, dense: str, depth: int) -> None:
    left, right = shipped(f"{base}_r{depth}"), shipped(f"{dense}_r{depth}")
    if depth == 18:
        same(left, right)
        return
    found = different(left, right)
    # The third block of the first stage is the first that is fed by a sum.
    assert found.left.path == found.right.path == "stages.0.blocks.2.branch.conv1"
    assert "stages.0.blocks.0.spike` + `stages.0.blocks.1.spike" in found.reason


def test_the_shipped_dense_form_is_the_shipped_chain() -> None:
    same(shipped("danet_a_r34"), shipped("danet_a_dense_r34"))


# -- other ways of writing one network -------------------------------------------------------------

REWRITTEN = {
    "renamed": (
        "stages = stage(basic(4), 3) via mine",
        "connection mine(after = spike) { last = conv -> norm; each = conv -> norm -> spike; "
        "projection = conv -> norm; out = (shortcut + branch) -> after }",
    ),
    "own_block": (
        "stages = stage(two(4), 3) via origin",
        "block two(w, stride = 1) = (conv(w, kernel = 3, stride = stride) -> conv(w, kernel = 3))",
    ),
    "own_rule": (
        "stages = stage(basic(4), 3) via origin by latest",
        "rule latest { result = sum(out[n - 1 .. n - 1]); in[k] = max(out[k - 1]) }",
    ),
    "two_stages": (
        "stages = stage(basic(4), 1) via origin -> stage(basic(4), 2) via origin by densely_additive",
        "",
    ),
    "own_neuron": (
        "neuron = mine",
        "neuron mine(leak = 2.0) { state p = 0.0; a = p * (1 - 1 / leak); b = (x + 0.0) * (1 / leak); "
        "q = b + a; fire = heaviside(q - 1.0); p = (1 - fire) * q + 0.0 * fire; s = fire }",
    ),
    "nothing_dropped": ("stem = conv(4) -> norm -> dropout(0.0) -> spike -> maxpool(1)", ""),
    "twice_negated": (
        "stages = stage(basic(4), 3) via mine",
        "connection mine { each = conv -> norm -> spike; last = conv -> norm; "
        "projection = conv -> norm; out = (branch - (0 - shortcut)) -> spike }",
    ),
}


@pytest.mark.parametrize("way", REWRITTEN)
def test_a_network_written_in_another_way_is_equal(way: str) -> None:
    body, more = REWRITTEN[way]
    left, right = network(""), network(body, more)
    result = same(left, right)
    kinds = [(left[a].op, right[b].op) for a, b in result.weights]
    assert all(a == b for a, b in kinds)
    assert len(kinds) == sum(
        node.op in ("conv", "batchnorm", "linear") for node in left.nodes.values()
    )


def test_sums_in_another_order_are_equal_to_rounding() -> None:
    def three(out: str) -> Graph:
        block = f"block three(w) {{ a = in -> conv(w) -> norm; b = in -> conv(w, kernel = 1) -> norm; c = in -> conv(w, kernel = 5) -> norm; out = {out} -> spike }}"
        return network("stages = stage(three(4), 2)", block)

    for other in ("((b + a) + c)", "(a + (b + c))", "(c + a + b)"):
        same(three("(a + b + c)"), three(other))
    different(three("(a + b + c)"), three("(a + b + b + c)"))
    different(three("(a + b + c)"), three("(a - b + c)"))
    different(three("(a - b + c)"), three("(b - a + c)"))
    assert same(three("(a * b * c)"), three("(c * (b * a))"))
    different(three("(a * b + c)"), three("(a * (b + c))"))
    assert same(three("(a + a + b + c)"), three("(2 * a + b + c)"))


def test_maxima_may_not_be_bracketed_otherwise() -> None:
    """torch halves the gradient between equal operands, and spikes are equal often."""

    def three(out: str) -> Graph:
        block = f"block three(w) {{ a = in -> conv(w) -> spike; b = in -> conv(w, kernel = 1) -> spike; c = in -> conv(w, kernel = 5) -> spike; out = {out} }}"
        return network("stages = stage(three(4), 2)", block)

    folded = three("max(a, b, c)")
    same(folded, three("max(c, max(b, a))"))
    same(folded, three("max(max(a, a, b), c)"))
    other = three("max(a, max(b, c))")
    different(folded, other)
    by, pairs = paired_weights(folded, other)
    assert by is not None
    ids = [(a.id, b.id) for a, b in pairs]
    seen = agreement(emit(folded), emit(other), weights(folded, other, ids), (2, 3, 8, 8))
    assert seen.outputs == 0
    assert seen.gradients > 1e-3


def test_the_name_of_the_only_output_does_not_count() -> None:
    head = "out = in -> conv(4) -> norm -> spike -> avgpool -> mean_over_time -> linear(5)"
    text = "use std network {name} {{ input = image(3, 8, 8); steps = 2; neuron = LIF; surrogate = atan; {head} }}"
    flow = graph_of(check_text(text.format(name="a", head=head)), passes=())
    renamed = replace(flow, outputs={"logits": flow.outputs["out"]})
    assert same(flow, renamed)


def test_layers_that_look_alike_are_told_apart_by_what_reads_them() -> None:
    """Two equal convolutions of one value, one of them behind the other order of channels."""

    def twins(order: str) -> Graph:
        block = f"block twins(w) {{ a = in -> conv(w); b = in -> conv(w); g = b -> sigmoid; out = concat({order}) }}"
        return network("stages = stage(twins(2), 1)", block)

    left, right = twins("a, g"), twins("g, a")
    different(left, right)
    for _ in range(2):
        result = same(left, left)
        assert all(a == b for a, b in result.weights)
    renamed = network(
        "stages = stage(twins(2), 1)",
        "block twins(w) { first = in -> conv(w); second = in -> conv(w); g = first -> sigmoid; out = concat(second, g) }",
    )
    result = same(left, renamed)
    paths = {left[a].path: renamed[b].path for a, b in result.weights if left[a].op == "conv"}
    crossed = [(a, b) for a, b in paths.items() if "stages" in a]
    assert len(crossed) == 2
    assert all(a != b for a, b in crossed)


def test_learnt_mixtures_are_told_apart_by_what_they_mix() -> None:
    """A share and what is left of it enter a sum with factors of 1 and -1."""

    def mixed(out: str, low: str = "in", high: str = "a") -> Graph:
        learnt = "m = learn(0.5, per = channel); k = learn(0.5, per = channel); a = in -> conv(w)"
        block = f"block mixed(w) {{ {learnt}; r = (in * m + a * (1 - m)) -> relu; g = ({low} * k + {high} * (1 - k)) -> sigmoid; out = {out} }}"
        return network("stages = stage(mixed(4), 2)", block)

    assert same(mixed("r * g"), mixed("g * r"))
    different(mixed("r * g"), mixed("r * g", "a", "in"))


def test_one_layer_used_twice_is_not_two_layers() -> None:
    def squared(second: str) -> Graph:
        block = f"block squared(w) {{ a = in -> conv(w); b = in -> conv(w); c = {second}; out = concat(a * c, b) }}"
        return network("stages = stage(squared(2), 1)", block)

    different(squared("a"), squared("b"))


# -- other networks --------------------------------------------------------------------------------

MUTATED = {
    "threshold": ("neuron = LIF(v_threshold = 0.9)", "neuron"),
    "leak": ("neuron = LIF(tau = 3.0)", "neuron"),
    "reset": ("neuron = LIF(detach_reset = true)", "neuron"),
    "surrogate": ("surrogate = sigmoid(alpha = 2)", "neuron"),
    "neuron": ("neuron = PLIF", "neuron"),
    "norm": ("norm = tebn", "tebn"),
    "groups": ("norm = groupnorm(2)", "groupnorm"),
    "first_weight": ("norm = batchnorm(init = 0.5)", "init"),
    "stride": ("stages = stage(basic(4), 3, stride = 2) via origin", "stride"),
    "kernel": ("stem = conv(4, kernel = 5) -> norm -> spike", "kernel 3 and 5"),
    "bias": ("stem = conv(4, bias = true) -> norm -> spike", "bias"),
    "width": ("stem = conv(5) -> norm -> spike", "width 4 and 5"),
    "pooling": ("stem = conv(4) -> norm -> spike -> maxpool(3, stride = 1)", ""),
    "dropout": ("stem = conv(4) -> norm -> dropout(0.1) -> spike", ""),
    "blocks": ("stages = stage(basic(4), 4) via origin", ""),
    "order": ("stem = conv(4) -> spike -> norm", ""),
    "connection": ("stages = stage(basic(4), 3) via sew", ""),
}


@pytest.mark.parametrize("change", MUTATED)
def test_another_network_is_different_and_the_first_difference_is_told(change: str) -> None:
    body, word = MUTATED[change]
    found = different(network(""), network(body))
    assert found.comparable
    assert word in found.reason
    assert found.left.origin.line >= 1


OUTSIDE = {
    "steps": ("steps = 3", "T = 2 and T = 3"),
    "channels": ("input = image(1, 8, 8)", "different inputs: 3 x 8 x 8 and 1 x 8 x 8"),
    "frames": ("input = events(3, 8, 8)", "3 x 8 x 8 and 3 x 8 x 8 at each time step"),
    "classes": ("head = avgpool -> mean_over_time -> linear(4)", "different outputs: 5 and 4"),
    "time": ("head = avgpool -> linear(5)", "at each time step"),
}


@pytest.mark.parametrize("change", OUTSIDE)
def test_other_inputs_and_outputs_are_seen_at_once(change: str) -> None:
    body, reason = OUTSIDE[change]
    found = different(network(""), network(body))
    assert not found.comparable
    assert reason in found.reason


# -- neurons ---------------------------------------------------------------------------------------

PROGRAM = "neuron n; state u = 0.0; state a = 0.0; learn w = 0.5; learn z = 0.5; {ops}; next u = {u}; next a = {a}; out s"
OPS = "p = mul w x; q = mul z u; v = add p q; t = sub v a; s = heaviside t; d = mul a 0.5; e = add d s"


def form_of(text: str) -> str:
    return program_form(read_program(text))


def test_the_form_of_a_neuron_knows_no_names_and_no_order() -> None:
    text = PROGRAM.format(ops=OPS, u="v", a="e")
    swapped = text.replace("add p q", "add q p").replace("mul w x", "mul x w")
    assert form_of(swapped) == form_of(text)
    renamed = (
        "neuron other; state b = 0.0; state y = 0.0; learn k1 = 0.5; learn k2 = 0.5; "
        "q = mul k1 y; p = mul k2 x; v = add q p; t = sub v b; s = heaviside t; "
        "d = mul 0.5 b; e = add s d; next b = e; next y = v; out s"
    )
    assert form_of(renamed) == form_of(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sub v a", "sub a v"),
        ("state a = 0.0", "state a = 1.0"),
        ("mul z u", "mul w u"),  # one learnable in two places is not two
        ("learn z = 0.5", "learn z = 0.5 above 0.0"),
        ("mul a 0.5", "mul a 0.25"),
        ("mul z u", "mul z a"),
    ],
)
def test_the_form_of_a_neuron_knows_its_equations(old: str, new: str) -> None:
    text = PROGRAM.format(ops=OPS, u="v", a="e")
    changed = text.replace(old, new)
    if "above" in new:
        changed = changed.replace("mul z u", "mul z_raw u")
    assert changed != text
    assert form_of(changed) != form_of(text)


# -- generated networks ----------------------------------------------------------------------------


def scrambled(graph: Graph, random: Random) -> Graph:
    """The same network: other ids, names and order; sums and products bracketed otherwise."""
    nodes: dict[int, Node] = {}
    fresh = iter(random.sample(range(10_000), 3_000))
    to: dict[int, int] = {}
    waiting = list(graph.nodes.values())

    def put(node: Node, inputs: Sequence[int]) -> int:
        id = next(fresh)
        nodes[id] = replace(node, id=id, inputs=tuple(inputs), name=f"n{id}", scope=("s",))
        return id

    def put_split(node: Node, inputs: list[int]) -> int:
        random.shuffle(inputs)
        if len(inputs) > 2:
            cut = random.randrange(1, len(inputs))
            parts = inputs[:cut], inputs[cut:]
            inputs = [put_split(node, part) if part[1:] else part[0] for part in parts]
        return put(node, inputs)

    while waiting:
        ready = [node for node in waiting if all(i in to for i in node.inputs)]
        node = random.choice(ready)
        waiting.remove(node)
        inputs = [to[i] for i in node.inputs]
        if node.op in ("add", "mul"):
            to[node.id] = put_split(node, inputs)
        elif node.op == "maximum" and len(inputs) == 2:
            to[node.id] = put(node, inputs[::-1])
        elif node.op == "concat" and len(inputs) > 2 and random.random() < 0.5:
            first = [graph[i].value.shape for i in node.inputs[:2]]
            shape = (sum(item[0] for item in first), *first[0][1:])
            part = put(replace(node, value=replace(node.value, shape=shape)), inputs[:2])
            to[node.id] = put(node, [part, *inputs[2:]])
        else:
            to[node.id] = put(node, inputs)
    keys = {key: f"k{random.random()}" for key in graph.neurons}
    nodes = {
        id: replace(node, attrs={**node.attrs, "neuron": keys[str(node.attrs["neuron"])]})
        if node.op == "neuron"
        else node
        for id, node in nodes.items()
    }
    return replace(
        graph,
        name="scrambled",
        nodes=nodes,
        outputs={name: to[id] for name, id in graph.outputs.items()},
        stages=(),
        neurons={keys[key]: text for key, text in graph.neurons.items()},
        stem_output=to[graph.stem_output],
    )


def generated(program: object) -> Graph:
    try:
        return graph_of(check_text(print_program(program)), passes=())  # type: ignore[arg-type]
    except SpecError:
        assume(False)
        raise


def weights(left: Graph, right: Graph, pairs: Sequence[tuple[int, int]]) -> dict[str, str]:
    """Parameters of the left model to those of the right."""
    models = emit(left), emit(right)

    def names(side: int, node: Node) -> list[str]:
        path = ".".join(map(attribute, (*node.scope, node.name)))
        module = models[side].get_submodule(path)
        return [f"{path}.{name}" for name, _ in module.named_parameters()]

    return {
        a: b
        for mine, other in pairs
        for a, b in zip(names(0, left[mine]), names(1, right[other]), strict=True)
    }


@pytest.mark.thorough
@examples(20)
@given(programs(), st.integers(0, 2**32))
def test_names_order_and_brackets_do_not_count(program: object, seed: int) -> None:
    graph = generated(program)
    other = scrambled(graph, Random(seed))
    result = same(graph, other)
    for a, b in result.weights:
        assert graph[a].op == other[b].op


@pytest.mark.thorough
@examples(6)
@given(programs(), st.integers(0, 2**32))
def test_the_mapping_of_weights_makes_both_compute_the_same(program: object, seed: int) -> None:
    """Independent of forms: both models run with the weights that the mapping says."""
    graph = generated(program)
    other = scrambled(graph, Random(seed))
    result = same(graph, other)
    pairs = weights(graph, other, result.weights)
    left, right = emit(graph), emit(other)
    assert len(pairs) == len(list(left.parameters()))
    assert agreement(left, right, pairs, (2, *graph.input.value.shape)).same


def change_number(node: Node, random: Random) -> Node | None:
    """A node with another number among its attributes."""
    names = [
        name
        for name in ("kernel", "stride", "width", "init", "padding", "alpha", "factor")
        if isinstance(node.attrs.get(name), (int, float))
    ]
    if not names:
        return None
    name = random.choice(names)
    value = node.attrs[name]
    assert isinstance(value, (int, float))
    return replace(node, attrs={**node.attrs, name: value + 1})


def change_op(node: Node, _: Random) -> Node | None:
    other = {"batchnorm": "tebn", "mul": "add", "add": "mul", "maximum": "minimum"}.get(node.op)
    return None if other is None else replace(node, op=other)


def swap_operands(node: Node, _: Random) -> Node | None:
    if node.op not in ("concat", "sub") or len(set(node.inputs)) < 2:
        return None
    return replace(node, inputs=node.inputs[::-1])


@pytest.mark.thorough
@examples(25)
@given(
    programs(), st.integers(0, 2**32), st.sampled_from([change_number, change_op, swap_operands])
)
def test_mutants(program: object, seed: int, change: Callable[[Node, Random], Node | None]) -> None:
    graph, random = generated(program), Random(seed)
    changed = {
        id: new for id, node in graph.nodes.items() if (new := change(node, random)) is not None
    }
    assume(changed)
    id = random.choice(list(changed))
    other = replace(graph, nodes={**graph.nodes, id: changed[id]})
    live = isinstance(compare_graphs(graph, graph), Same)
    assert live
    found = different(graph, scrambled(other, random))
    assert found.reason


# -- by numbers ------------------------------------------------------------------------------------


def test_weights_are_paired_by_name_then_by_order() -> None:
    base = network("")
    assert paired_weights(base, network("stages = stage(basic(4), 3) via sew"))[0] == "name"
    other = scrambled(base, Random(0))
    ordered = replace(base, nodes={i: replace(n, name=f"n{i}") for i, n in base.nodes.items()})
    assert paired_weights(base, ordered)[0] == "order"
    assert paired_weights(base, network("norm = batchnorm(init = 0.5)"))[0] is None
    assert paired_weights(base, network("stem = conv(5) -> norm -> spike"))[0] is None
    assert other.name == "scrambled"
