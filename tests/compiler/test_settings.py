"""External settings: each one has the same meaning as the line in the body of the network."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.frontend.topology import TopologyError, restaged
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.compiler.error_cases import assert_says

SPEC = """use std

block twin(w) = conv(w) -> conv(w)
backbone twins(w) = stage(twin(w), 1) via sew  # allow W0102

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
network k(broad = 8) = n { head = avgpool -> linear(broad) }

neuron plif { v = learn(0.5) * delay(v, 1) + x; s = heaviside(v - 1) }
network plif(width = 8) {
  input = image(3, 16, 16); neuron = plif; surrogate = atan; steps = 2
  out = in -> conv(width) -> norm -> spike -> avgpool -> linear(10)
}
network wide = plif(width = 16) { norm = groupnorm(4) }
network LIF = plif { neuron = LIF }

network base(width = 8, steps = 4) {
  input = image(3, 16, 16); steps = steps; neuron = LIF; surrogate = sigmoid
  stem = conv(width) -> norm -> spike
  head = avgpool -> mean_over_time -> linear(10)
}
network alike = base
network fixed = base { steps = 2 }
network given = base(steps = 3)
network wider(width = 16) = base(2 * width) { head = avgpool -> linear(width) }
network wider_fixed = wider { steps = 2 }
network again(width = 8) = base { head = avgpool -> linear(width) }
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
    ("m", "out", "outputs(in -> first -> norm -> linear(width), in -> stem -> stages -> head)"),
]
Settings = dict[str, object]
CHANGES: list[tuple[str, Settings, str, str]] = [
    ("m", {"width": 4, "stages": "twins(width)"}, "n(7, width) {", "n(7, 4) { stages = twins(4);"),
    ("m", {"classes": 3}, "n(7, width)", "n(3, width)"),  # given by position
    (
        "m",
        {"classes": 3, "neuron": "LIF(3.0)"},
        "n(7, width) {",
        "n(3, width) { neuron = LIF(3.0);",
    ),
    ("m", {"broad": "2 * 6"}, "n(7, width)", "n(7, 12)"),
    ("k", {"broad": 4, "classes": 3}, "k(broad = 8) = n", "k(broad = 4) = n(3, 4)"),
    ("n", {"first.kernel": 3}, "kernel = 5", "kernel = 3"),
    ("n", {"surrogate.alpha": 2}, "sigmoid\n  first", "sigmoid(2)\n  first"),
    # a network with the name of its neuron
    ("plif", {"width": 4}, "plif(width = 8)", "plif(width = 4)"),
    ("wide", {"width": 4}, "plif(width = 16)", "plif(width = 4)"),
    ("LIF", {"width": 4}, "LIF = plif", "LIF = plif(width = 4)"),
    # a name refers to the outermost network that has it
    ("alike", {"steps": 3, "width": 4}, "alike = base", "alike = base(4, 3)"),
    ("again", {"width": 4}, "again(width = 8) = base", "again(width = 4) = base(4)"),
    ("fixed", {"steps": 3}, "base { steps = 2 }", "base { steps = 3 }"),
    ("given", {"steps": 5}, "base(steps = 3)", "base(steps = 5)"),
    (
        "wider",
        {"width": 4, "steps": 5},
        "(width = 16) = base(2 * width)",
        "(width = 4) = base(8, 5)",
    ),
    ("wider_fixed", {"width": 4, "steps": 1}, "wider { steps = 2 }", "wider(4) { steps = 1 }"),
]
ARGUMENTS: list[tuple[str, Settings, str]] = [
    ("LIF", {"neuron.tau": 3}, "LIF(tau = 3)"),
    ("LIF(2.5, 0.9)", {"neuron.tau": "classes / 2"}, "LIF(classes / 2, 0.9)"),
    ("LIF(2.5, v_rest = -0.1)", {"neuron.v_rest": 0.1}, "LIF(2.5, v_rest = 0.1)"),
    ("IF", {"neuron.tau": 3, "neuron": "PLIF"}, "PLIF(tau = 3)"),  # in any order
    ("IF", {"neuron.v_threshold": 0.5, "neuron.v_rest": -1}, "IF(0.5, -1)"),
    (
        "IF; norm = none",
        {"norm": "groupnorm", "norm.groups": 4},
        "IF; norm = groupnorm(groups = 4)",
    ),
]


