"""Rearranged dimensions of images in a traced model: views, permutations, attention, parameters.

A value of a network is a map of channels, rows and columns. Each dimension of the tensor that it is in
the model is a tuple of atoms ``(axis, size, stride)``, which are parts of an axis of the map (0 to 2) or
of the samples (-1). Views split and group atoms, and permutations move them, without an operation in the
network. ``[N, C, H, W]`` is the standard layout; others are ``[N, H * W, C]`` and ``[N, heads, H * W, C / heads]``.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danetc.tasks.importing import operations
from danetc.tasks.importing.operations import CallSite, Layout, Reader, ReadValue, StoredTensor

SAMPLES = -1


def dims_of(call: CallSite, x: ReadValue) -> Layout:
    """Return the dimensions of a value of images."""
    if x.leading != 1 or x.flat:
        raise call.refuse("the dimensions of a value with time steps cannot be rearranged")
    sizes = enumerate(call.shape(x))
    return x.dims or (((SAMPLES, 2, 1),), *(((axis, n, 1),) * (n > 1) for axis, n in sizes))


def _arranged(call: CallSite, x: ReadValue, dims: Layout) -> ReadValue:
    """Return a value with other dimensions; a map as one dimension is flattened."""
    joined = []
    for dim in dims:
        atoms = [*dim[:1]]
        for axis, size, stride in dim[1:]:
            last_axis, last_size, last_stride = atoms[-1]
            follows = (last_axis, last_stride) == (axis, size * stride)
            atoms[-1:] = (
                [(axis, last_size * size, stride)] if follows else [atoms[-1], (axis, size, stride)]
            )
        joined.append(tuple(atoms))
    standard = replace(x, dims=None)
    usual = dims_of(call, standard)
    if tuple(joined) == usual:
        return standard
    if len(joined) == 2 and [*itertools.chain(*joined)] == [*itertools.chain(*usual)]:
        return call.add("flatten", standard)
    return replace(x, dims=tuple(joined))


ImageReader = Callable[..., ReadValue]


def _rearranging(usual: Reader) -> Callable[[ImageReader], ImageReader]:
    """Make a reader that takes images, and leaves values with time steps to the usual one."""

    def decorate(reader: ImageReader) -> ImageReader:
        def read(call: CallSite, x: Any, *args: Any, **kwargs: Any) -> ReadValue:
            images = isinstance(x, ReadValue) and x.leading == 1 and not x.flat
            found: ReadValue = (reader if images else usual)(call, x, *args, **kwargs)
            return found

        return read

    return decorate


@_rearranging(operations.view)
def view(call: CallSite, x: ReadValue, *size: Any, **named: Any) -> ReadValue:
    atoms, dims = [*itertools.chain(*dims_of(call, x))], []
    for size_ in call.after:
        dim, left = [], size_
        while left > 1:
            axis, n, stride = atoms.pop(0)
            common = math.gcd(n, left)
            if common not in (n, left):
                raise call.refuse(f"a change of shape from {call.before} to {call.after}")
            dim.append((axis, common, stride * (n // common)))
            atoms[:0] = [(axis, n // common, stride)] if common < n else []
            left //= common
        dims.append(tuple(dim))
    return _arranged(call, x, tuple(dims))


@_rearranging(operations.flatten)
def flatten(call: CallSite, x: ReadValue, *dims: Any, **named: Any) -> ReadValue:
    return view(call, x)


@_rearranging(lambda call, x, *order: view(call, x))
def permute(call: CallSite, x: ReadValue, *order: Any, dims: Any = ()) -> ReadValue:
    order = tuple(dims) or (tuple(order[0]) if isinstance(order[0], (tuple, list)) else order)
    before = dims_of(call, x)
    return _arranged(call, x, tuple(before[place] for place in order))


def transpose(call: CallSite, x: ReadValue, dim0: int, dim1: int) -> ReadValue:
    order = [*range(len(call.before))]
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(call, x, order)


def pixelwise(call: CallSite, x: ReadValue) -> None:
    """Raise UserError unless the last dimension of a value is that of its channels."""
    channels = call.shape(x)[0]
    if dims_of(call, x)[-1] != (((0, channels, 1),) if channels > 1 else ()):
        raise call.refuse(
            f"it reads {call.before}, whose last dimension is not the channels of a map"
        )


@_rearranging(operations.linear)
def linear(call: CallSite, x: ReadValue, weight: Any, bias: Any = None) -> ReadValue:
    if x.dims is None:
        return operations.linear(call, x, weight, bias)
    pixelwise(call, x)
    return operations.conv1x1(call, x, weight, bias)


def layer_norm(
    call: CallSite, x: ReadValue, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> ReadValue:  # fmt: skip
    if None in (weight, bias) or len(normalized_shape) != 1:
        raise call.refuse("a layer norm over several dimensions, or without weights")
    pixelwise(call, x)
    return call.add("layernorm", x, {"eps": eps}, weight=weight, bias=bias)


def _are_tokens(call: CallSite, x: ReadValue) -> bool:
    """Return True for [N, pixels, channels]."""
    channels, *pixels = call.shape(x)
    each = tuple((axis, n, 1) for axis, n in enumerate(pixels, 1) if n > 1)
    return dims_of(call, x)[1:] == (each, ((0, channels, 1),))


# -- parts of a value ------------------------------------------------------------------------------


def _channels(call: CallSite, x: ReadValue, dim: int) -> list[ReadValue]:
    """Return the parts of a value along a dimension, which splits its channels."""
    dims = dims_of(call, x)
    channels = call.shape(x)[0]
    (axis, count, stride), *more = dims[dim] or ((0, 1, channels),)
    if more or axis != 0 or count * stride != channels:
        raise call.refuse("parts of a value are read along its channels, or are one of its pixels")
    rest = tuple(item for place, item in enumerate(dims) if place != dim % len(dims))
    parts = []
    for first in range(0, channels, stride):
        ends = {"first": first, "last": first + stride - 1}
        parts.append(_arranged(call, call.add("slice", replace(x, dims=None), ends), rest))
    return parts


def part(call: CallSite, x: Any, place: Any) -> Any:
    """Read an item of a tuple, a part of the channels, or one pixel: a class token."""
    if isinstance(x, (tuple, list)):
        return x[place]
    if not isinstance(x, ReadValue) or x.leading != 1 or x.flat:
        return operations.part(call, x, place)
    if isinstance(place, int):
        return _channels(call, x, 0)[place]
    channels, *pixels = call.shape(x)
    match place:
        case [slice(start=None, stop=None), slice(start=None | 0, stop=None, step=None)]:
            return x
        case [slice(start=None, stop=None), int(at)] if _are_tokens(call, x):
            count = math.prod(pixels)
            x = replace(x, dims=None)
            if pixels != [count, 1]:
                x = call.add("reshape", x, {"channels": channels, "rows": count})
            x = call.add("swap", x, {"a": "channels", "b": "rows"})
            ends = {"first": at % count, "last": at % count}
            return operations.vector(call, call.add("slice", x, ends))
    return operations.part(call, x, place)


def unbind(call: CallSite, x: ReadValue, dim: int = 0) -> list[ReadValue]:
    return _channels(call, x, dim)


# -- attention -------------------------------------------------------------------------------------


def _attention(call: CallSite, q: int, k: int, v: int, heads: int, scale: float) -> int:
    build, path = call.build, call.path
    scores = build.add("scores", [q, k], {"heads": heads}, path)
    scores = build.add("affine", [scores], {"factor": scale, "offset": 0.0}, path)
    weights = build.add("softmax", [scores], {"over": "columns"}, path)
    return build.add("mix", [weights, v], {}, path)


def dot_product_attention(
    call: CallSite, query: ReadValue, key: ReadValue, value: ReadValue, attn_mask: Any = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
) -> ReadValue:  # fmt: skip
    layouts = {dims_of(call, item) for item in (query, key, value)}
    each = int(call.before[-1])
    heads = call.shape(query)[0] // each
    _, *dims = dims_of(call, query)
    split = [((0, heads, each),) if heads > 1 else (), ((0, each, 1),)]
    if attn_mask is not None or is_causal or len(layouts) > 1 or [dims[0], dims[-1]] != split:
        raise call.refuse(
            "attention with a mask, or of another layout than (heads, pixels, channels)"
        )
    scale = each**-0.5 if scale is None else scale
    return replace(query, node=_attention(call, query.node, key.node, value.node, heads, scale))


def multihead_attention(
    call: CallSite, x: ReadValue, weight: StoredTensor, bias: Any, out: Any, heads: int, batch_first: bool
) -> tuple[ReadValue, None]:  # fmt: skip
    pixelwise(call, x)
    if not batch_first or not isinstance(weight, StoredTensor):
        raise call.refuse("attention is read with batch_first=True, and of one value to itself")

    def projected(place: int) -> int:
        third = lambda tensor: tensor.chunk(3)[place]  # noqa: E731
        biases = None if bias is None else bias.changed(third)
        return operations.conv1x1(call, x, weight.changed(third), biases).node

    each = call.shape(x)[0] // heads
    q, k, v = map(projected, range(3))
    mixed = _attention(call, q, k, v, heads, each**-0.5)
    named = (
        None if item is None else StoredTensor(item, f"{call.path}.out_proj.{name}")
        for name, item in (("weight", out.weight), ("bias", out.bias))
    )
    return operations.conv1x1(call, replace(x, node=mixed), *named), None


# -- parameters ------------------------------------------------------------------------------------


def _parameter(call: CallSite, x: ReadValue, stored: StoredTensor) -> int:
    """Add a parameter that is broadcast to a value, for each channel or for each element."""
    dims, shape = dims_of(call, x), call.shape(x)
    sizes = [math.prod(size for _, size, _ in dim) for dim in dims]
    given = [1] * (len(dims) - stored.tensor.ndim) + [*stored.tensor.shape]
    fits = len(given) == len(sizes)
    if not fits or any(size not in (1, n) for size, n in zip(given, sizes, strict=True)):
        raise call.refuse(
            f"a parameter of {tuple(stored.tensor.shape)} for a value of {tuple(sizes)}"
        )
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
    node = call.build.add(
        "parameter", [], {"init": 0.0, **attrs}, call.path, {"weight": stored.tensor}
    )
    call.build.places[node] = {"weight": stored.of}
    return node


def arithmetic(op: str, usual: Reader) -> Reader:
    """Read an operation on a value and a parameter; other operands are left to the usual reader."""

    def read(call: CallSite, a: Any, b: Any, **options: Any) -> Any:
        pair = [item for item in (a, b) if isinstance(item, ReadValue)]
        if not any(isinstance(item, StoredTensor) for item in (a, b)) or len(pair) != 1:
            return usual(call, a, b, **options)
        nodes = [
            item.node if isinstance(item, ReadValue) else _parameter(call, pair[0], item)
            for item in (a, b)
        ]
        if op == "add" and _merged(call, nodes):
            return pair[0]
        return replace(pair[0], node=call.build.add(op, nodes, {}, call.path))

    return read


def _merged(call: CallSite, nodes: Sequence[int]) -> bool:
    """Add a parameter to one that was added just before, if they have the same shape."""
    build = call.build
    x, new = sorted(nodes)
    old = build.nodes[build.nodes[x].inputs[-1]] if build.nodes[x].op == "add" else build.nodes[x]
    if old.op != "parameter" or x != new - 1 or old.value.shape != build.nodes[new].value.shape:
        return False
    of, more = build.places[old.id]["weight"], build.places.pop(new)["weight"]
    both = build.weights[old.id]["weight"], build.weights.pop(new)["weight"]
    build.weights[old.id] = {"weight": both[0] + both[1]}
    build.places[old.id] = {"weight": lambda state: of(state) + more(state)}
    del build.nodes[new]
    return True


def concat(call: CallSite, tensors: Sequence[Any], dim: int = 0) -> ReadValue:
    """Read a concatenation of channels, or of a parameter and pixels, as of a class token: pixels of 0
    before the others, to which a parameter for each element is added."""
    token, *others = tensors
    if not isinstance(token, StoredTensor) or len(others) != 1:
        return operations.concat(call, tensors, dim)
    (x,) = others
    channels, *pixels = call.shape(x)
    if dim != 1 or not _are_tokens(call, x):
        raise call.refuse("a parameter is concatenated with pixels [N, pixels, channels] alone")
    count, first = math.prod(pixels), int(token.tensor.shape[1])
    x = call.add("reshape", replace(x, dims=None), {"channels": channels, "rows": count})
    x = call.add("pad", x, {"before": first, "after": 0, "over": "rows"})
    x = replace(x, dims=(((SAMPLES, 2, 1),), ((1, count + first, 1),), ((0, channels, 1),)))
    zeros = token.changed(lambda tensor: F.pad(tensor[:1], (0, 0, 0, count)))
    nodes = [x.node, _parameter(call, x, zeros)]
    return replace(x, node=call.build.add("add", nodes, {}, call.path))


def mean(call: CallSite, x: ReadValue, dim: Any = None, keepdim: bool = False) -> ReadValue:
    """Read a mean over all pixels of tokens, or over what the usual reader reads."""
    if not isinstance(x, ReadValue) or x.dims is None or keepdim:
        return operations.mean(call, x, dim, keepdim)
    axes = {axis % len(x.dims) for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))}
    over = {atom[0] for place in axes for atom in x.dims[place]}
    if axes != {*range(1, len(x.dims) - 1)} or 0 in over or SAMPLES in over:
        raise call.refuse(f"a mean over dimensions {sorted(axes)} of {call.before}")
    pixelwise(call, x)
    return operations.vector(call, call.add("global_avgpool", replace(x, dims=None)))


_ARITHMETIC = {
    key: arithmetic(op, operations.FUNCTIONS[function])
    for op, function, keys in (
        ("add", torch.add, (operator.add, operator.iadd, torch.add, "add", "add_")),
        ("mul", torch.mul, (operator.mul, operator.imul, torch.mul, "mul", "mul_")),
    )
    for key in keys
}
_OWN: Mapping[Any, Reader] = {
    F.linear: linear, F.layer_norm: layer_norm, torch.cat: concat,
    torch.reshape: view, "reshape": view, "view": view, torch.flatten: flatten, "flatten": flatten,
    torch.permute: permute, "permute": permute, torch.transpose: transpose, "transpose": transpose,
    operator.getitem: part, torch.unbind: unbind, "unbind": unbind, torch.mean: mean, "mean": mean,
    F.scaled_dot_product_attention: dot_product_attention, **_ARITHMETIC,
}  # fmt: skip
FUNCTIONS: Mapping[Any, Reader] = {**operations.FUNCTIONS, **_OWN}
METHODS: Mapping[Any, Reader] = {**operations.METHODS, **_OWN}
TAKES_PARAMETERS = {*operations.WEIGHTED, *_ARITHMETIC, F.layer_norm}
"""Functions that read parameters and buffers of the model."""
