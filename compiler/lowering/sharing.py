"""Layers of the same weights at several places: ``shared(LAYER)``."""

from __future__ import annotations

from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS, Context, text
from danetc.compiler.ir.ops.unknown import is_known
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.values import Failed, Invalid, OnceMade, Wire
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.syntax.source import Span


def apply_shared(lowering: Lowering, part: OnceMade, wire: Wire, span: Span) -> Wire | Invalid:
    """What a shared layer makes of a value. Where it stands first its weights are made; elsewhere its
    nodes compute with those of the first place."""
    builder = lowering.builder
    first = len(builder.nodes)
    made = lowering.apply(part.layer, wire, span)
    if isinstance(made, Invalid):
        return made
    own = tuple(id for id in range(first, len(builder.nodes)) if _has_weights(lowering, id))
    owners = lowering.made_once.setdefault(part, own)
    if owners is own:
        return made
    if len(own) != len(owners):
        raise _differs(lowering, part, span, "has other layers here than where it stands first")
    for id, owner in zip(own, owners, strict=True):
        here, there = builder.nodes[id], builder.nodes[owner]
        if (here.op, here.attrs) != (there.op, there.attrs):
            raise _differs(lowering, part, span, f"is {_told(here)} here and {_told(there)} first")
        for name, shape in _weights(lowering, there).items():
            found = _weights(lowering, here).get(name, ())
            if found != shape and is_known(found) and is_known(shape):
                raise _differs(
                    lowering,
                    part,
                    span,
                    f"needs a `{name}` of {text(found)} for `{here.op}` here, and has one of {text(shape)}",
                )
        builder.shares[id] = builder.shares.get(owner, owner)
    return made


def _weights(lowering: Lowering, node: Node) -> dict[str, tuple[int, ...]]:
    values = tuple(lowering.builder.nodes[i].value for i in node.inputs)
    context = Context(lowering.builder.steps, lowering.builder.neurons)
    return OPS[node.op].weights(node.attrs, values, context)


def _has_weights(lowering: Lowering, id: int) -> bool:
    """Whether a node has what training changes: weights, running statistics."""
    builder = lowering.builder
    node = builder.nodes[id]
    values = tuple(builder.nodes[i].value for i in node.inputs)
    context = Context(builder.steps, builder.neurons)
    return bool(_weights(lowering, node)) or bool(OPS[node.op].buffers(node.attrs, values, context))


def _told(node: Node) -> str:
    return f"a layer `{node.op}`"


def _differs(lowering: Lowering, part: OnceMade, span: Span, what: str) -> Failed:
    return lowering.builder.fail(
        "E0411",
        f"a shared layer {what}",
        span,
        labels=(Label(part.span, "it is shared here"),),
        hint="give it values of the same channels, or weights of its own: leave out `shared`",
    )
