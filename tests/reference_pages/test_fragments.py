"""Every fragment of the language that a page names within a sentence is one that danetc accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from danetc.compiler import check_text
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from editors.highlighting import words

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALLED = {*(name for name, row in OPS.items() if row.public), "spike", "stage", "learn", "shared"}
OF_OTHERS = {
    "y = (x - mean) / sqrt(variance + eps) * weight + bias": "an equation",
    "r = 0.9 r + 0.1 b": "an equation",
    "x = f(x); y = x + g(x)": "Python",
    "model(a, b)": "Python",
    "= a(width = 2 * width)": "the base of a variant",
    "->": "a sign",
    "/ sqrt(...)": "a part of an expression",
    "exp(log(v) / 3)": "what has no other form",
    "block basic(width, stride = 1) = ...": "a declaration without its body",
    'torch.backends.mkldnn.conv.fp32_precision = "bf16"': "Python",
}
"""Fragments that are none of the language, or no whole ones."""
TRIED_AS = {
    "stage(BLOCK, N)": "stage(basic(4), 2) via origin",
    "stage(basic(width), 2)": "stage(basic(4), 2) via origin",
    "x = in -> f": "new = in -> f",
    "learn(a)": "learn(0.5)",
    "h -> conv(64) -> delay(1)": "new = a + (new -> conv(4) -> delay(1))",
    "f = shared(conv(8) -> norm)": "new = shared(conv(8) -> norm)",
    "network b = a(...) { lines }": "network b = a { steps = 1 }",
    "in[0] = ...": "in[0] = in",
    "mean(a, b, ...)": "mean(in[0], in[i - 1])",
    "shuffle(g)": "shuffle(2)",
    "groupnorm(g)": "groupnorm(2)",
    "swap(a, b)": "swap(rows, columns)",
    "mix(a, v)": "mix(scores(q, k), v)",
    "membrane(target = ...)": "membrane(target = 0.5)",
}
"""Fragments whose names stand for what depends on their place, with such names."""

NETWORK = """use std
neuron gated(gate) {{ s = heaviside(x * gate - 1) }}
neuron NEURON {{ s = heaviside(x - 1) }}
neuron imported_neuron(key = 1) {{ s = heaviside(x - key) }}
surrogate NAME = atan
block fired(neuron) {{ out = in -> neuron }}
block other(key = 1) = conv(2)
network net {{ input = image(2, 8, 8); steps = 8; neuron = LIF; surrogate = atan
  a = in -> conv(4, bias = true); b = in -> conv(4); q = in -> conv(4); k = a; v = a; x = a; first = a
  {line}
  f = conv(4); g = conv(4); stem = conv(4) }}
"""
NUMBERS = {
    "n": "2", "c": "4", "h": "16", "w": "4", "p": "0.5", "tau": "2.0", "alpha": "0.5", "groups": "2",
    "momentum": "0.1", "before": "1", "after": "1", "s": "1", "width": "4", "classes": "4", "D": "4",
    "N": "2", "B": "basic(4)", "BLOCK": "basic(4)",
}  # fmt: skip
"""What pages call the arguments of layers."""


def _network(line: str) -> str:
    def value(found: re.Match[str]) -> str:
        return NUMBERS.get(found[0], found[0])

    return NETWORK.format(line=re.sub(r"(?<![\w.])\w+(?!\w| =|\()", value, line))


CONTEXTS = [
    lambda text: _network(f"out = in -> conv(4) -> {text}"),
    lambda text: _network(f"out = {text}"),
    lambda text: _network(f"out = a * {text}"),
    lambda text: _network(f"out = a -> softmax(over = columns) -> {text} -> mean_over_time"),
    lambda text: _network(f"out = in -> conv(8) -> mean_over_time -> {text}"),
    lambda text: _network(f"{text}; out = in"),
    lambda text: f"{text.replace('{ lines }', '{ steps = 1 }')}\n" + _network("out = in").replace("net {", "a {"),
    lambda text: f"use std\nrule r {{ {text}; result = out[n - 1] }}",
    lambda text: f"use std\nrule r {{ in[i] = in[0]; {text}; result = out[n - 1] }}",
    lambda text: f"use std\nrule r {{ in[i] = {text}; result = out[n - 1] }}",
    lambda text: f"use std\nrule r {{ in[i] = sum({text} for j in 0 .. i - 1); result = out[n - 1] }}",
    lambda text: f"use std\nrule r {{ in[i] = out[i - 1]; result = {text.replace('2', 'n - 1')} }}",
    lambda text: f"use std\nneuron n {{ e = x; n = 2; a = 1; b = 2; c = 3; s = {text} }}",
    lambda text: f"use std\nneuron n(c = 3) {{ s = {text} }}",
    lambda text: f"use std\nneuron n {{ {text}; s = x * amplitude }}",
    lambda text: f"use std\nrecipe r {{ epochs = 2; optimizer = adamw(lr = 0.01); {text} }}",
    lambda text: f"use std\nrecipe r {{ epochs = 2; optimizer = adamw(lr = 0.01); loss = cross_entropy + {text} }}",
    lambda text: f"use std\nrecipe r {{ epochs = 2; optimizer = adamw(lr = 0.01); gradient = {text.replace('k', '2')} }}",
    lambda text: f"use std\nrecipe r {{ epochs = 2; optimizer = adamw(lr = 0.01); augment = {text} }}",
    lambda text: f"use std\nrecipe r {{ epochs = 2; optimizer = adamw(lr = 0.01); evaluate = {text} }}",
]  # fmt: skip


def fragments() -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for part in re.findall(r"`([^`\n]+)`", text):
            head = re.match(r"(\w+)\(", part)
            claims = " -> " in part or " = " in part or (head is not None and head[1] in CALLED)
            if claims and part not in OF_OTHERS and not part.startswith(("danetc ", "--")):
                found[page.relative_to(ROOT).as_posix(), part] = None
    return [*found]


def is_setting(text: str) -> bool:
    """True of ``name = value, ...``, each the name of an argument or of a setting."""
    reporter = Reporter()
    parse(SourceFile("a.danet", f"block b {{ out = f({text}) }}"), reporter)
    names = {item.name for row in OPS.values() for item in row.parameters}
    names |= {"bound", "decay", "output", "trace"}  # of inputs and of the items of recipes
    names |= {word for group in words().values() for word in group}
    named = re.findall(r"(?:^|, )(\w+) = ", text)
    return not reporter.diagnostics and bool(named) and {*named} <= names


def is_accepted(text: str) -> bool:
    return is_setting(text) or not all(_errors(form(text), text) for form in CONTEXTS)


def _errors(text: str, fragment: str) -> list[str]:
    """The codes of its errors; a line that is a flow or a call may be one that nothing uses."""
    try:
        check_text(text)
    except SpecError as error:
        unused = "E0308" if re.search("[({>]", fragment) else ""
        return [item.code for item in error.diagnostics if item.code != unused]
    return []


@pytest.mark.parametrize(("page", "text"), fragments())
def test_a_fragment_is_accepted(page: str, text: str) -> None:
    written = re.sub(r"(image|events)\(\.\.\.\)", r"\1(2, 8, 8)", TRIED_AS.get(text, text))
    assert is_accepted(written.replace(", ...", "").replace("...", "1")), page


def test_a_wrong_one_is_not() -> None:
    for text in ("spike(LIF)", "conv(8, knernel = 3)", "in -> con(8)", "knernel = 3"):
        assert not is_accepted(text)
