"""Warnings about layers: suspicious shapes, and weights without effect."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS, norm_names, text, whole
from danetc.compiler.warnings.network import CheckedNetwork
from danetc.compiler.warnings.rule import Finding, Rule
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.diagnostics.fixes import Edit, Fix, Hint, replacing
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Call, Name

_LARGEST_EVEN = 4  # a larger even kernel suggests a width in PyTorch's order of arguments


def _torch_order(network: CheckedNetwork) -> Iterator[Finding]:
    """Report arguments in PyTorch's order, which start with the channels of the input."""
    for node in network.of(*_convolutions()):
        call = _in_torch_order(network, node)
        if call is not None:
            names = ("width", "kernel", "stride")
            width, kernel, stride = (whole(node.attrs, name) for name in names)
            yield Finding(
                call.span,
                f"a convolution of width {width}, kernel {kernel} and stride {stride}",
                label=f"its input has {width} channels",
                hint="the number of input channels is not an argument; did you mean "
                f"`{node.op}({kernel}, kernel = {stride})`?",
            )
    for node in network.of(*norm_names()):
        channels = node.value.shape[0]
        if node.attrs.get("init") != channels or channels == 1:
            continue
        call = network.call(node)
        before = [item.name for item in OPS[node.op].parameters].index("init")
        if call is not None and _unnamed(call) > before:
            name = call.function.id if isinstance(call.function, Name) else node.op
            others = [item.name for item in OPS[node.op].parameters[:before]]
            shown = ", ".join(str(node.attrs[item]) for item in others)
            right = f"{name}({shown})" if shown else name
            yield Finding(
                call.span,
                f"the initial weight of `{call.span.text}` is {channels}",
                label=f"its input has {channels} channels",
                hint=Hint(
                    f"the number of channels is not an argument: write `{right}`",
                    replacing(call.span, right),
                ),
            )


def _in_torch_order(network: CheckedNetwork, node: Node) -> Call | None:
    """Return the call of a convolution whose arguments are in PyTorch's order, else None."""
    channels = network.source(node).value.shape[0]
    width, kernel, stride = (whole(node.attrs, name) for name in ("width", "kernel", "stride"))
    if width != channels or kernel % 2 or kernel <= _LARGEST_EVEN or kernel == stride:
        return None
    call = network.call(node)
    return call if call is not None and _unnamed(call) >= 3 else None


def _unnamed(call: Call) -> int:
    return sum(arg.name is None for arg in call.args)


