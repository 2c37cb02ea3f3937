"""Bad specs: one clear error each, at the place that is to be mended.

Errors that arise in the standard library stand at their use.
"""

from __future__ import annotations

import time

import pytest

from danetc.compiler import check_text, graph_of
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.loading import is_library
from tests.compiler.error_cases import CASES, CONNECTIONS, FLOW, NET, STAGES, errors, unmarked
from tests.compiler.test_suggestions import network, recipe


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error_at_its_place(name: str) -> None:
    case = CASES[name]
    text, start, end = unmarked(case.text)
    begin = time.process_time()
    found = errors(text)
    assert time.process_time() - begin < 5, "at once"
    assert [error.code for error in found] == [case.code], str(SpecError(found))
    (error,) = found
    assert not is_library(error.span.source), "it stands in the user's own text"
    assert (error.span.start, error.span.end) == (start, end), str(SpecError(found))
    assert case.words in error.message
    assert case.hint in (error.hint or "")


def test_the_network_they_change_is_right() -> None:
    assert errors(NET) == ()
    assert errors(FLOW.replace("OUT", "out = outputs(a, b)")) == ()


# -- second places --------------------------------------------------------------------------------


def labels(text: str) -> list[tuple[str, str]]:
    """What is marked beside the place of the first error, with what is said about it."""
    return [(label.span.text, label.text) for label in errors(text)[0].labels]


def test_an_error_in_std_stands_at_its_use_and_labels_std() -> None:
    (error,) = errors(NET.replace(STAGES, "resnet18(width = 0)"))
    assert error.span.text == "0"
    assert error.label == "`width` is 0"
    (label,) = error.labels
    assert is_library(label.span.source)
    assert label.text == "the error occurs here"


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


def test_a_block_that_wires_itself_shows_both_sides() -> None:
    case = CONNECTIONS["each on a block that wires itself"]
    (error,) = errors(unmarked(case.text)[0])
    each, block_name = error.labels
    assert is_library(each.span.source)
    assert each.span.text == "each"
    assert block_name.span.text == "mine"


# -- several errors, and none that follow ---------------------------------------------------------


def found(text: str) -> list[tuple[str, str]]:
    return [(error.code, error.span.text) for error in errors(text)]


def test_all_errors_of_a_network_in_one_run() -> None:
    text = NET.replace("= IF", "= FI").replace("stride = 2", "strid = 2")
    text = text.replace("linear(", "liner(").replace("steps = 2", "setps = 2")
    assert found(text) == [
        ("E0308", "setps"), ("E0210", "FI"), ("E0301", "strid = 2"), ("E0210", "liner"),
    ]  # fmt: skip


def test_all_errors_of_a_library_that_no_network_uses() -> None:
    text = """use std
block b = conv(kernal = 3)
connection c { each = conv -> nrom; out = branhc }
neuron q { s = heavyside(x) }
rule r { in[i] = out[i]; result = out[n-1] }
backbone z = stage(basci(3), 2)
block e { a = in }
surrogate t(alpha = 0.0) { y = 1 / alpha }
"""
    assert found(text) == [
        ("E0301", "kernal = 3"), ("E0210", "nrom"), ("E0210", "branhc"), ("E0707", "heavyside"),
        ("E0603", "i"), ("E0210", "basci"), ("E0408", "e"), ("E0710", "1 / alpha"),
    ]  # fmt: skip


def test_all_errors_of_a_flow_in_one_run() -> None:
    text = network(
        neuron="LIF(tua = 3, vth = 3)",
        stem='conv(8, kernel = 0, strid = 2, padd = 2) -> nrom -> dropout(p = 3) -> pad(-1, size = "x")',
        stages="stage(bsic(8), 2) via orign by chan -> stage(basic(foo), 2) via sew(3)",
    )
    assert found(text) == [
        ("E0301", "tua = 3"), ("E0301", "vth = 3"), ("E0301", "strid = 2"), ("E0301", "padd = 2"),
        ("E0210", "nrom"), ("E0305", "3"), ("E0301", 'size = "x"'), ("E0210", "bsic"),
        ("E0210", "orign"), ("E0210", "chan"), ("E0210", "foo"), ("E0303", "3"),
    ]  # fmt: skip
    values = found(network(stem='conv(8, kernel = 0, stride = 0, padding = "x")'))
    assert values == [("E0305", "0"), ("E0305", "0"), ("E0304", '"x"')]


def test_an_unknown_name_hides_no_error_of_a_call() -> None:
    more = "block b(w, k = 3) = conv(w, kernel = k) -> nrom\n"
    wrong = network(stages="stage(b(4), 1) -> stage(b(4, w = 8), 1)")
    assert found(more + wrong) == [("E0210", "nrom"), ("E0302", "w = 8")]


def test_how_many_arguments_need_no_name_is_told() -> None:
    for call, most in (
        ("linear(1, 2, 3, 4)", "`linear` takes at most 3 arguments without a name"),
        ("dropout(0.1, 1, 2)", "`dropout` takes at most 2 arguments"),
    ):
        (error,) = errors(network(stem=call))
        assert (error.code, error.message) == ("E0303", most)


def test_an_error_in_a_base_is_reported_once() -> None:
    variants = "network m = n { neuron = LIF }\nnetwork k = m { steps = 3 }\n"
    assert found(NET.replace("linear(", "liner(") + variants) == [("E0210", "liner")]


def test_a_definition_behind_an_error_is_not_called_unused() -> None:
    text = FLOW.replace("OUT", "out = fo(a) + b")
    assert found(text) == [("E0210", "fo")]


