"""A loop over time as a method of a standalone model: a plain loop, one step after the other."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping, Sequence

from danetc.compiler.emit.python.names import free, variable
from danetc.compiler.emit.python.trees import (
    assign,
    call,
    constant,
    function,
    loop,
    method,
    name,
    sequence,
    template,
)
from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph, Node

Write = Callable[[Node, Sequence[ast.expr]], ast.expr]


def loop_method(
    graph: Graph,
    members: Sequence[int],
    flow: tuple[list[int], list[int]],
    stepping: Mapping[int, ast.expr],
    write: Write,
    reserved: Collection[str],
    title: str,
) -> ast.FunctionDef:
    """The method ``title``, which takes and gives the values of ``flow``, all [T, N, ...].

    ``stepping`` has what reads the module of each layer with a state, ``write`` the expression of
    any other node. ``reserved`` are names that no variable may have.
    """
    taken, made = flow
    used = {*reserved, "self", "torch", "nn", "t", "steps"}

    def claim(base: str) -> str:
        used.add(found := free(variable(base), used.__contains__))
        return found

    inputs = {id: claim("x" if len(taken) == 1 else graph[id].name) for id in taken}
    names = {id: claim(graph[id].name) for id in members}
    outputs = {id: claim(f"{names[id]}_seq") for id in made}
    carries = [id for id in members if id in graph.carries]
    states = {id: claim(f"{names[id]}_state") for id in stepping}
    before = {id: claim(f"{names[id]}s") for id in carries if graph[id].attrs["steps"] != 1}
    lines: list[ast.stmt] = []
    varying = [id for id in taken if graph[id].value.varies]  # a learnt one has T too
    frames: dict[int, ast.expr] = {}
    for id, label in inputs.items():
        rank = len(graph[id].value.shape)
        form = "x[t]" if graph[id].value.varies else f"x[t] if x.dim() == {rank + 2} else x"
        frames[id] = template(form, x=name(label))
    shared = same_for_all(graph)
    first = next(id for id in taken if id not in shared)
    rank = len(graph[first].value.shape)
    steps: ast.expr
    if varying:
        steps = call(name("len"), name(inputs[varying[0]]))
    else:
        form = f"len(x) if x.dim() == {rank + 2} else {graph.steps}"
        steps = template(form, x=name(inputs[first]))
    for id in carries:
        zeros = ast.Call(
            ast.Attribute(name(inputs[first]), "new_zeros", ast.Load()),
            [
                ast.Subscript(
                    ast.Attribute(name(inputs[first]), "shape", ast.Load()),
                    constant(-rank - 1),
                    ast.Load(),
                ),
                *map(constant, graph[id].value.shape),
            ],
            [],
        )
        if id in before:
            count = constant(graph[id].attrs["steps"])
            lines.append(
                assign([before[id]], ast.BinOp(ast.List([zeros], ast.Load()), ast.Mult(), count))
            )
        else:
            lines.append(assign([names[id]], zeros))
    lines += [assign([state], constant(None)) for state in states.values()]
    lines += [assign([label], ast.List([], ast.Load())) for label in outputs.values()]
    body: list[ast.stmt] = []
    for id, label in before.items():
        body.append(assign([names[id]], method(name(label), "pop", constant(0))))
    for id in members:
        node = graph[id]
        if id in graph.carries:
            continue
        operands = [frames[i] if i in frames else name(names[i]) for i in node.inputs]
        if id in stepping:
            step = method(stepping[id], "step", *operands, name(states[id]))
            body.append(assign([names[id], states[id]], step))
        else:
            body.append(assign([names[id]], write(node, operands)))
    body += [
        ast.Expr(method(name(label), "append", name(names[id]))) for id, label in outputs.items()
    ]
    now = [id for id in carries if id not in before]
    sources = [name(names[graph.carries[id]]) for id in now]
    if now:
        body.append(assign([names[id] for id in now], sequence(sources)))
    for id, label in before.items():
        source = name(names[graph.carries[id]])
        body.append(ast.Expr(method(name(label), "append", source)))
    lines.append(loop(["t"], call(name("range"), steps), body))
    stacked = [call(name("torch.stack"), name(label)) for label in outputs.values()]
    lines.append(ast.Return(sequence(stacked)))
    result = "Tensor" if len(made) == 1 else f"tuple[{', '.join(['Tensor'] * len(made))}]"
    takes = [("self", "", None), *((label, "Tensor", None) for label in inputs.values())]
    return function(title, takes, result, [ast.Expr(constant(_DOC)), *lines])


_DOC = "What depends on its own earlier values, one step after the other."