def _even_kernel(network: CheckedNetwork) -> Iterator[Finding]:
    for node in network.of(*_convolutions()):
        names = ("kernel", "stride", "padding", "dilation")
        kernel, stride, padding, dilation = (whole(node.attrs, name) for name in names)
        if kernel % 2 or padding != dilation * (kernel // 2):
            continue
        call = network.call(node)
        if call is None or "padding" in _given(node, call) or _in_torch_order(network, node):
            continue
        before, after = network.source(node).value.shape[1:], node.value.shape[1:]
        reach = dilation * (kernel - 1) + 1
        fitting = (max(0, reach - stride) + 1) // 2
        divides = before[0] % stride == before[1] % stride == 0
        if divides and 2 * fitting < reach:  # then the output has size / stride pixels
            wanted = text((before[0] // stride, before[1] // stride))
            at = Span(call.span.source, call.span.end - 1, call.span.end - 1)
            edit = Edit(at, f", padding = {fitting}")
            fix = Fix(f"write `padding = {fitting}`", (edit,))
            hint: str = Hint(f"for a map of {wanted} write `padding = {fitting}`", fix)
        else:
            hint = f"use a kernel of {kernel - 1} or {kernel + 1}, or set `padding`"
        yield Finding(
            call.span,
            f"a kernel of {kernel} turns a map of {text(before)} into {text(after)}",
            label=f"the default padding is half of the kernel, {padding}",
            hint=hint,
        )


def _given(node: Node, call: Call) -> set[str]:
    """Return the parameters that the call of an operation sets."""
    names = [parameter.name for parameter in OPS[node.op].parameters]
    return {arg.name or names[index] for index, arg in enumerate(call.args)}


def _one_pixel(network: CheckedNetwork) -> Iterator[Finding]:
    """Report the first window over a map of one pixel; all later maps have one pixel, too."""
    graph = network.lowered.graph
    for node in graph.nodes.values():
        if OPS[node.op].window is None or network.source(node).value.shape[1:] != (1, 1):
            continue
        kernel, stride = whole(node.attrs, "kernel"), whole(node.attrs, "stride")
        if kernel == stride == 1:
            continue
        what = f"a kernel of {kernel}" if kernel > 1 else f"a stride of {stride}"
        why = "only the centre of the kernel is used" if kernel > 1 else "there is nothing to skip"
        yield Finding(
            network.place(node),
            f"the map is 1 x 1 where `{node.path}` has {what}: {why}",
            labels=_last_larger(network, node),
            hint="reduce the strides before it, or use a larger image",
        )
        return


def _last_larger(network: CheckedNetwork, node: Node) -> tuple[Label, ...]:
    """Return a label at the layer that reduces the map to 1 x 1."""
    graph = network.lowered.graph
    current = network.source(node)
    while current.inputs:
        before = graph[current.inputs[0]]
        if before.value.shape[1:] != (1, 1):
            place = network.place(current)
            if place == network.place(node):
                return ()
            return (Label(place, f"{text(before.value.shape[1:])} becomes 1 x 1 here"),)
        current = before
    return ()


def _bias_before_norm(network: CheckedNetwork) -> Iterator[Finding]:
    graph = network.lowered.graph

    def users(node: Node) -> list[Node]:
        return [graph[id] for id in network.users[node.id]]

    def without_effect(node: Node) -> bool:
        read = users(node) if node.attrs.get("bias") and not network.is_output(node) else []
        return bool(read) and all(OPS[user.op].norm == "channel" for user in read)

    for node in network.wherever(without_effect, *_weighted()):
        yield Finding(
            network.place(node),
            f"the bias of `{node.path}` has no effect: the norm after it subtracts the mean",
            labels=_beside(network.place(node), network.written_at(users(node)[0]), "this norm"),
            hint="write `bias = false`" if _biased(node) else "leave out `bias`",
        )


def _norm_behind_norm(network: CheckedNetwork) -> Iterator[Finding]:
    """A norm with another reader, such as a shortcut, is exempt."""

    def undoes(node: Node) -> bool:
        before = network.source(node)
        alone = len(network.users[before.id]) == 1 and not network.is_output(before)
        return OPS[before.op].norm is not None and alone

    for node in network.wherever(undoes, *norm_names()):
        before = network.source(node)
        yield Finding(
            network.written_at(node),
            f"`{node.path}` normalises the output of a norm, `{before.path}`",
            label="the second norm undoes the first",
            labels=_beside(network.written_at(node), network.written_at(before), "the first"),
            hint="remove one of them",
        )


def _convolutions() -> list[str]:
    return [name for name, row in OPS.items() if row.convolves]


def _weighted() -> list[str]:
    return [name for name, row in OPS.items() if row.weighted]


def _biased(node: Node) -> bool:
    """True if an operation has a bias by default."""
    return any(item.name == "bias" and item.default for item in OPS[node.op].parameters)


def _beside(place: Span, other: Span, words: str) -> tuple[Label, ...]:
    """Return a label at a second span, unless it equals the first."""
    return (Label(other, words),) if other != place else ()


RULES: tuple[Rule[CheckedNetwork], ...] = (
    Rule("W0201", _torch_order),
    Rule("W0202", _even_kernel),
    Rule("W0203", _one_pixel),
    Rule("W0205", _bias_before_norm),
    Rule("W0206", _norm_behind_norm),
)
