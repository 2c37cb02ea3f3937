"""Rows of the table: attention as two matrix products for each head.

Tokens are the pixels of a map in row-major order. The channels of queries, keys and values are split
into heads. Scores are a map with a channel for each head, a row for each query and a column for each
key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops import onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import Emit, Op, OpError, Product, Site, TorchModule, integer, whole
from danetc.dsl import ranges
from danetc.dsl.kinds import PRECISIONS, Kind


def _pixels(shape: Shape) -> int:
    return shape[1] * shape[2]


def _divided(channels: int, heads: int, what: str, of: str) -> int:
    """Return the number of channels of a head."""
    if channels % heads:
        raise OpError(
            f"{what}: {heads} heads do not divide the {channels} channels of the {of}",
            "heads that divide the channels: "
            + ", ".join(str(n) for n in range(1, channels + 1) if channels % n == 0),
        )
    return channels // heads


def _scores(attrs: Attrs, values: Values) -> Shape:
    """Return the shape of the scores: heads x pixels of q x pixels of k."""
    q, k = (shapes.map_of((value,), "scores") for value in values)
    heads = whole(attrs, "heads")
    if q[0] != k[0]:
        raise OpError(
            f"scores: queries {shapes.text(q)} have {q[0]} channels, and keys {shapes.text(k)} {k[0]}",
            "give both the same number of channels: `conv(WIDTH, kernel = 1)`",
        )
    _divided(q[0], heads, "scores", "queries and keys")
    return heads, _pixels(q), _pixels(k)


def _mixed(attrs: Attrs, values: Values) -> Shape:
    """Channels of v x pixels of v, or of ``like``."""
    a, v = (shapes.map_of((value,), "mix") for value in values[:2])
    like = shapes.map_of(values[2:], "mix") if len(values) > 2 else v
    _divided(v[0], a[0], "mix", "values")
    if a[2] != _pixels(v):
        raise OpError(
            f"mix: the scores {shapes.text(a)} have {a[2]} columns, one per key, and the values "
            f"{shapes.text(v)} {_pixels(v)} pixels",
            "keys and values must have the same pixels: `mix(scores(q, k), v)`",
        )
    if a[1] != _pixels(like):
        raise OpError(
            f"mix: the scores {shapes.text(a)} have {a[1]} rows, one per query, and "
            f"{'`like`' if len(values) > 2 else 'the values'} {shapes.text(like)} {_pixels(like)} pixels",
            "the result has the pixels of the queries: write `mix(a, v, like = q)`",
        )
    return v[0], *like[1:]


def _all_at_once(attrs: Attrs, values: Values) -> Shape:
    q, k, v, *like = values
    heads = {"heads": attrs["heads"]}
    scores = Value(_scores(heads, (q, k)), Kind(), q.varies)
    return _mixed(attrs, (scores, v, *like))


# -- kinds ----------------------------------------------------------------------------------------


def product_of(a: Kind, b: Kind, count: int) -> Kind:
    """Return the kind of a matrix product: sums of ``count`` products."""
    if not (a.is_integer and b.is_integer):
        return Kind()
    return Kind.of(ranges.total(ranges.multiply(a.range, b.range), count))


def _terms(attrs: Attrs, values: Values) -> int:
    """Return the number of products in a sum: channels of a head for scores, else keys."""
    a = values[0].shape
    return a[0] // whole(attrs, "heads") if "heads" in attrs else a[2]


def _kind_of_sums(attrs: Attrs, values: Values) -> Kind:
    """Range of a sum of products if both factors are integers, else analog."""
    return product_of(values[0].kind, values[1].kind, _terms(attrs, values))


def _kinds_at_once(attrs: Attrs, values: Values) -> tuple[Kind, Kind, Kind]:
    """Return the kinds of scores, of ``k^T v``, and of the result in either order."""
    q, k, v = values[:3]
    size, keys = q.shape[0] // whole(attrs, "heads"), _pixels(k.shape)
    scores, memory = product_of(q.kind, k.kind, size), product_of(k.kind, v.kind, keys)
    results = product_of(scores, v.kind, keys), product_of(q.kind, memory, size)
    result = reduce(Kind.__or__, results) if all(kind.is_integer for kind in results) else Kind()
    return scores, memory, result


def is_exact(heads: int, q: Value, k: Value, v: Value) -> bool:
    """Return True if ``q (k^T v)`` and ``(q k^T) v`` are bit-identical in float32."""
    return all(kind.is_integer for kind in _kinds_at_once({"heads": heads}, (q, k, v)))


def is_shorter(heads: int, q: Value, k: Value, v: Value) -> bool:
    """Return True if ``q (k^T v)`` needs fewer multiply-accumulates than ``(q k^T) v``."""
    queries, keys = _pixels(q.shape), _pixels(k.shape)
    d, e = q.shape[0], v.shape[0]
    return d * e // heads * (queries + keys) < queries * keys * (d + e)


def _most(attrs: Attrs, values: Values) -> int:
    """Return the largest integer in the computation of either order."""
    kinds = _kinds_at_once(attrs, values)
    half = all(kind.is_exact("float16") for kind in kinds)
    most = max(kind.most for kind in kinds)
    return most if half else max(most, PRECISIONS["float16"].whole + 1)


# -- cost and emission ------------------------------------------------------------------------------


def _products(at: Site) -> tuple[Product, ...]:
    a, b = at.values[:2]
    return (Product(prod(at.value.shape) * _terms(at.attrs, at.values), (a.kind, b.kind)),)


def _products_at_once(at: Site) -> tuple[Product, ...]:
    q, k, v = at.values[:3]
    size = _terms(at.attrs, at.values)
    _, memory, _ = _kinds_at_once(at.attrs, at.values)
    return (
        Product(v.shape[0] * size * _pixels(k.shape), (k.kind, v.kind)),
        Product(prod(at.value.shape) * size, (q.kind, memory)),
    )


def _module(name: str, *, saved: int = 0) -> Emit:
    """Return a module of ``runtime.layers.attention``, which saves the first operands as bits."""

    def emit(at: Site) -> TorchModule:
        args = tuple(at.attrs.values())
        args += (_most(at.attrs, at.values),) if name == "KeysFirst" else ()
        kwargs: dict[str, Attribute] = {}
        for place, kind in enumerate(operand.kind for operand in at.values[:saved]):
            if kind.bits:
                kwargs |= {f"low{place}": kind.low, f"high{place}": kind.high}
                kwargs |= {f"unit{place}": kind.unit}
        return TorchModule(f"danetc.runtime.layers.attention.{name}", args, kwargs, layout="any")

    return emit


def _label(sign: str) -> Callable[[Attrs], tuple[str, str]]:
    return lambda attrs: (sign, f"{attrs['heads']} head{'s' * (attrs['heads'] != 1)}")


_HEADS = integer("heads", "number of attention heads, which split the channels", 1)

ROWS = (
    Op(
        "scores", "attention scores q k^T: dot product of each query and key, per head",
        _scores, _kind_of_sums, _module("Scores"), (_HEADS,),
        fused=_module("Scores", saved=2), arguments=("q", "k"), operands=(2, 2),
        absorbing=0.0, products=_products, label=_label("q kᵀ,"),
        onnx=onnx.scores,
        example="scores(a, b, heads = 2)", source="Vaswani et al., NeurIPS 2017",
    ),
    Op(
        "mix", "attention output a v: sum of the values `v` weighted by their scores in `a`",
        _mixed, _kind_of_sums, _module("Mix"),
        fused=_module("Mix", saved=2), arguments=("a", "v", "like"), operands=(2, 3), size_of=2,
        absorbing=0.0, products=_products, label=lambda attrs: ("a v", ""),
        onnx=onnx.mix,
        example="mix(scores(a, b, heads = 2), b)", source="Vaswani et al., NeurIPS 2017",
    ),
    Op(
        "keys_first", "q (k^T v), equal to mix(scores(q, k), v)", _all_at_once,
        lambda attrs, values: _kinds_at_once(attrs, values)[2], _module("KeysFirst"), (_HEADS,),
        fused=_module("KeysFirst", saved=3), arguments=("q", "k", "v", "like"), operands=(3, 4),
        size_of=3, public=False, absorbing=0.0, products=_products_at_once, label=_label("q (kᵀ v),"),
        onnx=onnx.keys_first,
    ),
)  # fmt: skip
