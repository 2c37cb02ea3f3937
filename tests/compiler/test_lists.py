"""`for` in lists of values, and stages of flows, give the same graph as a network written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danetc.compiler import check_text
from danetc.dsl.syntax.printer import format_source
from tests.dsl.test_parser import read
from tests.generating import examples

SPEC = """use std

block f(width, kernel = 3) {{ out = in -> conv(width, kernel = kernel) -> norm -> spike }}
block g {{ out = in -> f(8) -> conv(8) -> norm }}
block k = conv(4) -> conv(8)

network net(n = {n}) {{
  input = image(3, 16, 16)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  a = in -> f(8)
  t = conv(8) -> norm
  u = shared(conv(8) -> norm)
  {line}
  out = concat(o, a -> t, a -> u) -> avgpool -> mean_over_time -> linear(4)
}}
"""


def nodes(text: str) -> list[object]:
    """The contents of a network without its positions in the text."""
    (graph,) = check_text(text).graphs.values()
    stages = [(stage.blocks, stage.entry, stage.result) for stage in graph.stages]
    found = [(n.op, n.inputs, n.attrs, n.value, n.path) for n in graph.nodes.values()]
    return [found, graph.outputs, graph.carries, graph.shares, stages]


def check(written: str, by_hand: str, n: int = 3) -> None:
    one, two = (SPEC.format(line=f"o = {it}", n=n) for it in (written, by_hand))
    assert nodes(one) == nodes(two)
    formatted = format_source(read(one))
    assert nodes(formatted) == nodes(one)
    assert format_source(read(formatted)) == formatted


BY_HAND = [
    ("sum(a, a -> f(8), a)", "a + (a -> f(8)) + a"),
    ("mean(j * a for j in 1 .. n + 1)", "(1 * a + 2 * a + 3 * a + 4 * a) * (1 / 4)"),
    ("max(a -> f(8) for j in 0 .. 0)", "a -> f(8)"),
    ("concat(a, a for j in 1 .. 0)", "a"),
    ("concat(a -> t -> spike for j in 1 .. 2)", "concat(a -> t -> spike, a -> t -> spike)"),
    ("sum((j * a) -> u for j in 1 .. 2)", "((1 * a) -> u) + ((2 * a) -> u)"),
    (
        "max(a, o -> conv(8) -> delay(1) -> spike for j in 1 .. 2)",
        "max(a, o -> conv(8) -> delay(1) -> spike, o -> conv(8) -> delay(1) -> spike)",
    ),
    ("a -> conv(sum(j for j in 1 .. n) + max(j for j in 1 .. n))", "a -> conv(9)"),
    ("a -> stage(f(8) -> conv(8) -> norm, n)", "a -> stage(g, n)"),
    ("a -> (stage(conv(4) -> conv(8), n) via sew)", "a -> (stage(k, n) via sew)"),
    (
        "a -> (stage(f(8) -> conv(8) -> norm, n) with (neuron = LIF, norm = groupnorm(2)))",
        "a -> (stage(g, n) with (neuron = LIF, norm = groupnorm(2)))",
    ),
    (
        "sum(a -> stage(f(8 * j) -> conv(8) -> norm, j) for j in 1 .. 2)",
        "(a -> stage(g, 1)) + (a -> stage(f(16) -> conv(8) -> norm, 2))",
    ),
]


@pytest.mark.parametrize(("written", "by_hand"), BY_HAND)
def test_a_list_is_what_it_is_by_hand(written: str, by_hand: str) -> None:
    check(written, by_hand)


LISTS = st.recursive(
    st.sampled_from(
        (
            "a",
            "(a -> f(8, kernel = 2 * V - 1))",
            "((V * a) -> t)",
            "(a[V - 1 .. V] -> conv(8))",
            "(learn(0.5, per = channel) * a)",
            "(a -> delay(V) -> u)",
            "(exp(learn(V)) * a)",
        )
    ),
    lambda inner: st.tuples(
        st.sampled_from(("sum", "mean", "max", "min")),
        inner,
        st.sampled_from(("1 .. n", "n .. 3", "1 .. min(V, 2)", "V .. n - 1")),
        st.sampled_from(("", " if V < n or V == 1", " if n == 2 or W != V")),
    ),
    max_leaves=3,
)


def text_of(item: object, names: tuple[str, ...] = ("1",)) -> str:
    """The text of a list. V is the variable of the innermost `for`, and W of the `for` around it."""
    if isinstance(item, str):
        return item.replace("V", names[-1])
    function, value, ends, condition = item  # type: ignore[misc]
    name = "ijkl"[len(names) - 1]
    condition = condition.replace("V", name).replace("W", names[-1])
    ends = ends.replace("V", names[-1])
    return f"{function}({text_of(value, (*names, name))} for {name} in {ends}{condition})"


def by_hand(item: object, n: int, v: int = 1) -> str:
    if isinstance(item, str):
        return item.replace("V", str(v))
    function, value, ends, condition = item  # type: ignore[misc]
    low, high = (eval(end, {"n": n, "V": v, "min": min}) for end in ends.split(" .. "))
    condition = condition.removeprefix(" if ") or "True"
    numbers = [j for j in range(low, high + 1) if eval(condition, {"n": n, "V": j, "W": v})]
    parts = [by_hand(value, n, j) for j in numbers]
    if not parts:
        raise LookupError("the list has no values")
    if function in ("max", "min"):
        return f"{function}({', '.join(parts)})" if len(parts) > 1 else parts[0]
    total = f"({' + '.join(parts)})"
    return f"({total} * (1 / {len(parts)}))" if function == "mean" and len(parts) > 1 else total


@examples(40)
@given(LISTS, st.integers(1, 3))
def test_any_list_is_what_it_is_by_hand(item: object, n: int) -> None:
    try:
        expected = by_hand(item, n)
    except LookupError:
        with pytest.raises(Exception, match="gives no value"):
            check(text_of(item), "a", n)
        return
    check(text_of(item), expected, n)
