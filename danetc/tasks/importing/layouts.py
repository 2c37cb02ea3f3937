"""Dimensions of values in a traced model: views, permutations, attention, parameters, arithmetic.

A value of a network is a map of channels, rows and columns, or a vector. Each dimension of the tensor that
it is in the model is a tuple of atoms ``(axis, size, stride)``, which are parts of an axis of the map (0 to
2), of the samples or of time. Views split and group atoms, and permutations move them, without an operation
in the network: ``[N, H * W, C]`` and ``[N, heads, H * W, C / heads]`` are layouts of a map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from danetc.tasks.importing import operations
from danetc.tasks.importing.operations import (
    TIME,
    CallSite,
    Layout,
    Reader,
    ReadValue,
    StoredTensor,
    activation,
    function,
    linear,
    pixelwise,
    same,
    vector,
)


def _arranged(call: CallSite, x: ReadValue, dims: Layout) -> ReadValue:
    """Return a value with other dimensions; a map as one dimension is flattened."""
    found = replace(x, dims=dims)
    usual, lead = call.usual(found), len(found.lead)
    each = tuple(itertools.chain(*usual.dims[lead:]))
    if len(call.shape(x)) > 1 and found.dims[lead:] == (each,):
        return call.add("flatten", usual)
    return found


def view(call: CallSite, x: ReadValue, *sizes: Any) -> ReadValue:
    atoms, dims = [*itertools.chain(*x.dims)], []
    for size in call.after:
        dim: list[tuple[int, int, int]] = []
        left = size
        while left > 1:
            axis, n, stride = atoms.pop(0)
            common = math.gcd(n, left)
            if common not in (n, left):
                raise call.refuse(f"a change of shape from {x.shape} to {call.after}")
            atoms[:0] = [(axis, n // common, stride)] if common < n else []
            left //= common
            stride, taken = stride * (n // common), common
            if dim and (dim[-1][0], dim[-1][2]) == (axis, taken * stride):  # they follow each other
                taken *= dim.pop()[1]
            dim.append((axis, taken, stride))
        dims.append(tuple(dim))
    return _arranged(call, x, tuple(dims))


def permute(call: CallSite, x: ReadValue, order: Sequence[int]) -> ReadValue:
    return _arranged(call, x, tuple(x.dims[place] for place in order))


def transpose(call: CallSite, x: ReadValue, first: int, second: int) -> ReadValue:
    order = [*range(len(x.dims))]
    order[first], order[second] = order[second], order[first]
    return permute(call, x, order)


def _repeat(call: CallSite, x: ReadValue, times: Any) -> ReadValue:
    """Read an image that is repeated at each time step."""
    others = x.dims[x.dims[0] == () :]
    sizes = x.shape[x.dims[0] == () :]
    steps = call.build.steps
    if call.after != (steps, *sizes) or TIME in (axis for dim in others for axis, *_ in dim):
        raise call.refuse(f"a repetition by {times}; T is {steps} (--steps)")
    return replace(x, dims=(call.build.leads[1][0], *others))


def layer_norm(
    call: CallSite, x: ReadValue, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> ReadValue:  # fmt: skip
    if None in (weight, bias) or len(shape) != 1:
        raise call.refuse("a layer norm over several dimensions, or without weights")
    pixelwise(call, x)
    return call.add("layernorm", x, {"eps": eps}, weight=weight, bias=bias)


def _are_tokens(call: CallSite, x: ReadValue) -> bool:
    """Return True for [N, pixels, channels]."""
    channels, *pixels = call.shape(x)
    each = tuple((axis, n, 1) for axis, n in enumerate(pixels, 1) if n > 1)
    return x.dims[1:] == (each, ((0, channels, 1),))


# -- parts of a value ------------------------------------------------------------------------------

PARTS = (
    "a part of a value is read along its channels, or is one of its pixels; a single time step is read "
    "in a neuron with the same equations at each step"
)


def unbind(call: CallSite, x: ReadValue, dim: int = 0) -> list[ReadValue]:
    """Return the parts of a value along a dimension, which splits its channels."""
    dims, channels = x.dims, call.shape(x)[0]
    (axis, count, stride), *more = dims[dim] or ((0, 1, channels),)
    if more or axis != 0 or count * stride != channels:
        raise call.refuse(PARTS)
    rest = tuple(item for place, item in enumerate(dims) if place != dim % len(dims))
    parts = []
    for first in range(0, channels, stride):
        ends = {"first": first, "last": first + stride - 1}
        parts.append(_arranged(call, call.add("slice", call.usual(x), ends), rest))
    return parts


def select(call: CallSite, x: ReadValue, dim: int, index: int) -> ReadValue:
    """Read a part of the channels, or one pixel: a class token."""
    if dim != 1 or not _are_tokens(call, x):
        return unbind(call, x, dim)[index]
    channels, *pixels = call.shape(x)
    count = math.prod(pixels)
    x = call.usual(x)
    if pixels != [count, 1]:
        x = call.add("reshape", x, {"channels": channels, "rows": count})
    x = call.add("swap", x, {"a": "channels", "b": "rows"})
    return vector(call, call.add("slice", x, {"first": index % count, "last": index % count}))


def slice_(call: CallSite, x: ReadValue, *ends: Any) -> ReadValue:
    if x.shape != call.after:
        raise call.refuse(PARTS)
    return x


# -- attention -------------------------------------------------------------------------------------


def attention(
    call: CallSite, query: ReadValue, key: ReadValue, value: ReadValue, mask: Any = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
) -> ReadValue:  # fmt: skip
    layouts = {item.dims for item in (query, key, value)}
    each = query.shape[-1]
    heads = call.shape(query)[0] // each
    dims = query.dims[len(query.lead) :]
    split = [((0, heads, each),) if heads > 1 else (), ((0, each, 1),)]
    if mask is not None or is_causal or len(layouts) > 1 or [dims[0], dims[-1]] != split:
        raise call.refuse(
            "attention with a mask, or of another layout than (heads, pixels, channels)"
        )
    build, path = call.build, call.path
    factor = each**-0.5 if scale is None else scale
    scores = build.add("scores", [query.node, key.node], {"heads": heads}, path)
    scores = build.add("affine", [scores], {"factor": factor, "offset": 0.0}, path)
    weights = build.add("softmax", [scores], {"over": "columns"}, path)
    return replace(query, node=build.add("mix", [weights, value.node], {}, path))


# -- parameters ------------------------------------------------------------------------------------


def _parameter(call: CallSite, x: ReadValue, stored: StoredTensor) -> int:
    """Add a parameter that is broadcast to a value, for each channel or for each element."""
    dims, sizes, shape = x.dims, x.shape, call.shape(x)
    given = [1] * (len(dims) - stored.tensor.ndim) + [*stored.tensor.shape]
    fits = len(given) == len(sizes) and len(x.lead) == 1
    if not fits or any(size not in (1, n) for size, n in zip(given, sizes, strict=True)):
        raise call.refuse(f"a parameter of {tuple(stored.tensor.shape)} for a value of {sizes}")
    atoms = [*itertools.chain(*dims[1:])]
    order = sorted(range(len(atoms)), key=lambda place: (atoms[place][0], -atoms[place][2]))
    varied = {
        atom[0] for dim, size in zip(dims[1:], given[1:], strict=True) if size > 1 for atom in dim
    }

    def placed(tensor: Tensor) -> Tensor:
        full = tensor.reshape(given)[:1].expand(1, *sizes[1:]).reshape([n for _, n, _ in atoms])
        full = full.permute(order).reshape(shape)
        return full if len(shape) == 1 or varied - {0} else full[:, :1, :1]

    stored = stored.changed(placed)
    attrs = dict(zip(("channels", "height", "width"), stored.tensor.shape, strict=False))
    id = call.build.add("parameter", [], {"init": 0.0, **attrs}, call.path)
    call.build.weights[id] = {"weight": stored}
    return id


_FACTOR_AND_OFFSET: Mapping[str, Callable[[float], tuple[float, float]]] = {
    "add": lambda c: (1.0, c),
    "sub": lambda c: (1.0, -c),
    "rsub": lambda c: (-1.0, c),
    "mul": lambda c: (c, 0.0),
    "div": lambda c: (1.0 / c, 0.0),
}
"""Factor and offset of x in ``x + c`` and so on, as functions of c."""


def arithmetic(op: str, call: CallSite, a: Any, b: Any, alpha: float = 1, rounding_mode: Any = None) -> ReadValue:  # fmt: skip
    """Read an operation on two values, or on a value and a number or parameter."""
    if alpha != 1 or rounding_mode:
        raise call.refuse(f"`{op}` with a factor or rounding is not supported")
    if isinstance(a, StoredTensor):  # operands of sums and products alone are stored
        a, b = b, a
    match a, b:
        case ReadValue(), int() | float() if op in _FACTOR_AND_OFFSET:
            factor, offset = _FACTOR_AND_OFFSET[op](float(b))
            return call.add("affine", a, {"factor": factor, "offset": offset})
        case ReadValue(), ReadValue() if op != "rsub":
            other, dims = b.node, _broadcast(call, a.dims, b.dims)
        case ReadValue(), StoredTensor():
            other, dims = _parameter(call, a, b), a.dims
            if op == "add" and _merged(call, (a.node, other)):
                return a
        case _:
            kinds = ("a value" if isinstance(x, ReadValue) else type(x).__name__ for x in (a, b))
            raise call.refuse(f"`{op}` of {' and '.join(kinds)} is not supported")
    return ReadValue(call.build.add(op, (a.node, other), {}, call.path), dims)


def _broadcast(call: CallSite, a: Layout, b: Layout) -> Layout:
    """Return the dimensions of an operation on two values, one of which may have no time."""
    pairs = [*itertools.zip_longest(reversed(a), reversed(b), fillvalue=())]
    if any(p != q and () not in (p, q) for p, q in pairs):
        raise call.refuse("its operands have their dimensions in different orders")
    return tuple(p or q for p, q in reversed(pairs))


def _merged(call: CallSite, nodes: Sequence[int]) -> bool:
    """Add a parameter to one that was added just before, if they have the same shape."""
    build = call.build
    x, new = sorted(nodes)
    old = build.nodes[build.nodes[x].inputs[-1]] if build.nodes[x].op == "add" else build.nodes[x]
    if old.op != "parameter" or x != new - 1 or old.value.shape != build.nodes[new].value.shape:
        return False
    a, b = build.weights[old.id]["weight"], build.weights.pop(new)["weight"]
    build.weights[old.id] = {"weight": a.changed(lambda tensor: tensor + b.tensor)}
    del build.nodes[new]
    return True


def concat(call: CallSite, tensors: Sequence[Any], dim: int = 0) -> ReadValue:
    """Read a concatenation of channels, or of a parameter and pixels, as of a class token: pixels of 0
    before the others, to which a parameter for each element is added."""
    token, *others = tensors
    if not isinstance(token, StoredTensor) or len(others) != 1:
        lead = token.lead if isinstance(token, ReadValue) else ()
        if dim % len(call.after) != len(lead) or any(item != call.usual(item) for item in tensors):
            raise call.refuse("only channels can be concatenated")
        if any(item.lead != lead for item in others):
            raise call.refuse("values with and without time steps cannot be concatenated")
        if not others:
            return token  # type: ignore[no-any-return]
        node = call.build.add("concat", [item.node for item in tensors], {}, call.path)
        return call.build.value(node, lead)
    (x,) = others
    channels, *pixels = call.shape(x)
    if dim != 1 or not _are_tokens(call, x):
        raise call.refuse("a parameter is concatenated with pixels [N, pixels, channels] alone")
    count, first = math.prod(pixels), int(token.tensor.shape[1])
    x = call.add("reshape", call.usual(x), {"channels": channels, "rows": count})
    x = call.add("pad", x, {"before": first, "after": 0, "over": "rows"})
    x = replace(x, dims=(*x.lead, ((1, count + first, 1),), ((0, channels, 1),)))
    zeros = token.changed(lambda tensor: F.pad(tensor[:1], (0, 0, 0, count)))
    nodes = [x.node, _parameter(call, x, zeros)]
    return replace(x, node=call.build.add("add", nodes, {}, call.path))


def reduced(
    name: str, call: CallSite, x: ReadValue, dim: Any = None, keepdim: bool = False
) -> ReadValue:
    """Read a mean or a sum over time, or a mean over all pixels."""
    rank, shape = len(x.dims), call.shape(x)
    places = range(rank) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = {place % rank for place in places}
    if axes == {0} and x.lead == call.build.leads[1] and not keepdim:
        return replace(call.add(f"{name}_over_time", x), dims=x.dims[1:])
    over = {axis for place in axes for axis, *_ in x.dims[place]}
    left = [() if place in axes else dim for place, dim in enumerate(x.dims)]
    outside = {axis for dim in left for axis, *_ in dim}
    if name != "mean" or len(shape) != 3 or min(over, default=1) < 1 or max(outside) > 0:
        raise call.refuse(f"a {name} over dimensions {sorted(axes)} of {x.shape}")
    left = [dim for place, dim in enumerate(left) if keepdim or place not in axes]
    return _arranged(call, call.add("global_avgpool", call.usual(x)), tuple(left))


READERS: Mapping[str, Reader] = {
    **{op: partial(arithmetic, op) for op in ("add", "sub", "rsub", "mul", "div", "maximum", "minimum")},
    "cat": concat, "concat": concat, "getitem": lambda call, items, place: items[place],
    "select": select, "slice": slice_, "unbind": unbind, "repeat": _repeat, "expand": _repeat,
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), view),
    "permute": permute, "transpose": transpose, "mean": partial(reduced, "mean"), "sum": partial(reduced, "sum"),
    "alias": same, "contiguous": same, "clone": same, "to": operations.converted,
    "relu": operations.relu, "sigmoid": partial(function, "sigmoid"), "tanh": partial(function, "tanh"),
    **{name.lower(): partial(activation, name) for name in ("ReLU6", "SiLU", "Hardswish", "Hardsigmoid")},
    "gelu": operations.gelu, "hardtanh": operations.hardtanh, "dropout": operations.dropout,
    "batch_norm": operations.batch_norm, "group_norm": operations.group_norm, "layer_norm": layer_norm,
    "conv2d": operations.conv2d, "linear": linear, "upsample_nearest2d": operations.upsample_nearest2d,
    "max_pool2d": operations.max_pool2d, "avg_pool2d": operations.avg_pool2d,
    "adaptive_avg_pool2d": operations.adaptive_avg_pool2d, "avg_pool1d": operations.avg_pool1d,
    "scaled_dot_product_attention": attention,
}  # fmt: skip
"""Readers of operations of ATen by their names."""
LAYERS = {READERS[name] for name in ("batch_norm", "conv2d", "group_norm", "linear", "layer_norm")}
TAKES_PARAMETERS = {*LAYERS, READERS["add"], READERS["mul"]}
"""Readers of operations that read parameters and buffers of the model."""
