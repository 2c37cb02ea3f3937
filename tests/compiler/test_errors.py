"""Bad specs: one clear error each, at the place to correct.

An error in the standard library is reported where the library is used.
"""

import time

import pytest

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.loading import is_library
from tests.compiler.error_cases import CASES, FLOW, NET, STAGES, Case, assert_says, errors, unmarked
from tests.compiler.test_suggestions import network, recipe
from tests.tables import each_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.said)
def test_one_clear_error_at_its_place(case: Case) -> None:
    text, start, end = unmarked(case.text)
    begin = time.process_time()
    found = errors(text)
    assert time.process_time() - begin < 5, "at once"
    (error,) = found
    assert not is_library(error.span.source), "it stands in the user's own text"
    assert (error.span.start, error.span.end) == (start, end), str(SpecError(found))
    assert_says(error, case.said)


def labels(text: str) -> list[tuple[str, str]]:
    """The marked text and the message of each label of the first error."""
    return [(label.span.text, label.text) for label in errors(text)[0].labels]


def test_labels_in_std() -> None:
    """An error in the standard library is reported at its use, and an error of two texts shows both."""
    (error,) = errors(NET.replace(STAGES, "resnet18(width = 0)"))
    assert (error.span.text, error.label) == ("0", "`width` is 0")
    (label,) = error.labels
    assert is_library(label.span.source)
    assert label.text == "the error occurs here"
    (error,) = errors(network(stages="stage(mine, 2) via origin") + "block mine { out = in }")
    each, block_name = error.labels
    assert is_library(each.span.source)
    assert (each.span.text, block_name.span.text) == ("each", "mine")


def test_a_value_is_followed_to_where_it_was_written() -> None:
    text = NET.replace("classes = 10", "classes = wide, wide = 4").replace("classes = wide, ", "")
    text = text.replace("wide = 4", "wide = 0, classes = wide")
    assert labels(text) == [("wide", "`classes` is 0"), ("0", "`wide` is 0")]
    assert labels(NET + "network m = n(0)\n") == [("0", "`classes` is 0")]
    assert labels(NET.replace("conv(16)", "conv(w)").replace("steps = 2", "w = 2 - 2")) == [
        ("2 - 2", "`w` is 0")
    ]


def test_circles_and_doubles_show_both_places() -> None:
    text = NET.replace("stem = conv(16)", "one = two -> norm\n  two = one\n  stem = one")
    assert {name for name, _ in labels(text)} == {"one", "two"}
    assert labels(NET.replace("steps = 2", "steps = 2; steps = 3")) == [
        ("steps", "first defined here")
    ]


UNUSED = """use std
block b = conv(kernal = 3)
connection c { each = conv -> nrom; out = branhc }
neuron q { s = heavyside(x) }
rule r { in[i] = out[i]; result = out[n-1] }
backbone z = stage(basci(3), 2)
block e { a = in }
surrogate t(alpha = 0.0) { y = 1 / alpha }
"""
MISSPELT = network(
    neuron="LIF(tua = 3, vth = 3)",
    stem='conv(8, kernel = 0, strid = 2, padd = 2) -> nrom -> dropout(p = 3) -> pad(-1, size = "x")',
    stages="stage(bsic(8), 2) via orign by chan -> stage(basic(foo), 2) via sew(3)",
)
VARIANTS = "network m = n { neuron = LIF }\nnetwork k = m { steps = 3 }\n"


def neuron(*lines: str, parameters: str = "k = 2.0") -> str:
    body = "\n  ".join(lines)
    return (
        f"neuron N({parameters}) {{\n  state u = 0.0\n  {body}\n"
        "  s = heaviside(v - 1.0)\n  u = v * (1 - s)\n}\n"
    )


