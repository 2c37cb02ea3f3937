"""Small networks with a connection and a rule of their own, drawn by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile

TEXT = """use std
connection wired {{ each = {each}; projection = {projection}; out = {out} }}
rule fed {{ in[i] = {join}(out[{low} .. i - 1]); result = {result} }}
block cell(w, stride = 1) = {block}
network made {{
  input = image(2, 8, 8); steps = {steps}; neuron = {neuron}; surrogate = {surrogate}; norm = {norm}
  stem = conv({width}) -> spike
  stages = {stages}
  head = avgpool -> {mean}linear(3)
}}"""


@st.composite
def programs(draw: st.DrawFn) -> s.Program:
    def one(*choices: str) -> str:
        return draw(st.sampled_from(choices))

    def layers(*choices: str) -> list[str]:
        return draw(st.lists(st.sampled_from(choices), max_size=2))

    def stage() -> str:
        made = f"cell({one('2', '3', '4')}), {one('1', '2', '3')}, stride = {one('1', '2')}"
        return f"(stage({made}) via wired by fed)"

    join = one("branch + shortcut", "branch * shortcut", "(1 - branch) * shortcut", "branch")
    further = f"conv(w, kernel = {one('1', '3')})"
    text = TEXT.format(
        each=" -> ".join([*layers("norm", "spike"), "conv", *layers("norm", "spike")]),
        projection=one("conv", "conv -> norm"),
        out=" -> ".join([f"({join})", *layers("norm", "spike")]),
        join=one("sum", "max", "concat"),
        low=one("0", "i - 1", *(f"max(0, i - {k})" for k in (1, 2, 3))),
        result=one("out[n - 1]", "sum(out[0 .. n - 1])"),
        block=" -> ".join(
            ["conv(w, kernel = 3, stride = stride)", *[further] * draw(st.booleans())]
        ),
        steps=one("1", "2", "3"),
        neuron=one("IF", "LIF", "PLIF", "IF_soft", "ALIF", "ReLU"),
        surrogate=one("sigmoid", "atan", "triangle"),
        norm=one("batchnorm", "tdbn", "tebn"),
        width=one("2", "3", "4"),
        stages=" -> ".join(stage() for _ in range(draw(st.integers(1, 2)))),
        mean=one("", "mean_over_time -> "),
    )
    return parse(SourceFile("drawn", text), Reporter())
