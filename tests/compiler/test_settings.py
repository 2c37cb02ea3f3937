"""Settings from outside: each means what the same line in the network's body would mean."""

from __future__ import annotations

import re

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.diagnostic import SpecError

SPEC = """use std

block twin(w) = conv(w) -> conv(w)

network n(classes = 10, broad = 8) {
  input = image(3, 16, 16)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  first = conv(8, kernel = 5)
  stem = first -> norm -> spike
  stages = stage(basic(broad), 2) via origin
  head = avgpool -> mean_over_time -> linear(classes)
}

network m(width = 8) = n(7, width) { steps = 3 }
network k(broad = 8) = n { head = spike -> avgpool -> linear(broad) }
"""
LINES = [
    ("n", "stages", "stage(basic(2 * broad), 1, stride = 2) via sew"),
    ("n", "stages", "stage(twin(broad), 3) via origin by densely_additive"),
    ("n", "head", "spike -> avgpool -> linear(classes + 1)"),
    ("n", "stem", "first -> norm -> spike -> avgpool"),
    ("n", "input", "image(1, 12, 12)"),
    ("n", "steps", "classes - 6"),
    ("m", "stages", "stage(twin(width), 2) via sew"),
    ("m", "head", "spike -> avgpool -> linear(width)"),
    ("m", "input", "events(2, width, 2 * width)"),
    ("m", "steps", "width / 2"),
    ("m", "out", "in -> first -> norm -> linear(width)"),
]


def with_line(network: str, name: str, value: str) -> str:
    """The text with a line of a network's body written otherwise, or added to it."""
    head, body, rest = re.split(rf"(?<=\n)(network {network}\(.*?\n?\}})", SPEC, flags=re.DOTALL)
    kept = re.sub(rf"(?<=[{{\n]) *{name} = [^\n}}]*", "", body).removesuffix("}")
    return f"{head}{kept}\n  {name} = {value}\n}}{rest}"


@pytest.mark.parametrize(("network", "name", "value"), LINES)
def test_a_setting_means_what_the_line_means(network: str, name: str, value: str) -> None:
    if name == "out":  # stem, stages and head would have no effect
        value = f"outputs({value}, in -> stem -> stages -> head)"
    checked = check_text(SPEC)
    changed = graph_of(checked, network, {name: value})
    assert changed == graph_of(check_text(with_line(network, name, value)), network)
    assert changed != graph_of(checked, network)


def test_a_setting_and_the_parameter_that_it_reads_are_set_together() -> None:
    settings = {"width": 4, "stages": "stage(twin(width), 1) via sew"}
    graph = graph_of(check_text(SPEC), "m", settings)
    (branch,) = {n.attrs["width"] for n in graph.nodes.values() if "branch.conv" in n.path}
    assert branch == 4


@pytest.mark.parametrize(
    ("before", "settings", "after"),
    [
        ("LIF", {"neuron.tau": 3}, "LIF(tau = 3)"),
        ("LIF(2.5, 0.9)", {"neuron.tau": "classes / 2"}, "LIF(classes / 2, 0.9)"),
        ("LIF(2.5, v_rest = -0.1)", {"neuron.v_rest": 0.1}, "LIF(2.5, v_rest = 0.1)"),
        ("IF", {"neuron.tau": 3, "neuron": "PLIF"}, "PLIF(tau = 3)"),  # in whichever order
        ("IF", {"neuron.v_threshold": 0.5, "neuron.v_rest": -1}, "IF(0.5, -1)"),
    ],
)
@pytest.mark.parametrize("network", ["n", "m"])
def test_an_argument_is_set_where_its_call_is_written(
    network: str, before: str, settings: dict[str, object], after: str
) -> None:
    """In a base too, whose parameters it reads."""
    checked = check_text(SPEC.replace("neuron = IF", f"neuron = {before}"))
    changed = graph_of(checked, network, settings)
    meant = graph_of(check_text(SPEC.replace("neuron = IF", f"neuron = {after}")), network)
    assert changed == meant
    assert changed != graph_of(checked, network)
    alone = check_text(resolved_spec(checked, network, settings))
    assert graph_of(alone, network) == meant


def test_a_layer_and_a_surrogate_have_arguments_too() -> None:
    settings = {"surrogate.alpha": 2, "norm.groups": 4, "norm": "groupnorm", "first.kernel": 3}
    lines = SPEC.replace("sigmoid", "sigmoid(2)\n  norm = groupnorm(groups = 4)")
    meant = graph_of(check_text(lines.replace("kernel = 5", "kernel = 3")), "n")
    assert graph_of(check_text(SPEC), "n", settings) == meant