# A text, and the codes and places of all its errors: one for each cause.
FOUND = [
    (
        NET.replace("= IF", "= FI")
        .replace("stride", "strid")
        .replace("linear", "liner")
        .replace("steps", "setps"),
        "E0308 setps, E0210 FI, E0301 strid = 2, E0210 liner",
    ),
    (
        UNUSED,
        "E0301 kernal = 3, E0210 nrom, E0210 branhc, E0707 heavyside, E0603 i, E0210 basci, "
        "E0408 e, E0710 1 / alpha",
    ),
    (
        MISSPELT,
        "E0301 tua = 3, E0301 vth = 3, E0301 strid = 2, E0301 padd = 2, E0210 nrom, E0305 3, "
        'E0301 size = "x", E0210 bsic, E0210 orign, E0210 chan, E0210 foo, E0303 3',
    ),
    (network(stem='conv(8, kernel = 0, stride = 0, padding = "x")'), 'E0305 0, E0305 0, E0304 "x"'),
    # an unknown name does not hide an error in a call
    (
        "block b(w, k = 3) = conv(w, kernel = k) -> nrom\n"
        + network(stages="stage(b(4), 1) -> stage(b(4, w = 8), 1)"),
        "E0210 nrom, E0302 w = 8",
    ),
    (NET.replace("linear(", "liner(") + VARIANTS, "E0210 liner"),
    (FLOW.replace("OUT", "out = fo(a) + b"), "E0210 fo"),
    # a variant may leave definitions of its base unused
    (
        NET.replace("stem =", "start = conv(16)\n  stem = start ->")
        + "network m = n { stem = conv(16) }\n",
        "",
    ),
    # a misspelt setting is not also reported as missing
    *(
        (NET.replace(f"  {name} =", f"  {name}x ="), f"E0308 {name}x")
        for name in ("input", "neuron", "surrogate")
    ),
    # a syntax error does not hide other errors
    (NET.replace("steps = 2", "steps = = 2"), "E0119 = ="),
    (
        NET.replace("steps = 2", "steps = = 2") + "block b = conv(3) -> covn(4)\n",
        "E0119 = =, E0210 covn",
    ),
    ("connection c {\n  i = 2\n  out = branch\n}\n", "E0212 i"),
    (neuron("v = u + x / w", "r = v / w"), "E0701 w"),
    (
        neuron("v = u + x / tau", parameters="tua = 2.0") + network(neuron="N(tau = 3.0)"),
        "E0701 tau",
    ),
    (
        "use std\nblock b(wdith) = conv(width) -> conv(width)\n"
        + network(stages="stage(b(width = 8), 1) via origin").removeprefix("use std\n"),
        "E0210 width",
    ),
    (
        "neuron N {\n  state d =\n  state u = 0.0\n  d = d + x\n  u = d\n  s = heaviside(u)\n}",
        "E0119 =",
    ),
    (neuron("v = u + x", "r = v > 1.0 ? 1.0 : 0.0"), "E0118 ? 1.0 :"),
    ("connection c { each = conv; agte = branch -> sigmoid; out = gate * shortcut }", "E0210 gate"),
    ("block b = conv(8) -> foo -> foo -> foo", "E0210 foo"),
    (
        network(stages="stage(b, 1)")
        + "block b { m = in -> conv(8); a = in -> conv(8); a = a + m; out = a }",
        "E0212 a",
    ),
    (network(recipe="digts"), "E0308 recipe"),
    (network(stages="stage(b, 1)") + "block b { m = foo; out = in -> conv(8) }", "E0210 foo"),
    (recipe(warmup="5").replace("epochs", "epohcs"), "E0801 epohcs"),
    ("use\n" + network().removeprefix("use std\n"), "E0119 use"),
    (network(stem="conv(8) -> } norm -> spike"), "E0104 }"),
    (network(stem="conv8, kernel = 3) -> norm"), "E0116 ,"),
    (network(stem="(in + in -> conv(8)"), "E0103 ("),
    (network().replace("neuron = IF", "neuron IF"), "E0111 neuron"),
]


@each_of(FOUND)
def test_each_cause_gives_one_error(text: str, expected: str) -> None:
    assert ", ".join(f"{error.code} {error.span.text}" for error in errors(text)) == expected


def test_a_missing_equals_sign_makes_no_error_elsewhere() -> None:
    for line in NET.splitlines()[3:-1]:
        broken = NET.replace(line, line.replace("=", "", 1))
        assert all(error.code.startswith("E01") for error in errors(broken)), line


def test_how_many_arguments_need_no_name_is_told() -> None:
    messages = {
        "linear(1, 2, 3, 4)": "`linear` takes at most 3 arguments without a name",
        "dropout(0.1, 1, 2)": "`dropout` takes at most 2 arguments",
    }
    for call, message in messages.items():
        assert [(e.code, e.message) for e in errors(network(stem=call))] == [("E0303", message)]


ODD = [
    "", "use std", "\0\1\2" * 100, "network", "network n", "{" * 500, "}" * 500, "\ud800",
    "network __import__ { input = __import__ }", "rule r { in[i] = in }", "rule r { in[in] = 3 }",
    "block b { out = b }", "connection c { out = c }", "neuron n { s = n }", "recipe r = r",
    "backbone b = b[0]", "network n { out = in }", "network n { input = in }", "surrogate s = s",
    "network n = n(n = n) { n = n }", "use std\nnetwork n { input = image(1, 1, 1); out = n }",
    "use std\nrule r(k = image(1, 1, 1)) { in[i] = out[i - k]; result = out[0] }",
    "use std\nblock b(w = in) { out = w }",
    "use std\nconnection c(x = out) { each = conv; out = x }",
    'use std\nnetwork n { input = image(1, 8, 8); out = "a" if in else b }',
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_are_errors_or_right(text: str) -> None:
    for error in errors(text):
        assert error.message
        assert error.code
    str(SpecError(errors(text)))