def with_line(network: str, name: str, value: str) -> str:
    """The text with one line of a network's body replaced or added."""
    head, body, rest = re.split(rf"(?<=\n)(network {network}\(.*?\n?\}})", SPEC, flags=re.DOTALL)
    kept = re.sub(rf"(?<=[{{\n]) *{name} = [^\n}}]*", "", body).removesuffix("}")
    return f"{head}{kept}\n  {name} = {value}\n}}{rest}"


def meant() -> Iterator[tuple[str, str, Settings, str]]:
    """A text, a network, settings, and the text with the same meaning."""
    for network, name, value in LINES:
        yield SPEC, network, {name: value}, with_line(network, name, value)
    for network, settings, old, new in CHANGES:
        yield SPEC, network, settings, SPEC.replace(old, new)
    for network, (before, settings, after) in product("nm", ARGUMENTS):  # also in a base
        texts = [SPEC.replace("= IF", f"= {neuron}") for neuron in (before, after)]
        yield texts[0], network, settings, texts[1]


@pytest.mark.parametrize(("text", "network", "settings", "same"), [*meant()])
def test_a_setting_means_what_the_line_means(
    text: str, network: str, settings: Settings, same: str
) -> None:
    """The resolved spec has the same meaning."""
    checked = check_text(text)
    changed = graph_of(checked, network, settings)
    assert changed == graph_of(check_text(same), network)
    assert changed != graph_of(checked, network)
    alone = check_text(resolved_spec(checked, network, settings))
    assert not alone.module.program.uses
    assert graph_of(alone, network) == changed


def test_a_network_with_the_name_of_its_neuron_is_not_warned_of() -> None:
    assert warnings_of(check_text(SPEC)) == ()


BAD = [
    ("n", "neuron.tua", 3, "neuron.tua = 3", "E0301  | its parameters: v_threshold"),
    ("n", "neurn.tau", 3, "neurn.tau", "E0309  | did you mean `neuron.tau`?"),
    ("n", "steps.tau", 3, "steps.tau", "E0309  | set `steps` as a whole"),
    ("n", "stages.width", 3, "stages.width", "E0309  | set `stages` as a whole"),
    ("n", "classes.tau", 3, "classes.tau", "E0309  | set `classes` as a whole"),
    ("m", "stages", "stage(twin(widht), 2) via sew", "widht", "E0210  | mean `width`?"),
    ("m", "head", "avgpool -> linear(classes)", "classes", "E0210  | a parameter of `n`"),
    ("m", "stages", "stages", "stages", "E0211"),
    ("n", "classes", "broad", "broad", "E0210  | cannot read another"),
    ("n", "clases", 100, "clases", "E0309 no setting `clases` | did you mean `classes`?"),
    ("n", "classes", "ten", "ten", "E0210 `ten`"),
    ("n", "classes", True, "classes", "E0304 not true"),
    ("n", "steps", 0, "0", "E0305 between 1"),
    ("n", "steps", 1.5, "1.5", "E0304 not 1.5"),
    ("n", "neuron", "LFI", "LFI", "E0210 `LFI`"),
    ("n", "neuron", "LIF(tau = ", "=", "E0119"),
    ("n", "neuron", "LIF } network x { input = image(1, 1, 1) }", "}", "E0104"),
    ("n", "neuron", "", "= ", "E0119"),
    ("n", "neuron", "LIF(taux = 3)", "taux = 3", "E0301 `taux`"),
    ("n", "neuron", 3, "3", "E0403 not a neuron"),
    ("n", "zero_init", 1, "1", "E0304 cannot be the number 1"),
    ("n", "stages", "resnet18", "resnet18", "E0605 no connection"),
    ("n", "__class__", 3, "__class__", "E0309 no setting"),
]


