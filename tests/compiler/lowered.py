"""A network whose lines are changed, and what lowering makes of it."""

from __future__ import annotations

from danetc.compiler import check_text
from danetc.compiler.ir.graph import Graph, Node

SPEC = """use std

network n(classes = 10) {
  input = image(3, 16, 16)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  stem = conv(8, kernel = 5) -> norm -> spike -> maxpool(3, stride = 2)
  stages = (stage(basic(8), 2) -> stage(basic(16), 2, stride = 2)) via origin by chain
  head = avgpool -> mean_over_time -> linear(classes)
}
"""


def graph(text: str = SPEC, network: str = "n") -> Graph:
    return check_text(text).graphs[network]


def spec(**settings: str) -> str:
    """The network above with settings changed."""
    lines = SPEC.splitlines()
    for name, value in settings.items():
        at = next(
            (i for i, line in enumerate(lines) if line.startswith(f"  {name} =")), len(lines) - 1
        )
        insert = at == len(lines) - 1
        lines[at : at if insert else at + 1] = [f"  {name} = {value}"]
    return "\n".join(lines) + "\n"


def flow(text: str, more: str = "") -> str:
    return (
        "use std\nnetwork n {\n  input = image(3, 16, 16)\n  steps = 2\n  neuron = IF\n"
        f"  surrogate = sigmoid\n  {text}\n}}\n{more}"
    )


def paths(lowered: Graph, scope: str = "") -> list[str]:
    """The names of the nodes in a scope, in order, without the scope."""
    prefix = f"{scope}." if scope else ""
    return [
        node.path.removeprefix(prefix)
        for node in lowered.nodes.values()
        if node.path.startswith(prefix)
    ]


def ops(lowered: Graph, scope: str) -> list[str]:
    return [node.op for node in lowered.nodes.values() if node.path.startswith(f"{scope}.")]


def node(lowered: Graph, path: str) -> Node:
    (found,) = (item for item in lowered.nodes.values() if item.path == path)
    return found


def output(lowered: Graph) -> Node:
    (id,) = lowered.outputs.values()
    return lowered[id]
