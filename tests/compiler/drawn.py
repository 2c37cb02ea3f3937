"""Small networks with a connection and a rule of their own, drawn by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from danetc.dsl.syntax import tree as s


def _call(function: str, *args: s.Expr, **named: s.Expr) -> s.Call:
    given = [s.Arg(None, arg) for arg in args] + [s.Arg(k, v) for k, v in named.items()]
    return s.Call(s.Name(function), tuple(given))


def _int(value: int) -> s.Number:
    return s.Number(str(value))


def _flow(*steps: s.Expr) -> s.Expr:
    return steps[0] if len(steps) == 1 else s.Flow(steps)


WIDTHS = st.sampled_from([2, 3, 4])


@st.composite
def connections(draw: st.DrawFn) -> s.Declaration:
    """A connection with the block's layer somewhere among norms and neurons."""
    before = draw(st.lists(st.sampled_from(["norm", "spike"]), max_size=2))
    after = draw(st.lists(st.sampled_from(["norm", "spike"]), max_size=2))
    each = _flow(*map(s.Name, [*before, "conv", *after]))
    projection = _flow(*map(s.Name, ["conv", *draw(st.lists(st.just("norm"), max_size=1))]))
    branch, shortcut = s.Name("branch"), s.Name("shortcut")
    join: s.Expr = draw(
        st.sampled_from(
            [
                s.Binary("+", branch, shortcut),
                s.Binary("*", branch, shortcut),
                s.Binary("*", s.Binary("-", _int(1), branch), shortcut),
                branch,
            ]
        )
    )
    inter = draw(st.lists(st.sampled_from(["norm", "spike"]), max_size=2))
    out = _flow(join, *map(s.Name, inter))
    body = [s.Define("each", None, each), s.Define("projection", None, projection)]
    return s.Declaration("connection", "wired", (), None, (*body, s.Define("out", None, out)))


@st.composite
def rules(draw: st.DrawFn) -> s.Declaration:
    """A rule with a window or all of what came before, added or put side by side."""
    i, n = s.Name("i"), s.Name("n")
    last = s.Binary("-", i, _int(1))
    k = draw(st.integers(1, 3))
    low = draw(st.sampled_from([_int(0), last, _call("max", _int(0), s.Binary("-", i, _int(k)))]))
    join = draw(st.sampled_from(["sum", "max", "concat"]))
    feed = _call(join, s.At(s.Name("out"), (s.Range(low, last),)))
    result = draw(
        st.sampled_from(
            [
                s.At(s.Name("out"), (s.Binary("-", n, _int(1)),)),
                _call("sum", s.At(s.Name("out"), (s.Range(_int(0), s.Binary("-", n, _int(1))),))),
            ]
        )
    )
    index = s.Define("in", i, feed)
    return s.Declaration("rule", "fed", (), None, (index, s.Define("result", None, result)))


@st.composite
def programs(draw: st.DrawFn) -> s.Program:
    """A small network with a connection and a rule of its own."""
    convs = [_call("conv", s.Name("w"), kernel=_int(draw(st.sampled_from([1, 3]))))]
    first = _call("conv", s.Name("w"), kernel=_int(3), stride=s.Name("stride"))
    params = (s.Param("w", None), s.Param("stride", _int(1)))
    block = s.Declaration(
        "block", "cell", params, _flow(first, *convs * draw(st.integers(0, 1))), None
    )
    stages: list[s.Expr] = []
    for _ in range(draw(st.integers(1, 2))):
        cell = _call("cell", _int(draw(WIDTHS)))
        stride = _int(draw(st.sampled_from([1, 2])))
        stage = _call("stage", cell, _int(draw(st.integers(1, 3))), stride=stride)
        stages.append(s.By(s.Via(stage, s.Name("wired")), s.Name("fed")))
    neuron = draw(st.sampled_from(["IF", "LIF", "PLIF", "IF_soft", "ALIF", "ReLU"]))
    head = [s.Name("avgpool"), *draw(st.sampled_from([[], [s.Name("mean_over_time")]]))]
    body = [
        s.Define("input", None, _call("image", _int(2), _int(8), _int(8))),
        s.Define("steps", None, _int(draw(st.integers(1, 3)))),
        s.Define("neuron", None, s.Name(neuron)),
        s.Define("surrogate", None, s.Name(draw(st.sampled_from(["sigmoid", "atan", "triangle"])))),
        s.Define("norm", None, s.Name(draw(st.sampled_from(["batchnorm", "tdbn", "tebn"])))),
        s.Define("stem", None, _flow(_call("conv", _int(draw(WIDTHS))), s.Name("spike"))),
        s.Define("stages", None, _flow(*stages)),
        s.Define("head", None, _flow(*head, _call("linear", _int(3)))),
    ]
    network = s.Declaration("network", "made", (), None, tuple(body))
    use = s.Use("std", False, None)
    return s.Program((use, draw(connections()), draw(rules()), block, network))
