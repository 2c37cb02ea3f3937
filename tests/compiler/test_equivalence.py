"""Equivalence of graphs: which differences make another network, and which do not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.analysis.equivalence import Different, Same, compare_graphs, paired_weights
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.names import attribute
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.runtime.checks.agreement import agreement
from tests.fuzzing.generate import spec
from tests.generating import examples


def shipped(name: str, **settings: object) -> Graph:
    return graph_of(check_file(name), settings=settings, passes=())


def network(body: str, more: str = "") -> Graph:
    """A small network with stages and a connection. ``body`` overrides its settings."""
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


THREE = """a = in -> conv(w) -> norm
b = in -> conv(w, kernel = 1) -> norm
c = in -> conv(w, kernel = 5) -> norm"""


def of_blocks(body: str) -> Graph:
    """The network with a stage of two blocks that have this body."""
    return network("stages = stage(mine(4), 2)", f"block mine(w) {{ {body} }}")


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


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
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


REWRITTEN = {
    "stages = stage(basic(4), 3) via mine": """connection mine(after = spike) {
      last = conv -> norm; each = conv -> norm -> spike; projection = conv -> norm
      out = (shortcut + branch) -> after }""",
    "stages = stage(two(4), 3) via origin": """block two(w, stride = 1) =
      (conv(w, kernel = 3, stride = stride) -> conv(w, kernel = 3))""",
    "stages = stage(basic(4), 3) via origin by latest": """rule latest {
      result = sum(out[n - 1 .. n - 1]); in[k] = max(out[k - 1]) }""",
    "stages = stage(basic(4), 1) via origin -> stage(basic(4), 2) via origin by densely_additive": "",
    "neuron = mine": """neuron mine(leak = 2.0) {
      state p = 0.0; a = p * (1 - 1 / leak); b = (x + 0.0) * (1 / leak); q = b + a
      fire = heaviside(q - 1.0); p = (1 - fire) * q + 0.0 * fire; s = fire }""",
    "stem = conv(4) -> norm -> dropout(0.0) -> spike -> maxpool(1)": "",
    "stages = stage(basic(4), 3) via negated": """connection negated {
      each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm
      out = (branch - (0 - shortcut)) -> spike }""",
}


@pytest.mark.parametrize("body", REWRITTEN)
def test_a_network_written_in_another_way_is_equal(body: str) -> None:
    left, right = network(""), network(body, REWRITTEN[body])
    kinds = [(left[a].op, right[b].op) for a, b in same(left, right).weights]
    assert all(a == b for a, b in kinds)
    ops = [node.op for node in left.nodes.values()]
    assert len(kinds) == sum(op in ("conv", "batchnorm", "linear") for op in ops)


def test_sums_in_another_order_are_equal_to_rounding() -> None:
    def three(out: str) -> Graph:
        return of_blocks(f"{THREE}; out = {out} -> spike")

    for other in ("((b + a) + c)", "(a + (b + c))", "(c + a + b)"):
        same(three("(a + b + c)"), three(other))
    different(three("(a + b + c)"), three("(a + b + b + c)"))
    different(three("(a + b + c)"), three("(a - b + c)"))
    different(three("(a - b + c)"), three("(b - a + c)"))
    assert same(three("(a * b * c)"), three("(c * (b * a))"))
    different(three("(a * b + c)"), three("(a * (b + c))"))
    assert same(three("(a + a + b + c)"), three("(2 * a + b + c)"))


def test_maxima_may_not_be_bracketed_otherwise() -> None:
    """torch divides the gradient between equal operands, and spikes are often equal."""

    def three(out: str) -> Graph:
        return of_blocks(f"{THREE.replace('norm', 'spike')}; out = {out}")

    folded, other = three("max(a, b, c)"), three("max(a, max(b, c))")
    same(folded, three("max(c, max(b, a))"))
    same(folded, three("max(max(a, a, b), c)"))
    different(folded, other)
    by, pairs = paired_weights(folded, other)
    assert by is not None
    ids = [(a.id, b.id) for a, b in pairs]
    seen = agreement(emit(folded), emit(other), weights(folded, other, ids), (2, 3, 8, 8))
    assert seen.outputs == 0
    assert seen.gradients > 1e-3


def test_the_name_of_the_only_output_does_not_count() -> None:
    flow = network("")
    assert same(flow, replace(flow, outputs={"logits": flow.outputs["out"]}))


def test_layers_that_look_alike_are_told_apart_by_what_reads_them() -> None:
    """The two convolutions of one value are equal, but only one of them feeds a sigmoid."""

    def twins(order: str) -> Graph:
        return of_blocks(
            f"a = in -> conv(w); b = in -> conv(w); g = b -> sigmoid; out = concat({order})"
        )

    left = twins("a, g")
    different(left, twins("g, a"))
    for _ in range(2):
        assert all(a == b for a, b in same(left, left).weights)
    renamed = of_blocks(
        "a = in -> conv(w); b = in -> conv(w); g = a -> sigmoid; out = concat(b, g)"
    )
    pairs = [(left[a].path, renamed[b].path) for a, b in same(left, renamed).weights]
    crossed = [a != b for a, b in pairs if "stages" in a]
    assert crossed == [True] * 4


def test_learnt_mixtures_are_told_apart_by_what_they_mix() -> None:
    """A share and its complement enter a sum with the factors 1 and -1."""

    def mixed(out: str, low: str = "in", high: str = "a") -> Graph:
        learnt = "m = learn(0.5, per = channel); k = learn(0.5, per = channel); a = in -> conv(w)"
        gate = f"g = ({low} * k + {high} * (1 - k)) -> sigmoid"
        return of_blocks(f"{learnt}; r = (in * m + a * (1 - m)) -> relu; {gate}; out = {out}")

    assert same(mixed("r * g"), mixed("g * r"))
    different(mixed("r * g"), mixed("r * g", "a", "in"))


def test_one_layer_used_twice_is_not_two_layers() -> None:
    def squared(second: str) -> Graph:
        return of_blocks(
            f"a = in -> conv(w); b = in -> conv(w); c = {second}; out = concat(a * c, b)"
        )

    different(squared("a"), squared("b"))


MUTATED = {
    "neuron = LIF(v_threshold = 0.9)": "neuron",
    "neuron = LIF(tau = 3.0)": "neuron",
    "neuron = LIF(detach_reset = true)": "neuron",
    "surrogate = sigmoid(alpha = 2)": "neuron",
    "neuron = PLIF": "neuron",
    "norm = tebn": "tebn",
    "norm = groupnorm(2)": "groupnorm",
    "norm = batchnorm(init = 0.5)": "init",
    "stages = stage(basic(4), 3, stride = 2) via origin": "stride",
    "stem = conv(4, kernel = 5) -> norm -> spike": "kernel 3 and 5",
    "stem = conv(4, bias = true) -> norm -> spike": "bias",
    "stem = conv(5) -> norm -> spike": "width 4 and 5",
    "stem = conv(4) -> norm -> spike -> maxpool(3, stride = 1)": "",
    "stem = conv(4) -> norm -> dropout(0.1) -> spike": "",
    "stages = stage(basic(4), 4) via origin": "",
    "stem = conv(4) -> spike -> norm": "",
    "stages = stage(basic(4), 3) via sew": "",
}
OUTSIDE = {
    "steps = 3": "T = 2 and T = 3",
    "input = image(1, 8, 8)": "different inputs: 3 x 8 x 8 and 1 x 8 x 8",
    "input = events(3, 8, 8)": "3 x 8 x 8 and 3 x 8 x 8 at each time step",
    "head = avgpool -> mean_over_time -> linear(4)": "different outputs: 5 and 4",
    "head = avgpool -> linear(5)": "at each time step",
}


@pytest.mark.parametrize("body", [*MUTATED, *OUTSIDE])
def test_another_network_is_different_and_the_first_difference_is_told(body: str) -> None:
    found = different(network(""), network(body))
    assert found.comparable == (body in MUTATED)
    assert {**MUTATED, **OUTSIDE}[body] in found.reason
    assert found.left.origin.line >= 1 or not found.comparable


NEURON = """neuron mine { state u = 0.0; state a = 0.0; w = learn(0.5); z = learn(0.5)
  p = w * x; q = z * u; v = p + q; s = heaviside(v - a); u = v; d = a * 0.5; a = d + s }"""
RENAMED = """neuron mine { state b = 0.0; state y = 0.0; k1 = learn(0.5); k2 = learn(0.5)
  q = y * k1; p = x * k2; v = q + p; s = heaviside(v - b); d = 0.5 * b; b = s + d; y = v }"""
CHANGED = [
    ("v - a", "a - v"),
    ("state a = 0.0", "state a = 1.0"),
    ("z * u", "w * u + 0 * z"),  # one parameter in two places is not two parameters
    ("z = learn(0.5)", "z = learn(0.5, above = 0)"),
    ("a * 0.5", "a * 0.25"),
    ("z * u", "z * a"),
]


def test_neurons_are_compared_by_their_equations_without_names_and_order() -> None:
    graph = network("neuron = mine", NEURON)
    same(graph, network("neuron = mine", RENAMED))
    for old, new in CHANGED:
        assert different(graph, network("neuron = mine", NEURON.replace(old, new))).comparable


def scrambled(graph: Graph, random: Random) -> Graph:
    """The same network with other ids, names and order, and other brackets in sums and products."""
    nodes: dict[int, Node] = {}
    fresh = iter(random.sample(range(10_000), 3_000))
    to: dict[int, int] = {}
    waiting = list(graph.nodes.values())
    keys: dict[object, str] = {key: f"k{random.random()}" for key in graph.neurons}

    def put(node: Node, inputs: Sequence[int]) -> int:
        id, attrs = next(fresh), dict(node.attrs)
        if node.op == "neuron":
            attrs["neuron"] = keys[attrs["neuron"]]
        nodes[id] = Node(
            id, node.op, tuple(inputs), attrs, node.value, ("s",), f"n{id}", node.origin
        )
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
    return replace(
        graph,
        name="scrambled",
        nodes=nodes,
        outputs={name: to[id] for name, id in graph.outputs.items()},
        stages=(),
        neurons={keys[key]: text for key, text in graph.neurons.items()},
        stem_output=to[graph.stem_output],
    )


def generated(seed: int) -> Graph:
    """A network with one image as its input, without random numbers, masks, loops or shared weights."""
    try:
        graph = graph_of(check_text(spec(seed)), passes=())
    except SpecError:
        assume(False)
        raise
    nodes = graph.nodes.values()
    drawn = any(OPS[n.op].random or n.op == "mask" or n.attrs.get("weight") for n in nodes)
    assume(not (drawn or graph.carries or graph.shares or graph.input.value.varies))
    assume(len(graph.inputs) == 1 and not graph.input.value.kind.is_integer)
    return graph


def weights(left: Graph, right: Graph, pairs: Sequence[tuple[int, int]]) -> dict[str, str]:
    """Map the parameters of the left model to the parameters of the right model."""
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
@given(st.integers(0, 2**32))
def test_names_order_and_brackets_do_not_count(seed: int) -> None:
    """Both models also compute the same with the paired weights."""
    graph = generated(seed)
    other = scrambled(graph, Random(seed))
    result = same(graph, other)
    assert all(graph[a].op == other[b].op for a, b in result.weights)
    pairs = weights(graph, other, result.weights)
    left, right = emit(graph), emit(other)
    assert len(pairs) == len(list(left.parameters()))
    assert agreement(left, right, pairs, (2, *graph.input.value.shape)).same


def change_number(node: Node, random: Random) -> Node | None:
    """The node with one numeric attribute increased by 1, or None if it has none."""
    numbers = ("kernel", "stride", "width", "init", "padding", "alpha", "factor")
    found = [(name, node.attrs.get(name)) for name in numbers]
    changed = [(name, value + 1) for name, value in found if isinstance(value, (int, float))]
    return (
        replace(node, attrs={**node.attrs, **dict([random.choice(changed)])}) if changed else None
    )


def change_op(node: Node, _: Random) -> Node | None:
    other = {"batchnorm": "tebn", "mul": "add", "add": "mul", "maximum": "minimum"}.get(node.op)
    return None if other is None else replace(node, op=other)


def swap_operands(node: Node, _: Random) -> Node | None:
    if node.op not in ("concat", "sub") or len(set(node.inputs)) < 2:
        return None
    return replace(node, inputs=node.inputs[::-1])


@pytest.mark.thorough
@examples(25)
@given(st.integers(0, 2**32), st.sampled_from([change_number, change_op, swap_operands]))
def test_mutants(seed: int, change: Callable[[Node, Random], Node | None]) -> None:
    graph, random = generated(seed), Random(seed)
    changed = {
        id: new for id, node in graph.nodes.items() if (new := change(node, random)) is not None
    }
    assume(changed)
    id = random.choice(list(changed))
    other = replace(graph, nodes={**graph.nodes, id: changed[id]})
    assert isinstance(compare_graphs(graph, graph), Same)
    found = different(graph, scrambled(other, random))
    assert found.reason


def test_weights_are_paired_by_name_then_by_order() -> None:
    base = network("")
    assert paired_weights(base, network("stages = stage(basic(4), 3) via sew"))[0] == "name"
    ordered = replace(base, nodes={i: replace(n, name=f"n{i}") for i, n in base.nodes.items()})
    assert paired_weights(base, ordered)[0] == "order"
    assert paired_weights(base, network("norm = batchnorm(init = 0.5)"))[0] is None
    assert paired_weights(base, network("stem = conv(5) -> norm -> spike"))[0] is None