@pytest.mark.parametrize(
    ("network", "path", "value", "code", "text", "hint"),
    [
        ("n", "neuron.tua", 3, "E0301", "neuron.tua = 3", "its parameters: v_threshold"),
        ("n", "neurn.tau", 3, "E0309", "neurn.tau", "did you mean `neuron.tau`?"),
        ("n", "steps.tau", 3, "E0309", "steps.tau", "set `steps` as a whole"),
        ("n", "stages.width", 3, "E0309", "stages.width", "set `stages` as a whole"),
        ("n", "classes.tau", 3, "E0309", "classes.tau", "set `classes` as a whole"),
        ("m", "stages", "stage(twin(widht), 2) via sew", "E0210", "widht", "mean `width`?"),
        ("m", "head", "avgpool -> linear(classes)", "E0210", "classes", "a parameter of `n`"),
        ("m", "stages", "stages", "E0211", "stages", ""),
        ("n", "classes", "broad", "E0210", "broad", "cannot read another"),
    ],
)
def test_bad_settings(
    network: str, path: str, value: object, code: str, text: str, hint: str
) -> None:
    with pytest.raises(SpecError) as caught:
        graph_of(check_text(SPEC), network, {path: value})
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.text, found.span.source.name) == (code, text, "--set")
    assert hint in (found.hint or "")


# -- resolved specs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        *((network, {name: value}) for network, name, value in LINES if name != "out"),
        ("m", {"classes": 3}),  # of the base, which the variant gives by position
        ("m", {"classes": 3, "width": 4, "neuron": "LIF(tau = 3.0)"}),
        ("m", {"broad": "2 * 6"}),
        ("k", {"broad": 4, "classes": 3}),
    ],
)
def test_a_resolved_spec_is_the_same_network(network: str, settings: dict[str, object]) -> None:
    checked = check_text(SPEC)
    alone = check_text(resolved_spec(checked, network, settings))
    assert not alone.module.program.uses
    assert graph_of(alone, network) == graph_of(checked, network, settings)


SHARED = """use std
neuron plif { v = learn(0.5) * delay(v, 1) + x; s = heaviside(v - 1) }
network plif(width = 8) {
  input = image(3, 16, 16)
  neuron = plif
  surrogate = atan
  steps = 2
  out = in -> conv(width) -> norm -> spike -> avgpool -> linear(10)
}
network wide = plif(width = 16) { norm = groupnorm(4) }
network LIF = plif { neuron = LIF }
"""


@pytest.mark.parametrize("network", ["plif", "wide", "LIF"])
def test_a_network_with_the_name_of_its_neuron(network: str) -> None:
    checked = check_text(SHARED)
    assert not warnings_of(checked)
    alone = check_text(resolved_spec(checked, network, {"width": 4}))
    assert graph_of(alone, network) == graph_of(checked, network, {"width": 4})


BASES = """use std
network base(width = 8, steps = 4) {
  input = image(3, 16, 16)
  steps = steps
  neuron = IF
  surrogate = sigmoid
  stem = conv(width) -> norm -> spike
  head = avgpool -> mean_over_time -> linear(10)
}
network alike = base
network fixed = base { steps = 2 }
network given = base(steps = 3)
network wider(width = 16) = base(width = 2 * width) { head = avgpool -> linear(width) }
network wider_fixed = wider { steps = 2 }
network again(width = 8) = base { head = avgpool -> linear(width) }
"""


@pytest.mark.parametrize(
    ("name", "setting", "steps", "widths"),
    [
        ("alike", {"steps": 3, "width": 4}, 3, [4, 10]),
        ("again", {"width": 4}, 4, [4, 4]),  # also of the base, which is not given it
        ("fixed", {"steps": 3}, 3, [8, 10]),  # a line stands before a base's parameter
        ("given", {"steps": 5}, 5, [8, 10]),
        ("wider", {"width": 4, "steps": 5}, 5, [8, 4]),  # the base has twice that
        ("wider_fixed", {"width": 4, "steps": 1}, 1, [8, 4]),
    ],
)
def test_a_name_is_that_of_the_outermost_network_that_has_it(
    name: str, setting: dict[str, int], steps: int, widths: list[int]
) -> None:
    """``--set steps=3`` had no effect on ``fixed``, and neither had the steps of a recipe's phase."""
    graph = graph_of(check_text(BASES), name, settings=setting)
    assert graph.steps == steps
    again = graph_of(check_text(resolved_spec(check_text(BASES), name, setting)), name)
    assert again == graph
    layers = [node for node in graph.nodes.values() if node.op in ("conv", "linear")]
    assert [node.value.shape[0] for node in layers] == widths