@pytest.mark.parametrize(("network", "path", "value", "text", "said"), BAD)
def test_bad_settings(network: str, path: str, value: object, text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        graph_of(check_text(SPEC), network, {path: value})
    (found,) = caught.value.diagnostics
    place = "<text>" if value is True else "--set"  # where the parameter is read
    assert (found.span.text, found.span.source.name) == (text, place)
    assert_says(found, said)


MIXED = """\
use std

network mixed(width = 4) {
  input = image(3, 16, 16); neuron = IF; surrogate = sigmoid
  stem = conv(width) -> norm -> spike
  stages = resnet20[0 .. 1] via origin by densely_additive with (neuron = LIF) -> maxpool(2) -> stage(basic(8), 2) via sew
  head = avgpool -> linear(10)
}
network variant(width = 4) = mixed(width = width) { steps = 2 }
"""


PARTS = [
    ({"rule": "chain"}, "resnet20(width = width) via origin by chain"),
    ({"connection": "sew"}, "resnet20(width = width) via sew by densely_additive"),
    ({"depth": "56"}, "resnet56(width = width) via origin by densely_additive"),
    ({"backbone": "resnet32"}, "resnet32(width = width) via origin by densely_additive"),
    (
        {"backbone": "resnet32(width = 8)", "connection": "origin(inter = LIF)"},
        "resnet32(width = 8) via origin(inter = LIF) by densely_additive",
    ),
]


@pytest.mark.parametrize(("parts", "written"), PARTS)
def test_a_part_is_changed(parts: dict[str, str], written: str) -> None:
    checked = check_file("danet_c_r20")
    text = restaged(checked, "danet_c_r20", {}, parts)
    assert text == written
    graph_of(checked, None, {"stages": text, "width": 4})


def test_every_stage_is_changed_and_what_parts_them_stays() -> None:
    checked = check_text(MIXED)
    # The base of the variant defines `stages`.
    text = restaged(checked, "variant", {}, {"rule": "chain", "connection": "baa"})
    first = "resnet20[0 .. 1] via baa by chain with (neuron = LIF)"
    assert text == f"{first} -> maxpool(2) -> stage(basic(8), 2) via baa by chain"
    text = restaged(checked, "mixed", {"stages": "resnet20[1 .. 2] via sew"}, {"depth": "32"})
    assert text == "resnet32[1 .. 2] via sew"


PLAIN = MIXED.split("  stem")[0] + "out = in -> avgpool -> linear(10) }"


REFUSED = [
    (MIXED, {}, {"depth": "21"}, "there is no backbone `resnet21`; `resnet` has 18, 20, 32"),
    (MIXED, {"stages": "resnet20 by chain"}, {"connection": "sew"}, "has no connection"),
    (PLAIN, {}, {"rule": "chain"}, "no `stages`"),
    (PLAIN, {"stages": "conv(4) -> norm"}, {"rule": "chain"}, "not of the form"),
]


@pytest.mark.parametrize(("text", "settings", "parts", "message"), REFUSED)
def test_refused_parts(text: str, settings: Any, parts: dict[str, str], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        restaged(check_text(text), "mixed", settings, parts)


@pytest.mark.thorough
def test_the_resolved_text_is_the_same_in_every_process() -> None:
    """Python orders sets of names differently in each process, and a resumed run compares the text."""
    program = """import sys; from danetc.compiler import check_text
from danetc.compiler.frontend.resolved import resolved_spec
print(resolved_spec(check_text(sys.argv[1]), 'variant', {'stages': sys.argv[2]}))"""
    command = [sys.executable, "-c", program, MIXED, "resnet20 via baa by densely_additive"]
    texts = set()
    for seed in range(4):
        env = {**os.environ, "PYTHONHASHSEED": str(seed)}
        texts.add(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    assert len(texts) == 1