def test_a_variant_may_leave_definitions_of_its_base_unused() -> None:
    text = NET.replace("stem = conv(16)", "start = conv(16)\n  stem = start")
    assert found(text + "network m = n { stem = conv(16) }\n") == []


def test_a_misspelt_setting_is_not_missing_too() -> None:
    for setting in ("input", "neuron", "surrogate"):
        wrong = setting[:-1] + "x"
        assert found(NET.replace(f"  {setting} =", f"  {wrong} =")) == [("E0308", wrong)]


def test_a_syntax_error_hides_no_error_elsewhere_and_makes_none() -> None:
    broken = NET.replace("steps = 2", "steps = = 2")
    assert [code for code, _ in found(broken)] == ["E0119"]
    other = "block b = conv(3) -> covn(4)\n"
    assert [code for code, _ in found(broken + other)] == ["E0119", "E0210"]
    for line in NET.splitlines()[3:-1]:
        text = NET.replace(line, line.replace("=", "", 1))
        assert all(code.startswith("E01") for code, _ in found(text)), line


# -- settings from outside ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "code", "words"),
    [
        ("clases", 100, "E0309", "did you mean `classes`?"),
        ("classes", "ten", "E0210", "`ten`"),
        ("classes", True, "E0304", "not true"),
        ("steps", 0, "E0305", "between 1"),
        ("steps", 1.5, "E0304", "not 1.5"),
        ("neuron", "LFI", "E0210", "`LFI`"),
        ("neuron", "LIF(tau = ", "E01", ""),
        ("neuron", "LIF } network x { input = image(1, 1, 1)", "E01", ""),
        ("neuron", "", "E01", ""),
        ("neuron", "LIF(taux = 3)", "E0301", "`taux`"),
        ("neuron", 3, "E0403", "not a neuron"),
        ("zero_init", 1, "E0304", "cannot be the number 1"),
        ("stages", "resnet18", "E0605", "no connection"),
        ("__class__", 3, "E0309", "no setting"),
    ],
)
def test_bad_settings(name: str, value: object, code: str, words: str) -> None:
    checked = check_text(NET)
    with pytest.raises(SpecError) as caught:
        graph_of(checked, settings={name: value})
    first = caught.value.diagnostics[0]
    assert first.code.startswith(code)
    assert words in str(caught.value)


# -- never anything but a SpecError ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "use std", "\0\1\2" * 100, "network", "network n", "{" * 500, "}" * 500, "\ud800",
        "network __import__ { input = __import__ }", "rule r { in[i] = in }", "rule r { in[in] = 3 }",
        "block b { out = b }", "connection c { out = c }", "neuron n { s = n }", "recipe r = r",
        "backbone b = b[0]", "network n { out = in }", "network n { input = in }", "surrogate s = s",
        "network n = n(n = n) { n = n }", "use std\nnetwork n { input = image(1, 1, 1); out = n }",
        "use std\nrule r(k = image(1, 1, 1)) { in[i] = out[i - k]; result = out[0] }",
        "use std\nblock b(w = in) { out = w }",
        "use std\nconnection c(x = out) { each = conv; out = x }",
        'use std\nnetwork n { input = image(1, 8, 8); out = "a" if in else b }',
    ],
)  # fmt: skip
def test_odd_texts_are_errors_or_right(text: str) -> None:
    for error in errors(text):
        assert error.message
        assert error.code
    str(SpecError(errors(text)))


# -- one cause gives one error ---------------------------------------------------------------------


def neuron(*lines: str, parameters: str = "k = 2.0") -> str:
    body = "\n  ".join(lines)
    return (
        f"neuron N({parameters}) {{\n  state u = 0.0\n  {body}\n"
        "  s = heaviside(v - 1.0)\n  u = v * (1 - s)\n}\n"
    )


TEXTS = {
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
    "a state without a value": (
        "neuron N {\n  state d =\n  state u = 0.0\n  d = d + x\n  u = d\n  s = heaviside(u)\n}",
        "E0119",
    ),
    "a ternary in an equation": (neuron("v = u + x", "r = v > 1.0 ? 1.0 : 0.0"), "E0118"),
    "a misspelt definition of a connection": (
        "connection c { each = conv; agte = branch -> sigmoid; out = gate * shortcut }",
        "E0210",
    ),
    "an unknown name three times": ("block b = conv(8) -> foo -> foo -> foo", "E0210"),
    "a name defined twice in a block that is used": (
        network(stages="stage(b, 1)")
        + "block b { m = in -> conv(8); a = in -> conv(8); a = a + m; out = a }",
        "E0212",
    ),
    "a setting that there is not, of an unknown name": (network(recipe="digts"), "E0308"),
    "an unused line of an unknown name": (
        network(stages="stage(b, 1)") + "block b { m = foo; out = in -> conv(8) }",
        "E0210",
    ),
    "misspelt epochs": (recipe(warmup="5").replace("epochs", "epohcs"), "E0801"),
    "no name after use": ("use\n" + network().removeprefix("use std\n"), "E0119"),
    "a brace too many": (network(stem="conv(8) -> } norm -> spike"), "E0104"),
    "a parenthesis too few": (network(stem="conv8, kernel = 3) -> norm"), "E0116"),
    "a sum in a parenthesis that is not closed": (network(stem="(in + in -> conv(8)"), "E0103"),
    "an equals sign that is gone": (network().replace("neuron = IF", "neuron IF"), "E0111"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_one_cause_gives_one_error(what: str) -> None:
    text, code = TEXTS[what]
    assert [item.code for item in errors(text)] == [code]
