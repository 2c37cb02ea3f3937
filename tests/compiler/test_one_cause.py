"""One cause gives one error: what follows from a mistake is not reported as another one."""

from __future__ import annotations

import pytest

from danetc.compiler import check_text
from danetc.dsl.diagnostics.diagnostic import SpecError

from .test_suggestions import network, recipe

HEAD = "network tiny(classes = 10) {\n"


def neuron(*lines: str, parameters: str = "k = 2.0") -> str:
    body = "\n  ".join(lines)
    return (
        f"neuron N({parameters}) {{\n  state u = 0.0\n  {body}\n"
        "  s = heaviside(v - 1.0)\n  u = v * (1 - s)\n}\n"
    )


TEXTS = {
    "the input as a state, then set": (neuron("state x = 0.0", "x = u + 1", "v = x"), "E0704"),
    "a parameter set twice": (neuron("v = u + x", "k = 3", "k = 4"), "E0703"),
    "a function set twice": (neuron("exp = 3", "v = u + x", "exp = 4"), "E0703"),
    "a function as a parameter, then set": (
        neuron("v = u + x", "exp = 3", parameters="exp = 2.0"),
        "E0703",
    ),
    "what a connection knows, defined and not used": (
        "connection c {\n  i = 2\n  out = branch\n}\n",
        "E0212",
    ),
    "an unknown name in two equations": (neuron("v = u + x / w", "r = v / w"), "E0701"),
    "a misspelt parameter of a neuron, and its use": (
        neuron("v = u + x / tau", parameters="tua = 2.0") + network(neuron="N(tau = 3.0)"),
        "E0701",
    ),
    "a misspelt parameter of a block, and its use": (
        "use std\nblock b(wdith) = conv(width) -> conv(width)\n"
        + network(stages="stage(b(width = 8), 1) via origin").removeprefix("use std\n"),
        "E0210",
    ),
    "a parameter that is gone, and its use": (
        "use std\nblock b() = conv(width) -> conv(width)\n"
        + network(stages="stage(b(8), 1) via origin").removeprefix("use std\n"),
        "E0210",
    ),
    "a state without a value": (
        "neuron N {\n  state d =\n  state u = 0.0\n  d = d + x\n  u = d\n  s = heaviside(u)\n}",
        "E0119",
    ),
    "a ternary in an equation": (neuron("v = u + x", "r = v > 1.0 ? 1.0 : 0.0"), "E0118"),
    "a ternary in an argument": (network(stem="conv(classes > 5 ? 8 : 16) -> norm"), "E0118"),
    "a misspelt definition of a connection": (
        "connection c { each = conv; agte = branch -> sigmoid; out = gate * shortcut }",
        "E0210",
    ),
    "a definition that is gone": (
        "connection c { each = conv; gate = branch -> sigmoid; out = weighed + shortcut }",
        "E0210",
    ),
    "an unknown name three times": ("block b = conv(8) -> foo -> foo -> foo", "E0210"),
    "a name defined three times": (
        "block b { a = in -> conv(8); a = a -> norm; a = a -> spike; out = a }",
        "E0212",
    ),
    "a name defined twice in a block that is used": (
        network(stages="stage(b, 1)")
        + "block b { m = in -> conv(8); a = in -> conv(8); a = a + m; out = a }",
        "E0212",
    ),
    "a body behind a colon on the same line": (
        "block g(width = 8, stride = 1): out = in -> conv(width, stride = stride)\n"
        "block h(width): out = in -> g(width)\n  -> spike\n",
        "E0118 E0118",
    ),
    "a setting that there is not, of an unknown name": (network(recipe="digts"), "E0308"),
    "an unused line of an unknown name": (
        network(stages="stage(b, 1)") + "block b { m = foo; out = in -> conv(8) }",
        "E0210",
    ),
    "a misspelt stem": (network().replace("stem", "setm"), "E0308"),
    "a misspelt input": (network().replace("input", "inptu"), "E0308"),
    "a misspelt neuron": (network().replace("neuron", "neurn"), "E0308"),
    "misspelt epochs": (recipe(warmup="5").replace("epochs", "epohcs"), "E0801"),
    "misspelt epochs below a schedule": (
        "use std\nrecipe a { epochs = 50; optimizer = sgd(lr = 0.1) }\n"
        "recipe b = a { epohcs = 120; schedule = step(60, factor = 0.1) }",
        "E0801",
    ),
    "a learning rate outside of the optimizer": ("recipe r { epochs = 5; lr = 0.1 }", "E0801"),
    "a misspelt phase": (
        "recipe r {\n  optimizer = sgd(lr = 0.1)\n  phas a { epochs = 1 }\n"
        "  phase b { epochs = 1; start = a }\n}",
        "E0801",
    ),
    "a phase without a name": (
        "recipe r {\n  optimizer = sgd(lr = 0.1)\n  phase { epochs = 1 }\n"
        "  phase b { epochs = 1; start = a }\n}",
        "E0805",
    ),
    "no name after use": ("use\n" + network().removeprefix("use std\n"), "E0119"),
    "a brace too many": (network(stem="conv(8) -> } norm -> spike"), "E0104"),
    "a brace too many in a call": (network(stem="conv({ 8) -> norm -> spike"), "E0104"),
    "a parenthesis too few": (network(stem="conv8, kernel = 3) -> norm"), "E0104"),
    "a parenthesis too many": (network(stem="conv(8), kernel = 3) -> norm"), "E0104"),
    "a sum in a parenthesis that is not closed": (network(stem="(in + in -> conv(8)"), "E0103"),
    "a foreign sign before a step": (network(stem="conv(8) -> ! norm"), "E0118"),
    "a quote too many": ('use " "lib/x.danet"', "E0106"),
    "an equals sign that is gone": (network().replace("neuron = IF", "neuron IF"), "E0111"),
    "the head of a network twice": (
        network().replace(HEAD, HEAD + HEAD),
        "E0102",
    ),
}


@pytest.mark.parametrize("what", TEXTS)
def test_one_cause_gives_one_error(what: str) -> None:
    text, code = TEXTS[what]
    with pytest.raises(SpecError) as caught:
        check_text(text)
    assert " ".join(item.code for item in caught.value.diagnostics) == code, str(caught.value)
