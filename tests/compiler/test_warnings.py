"""A suspicious spec that builds gets a warning at the right place, and other specs get none.

The page of each warning has another example.
"""

import re
from itertools import product
from pathlib import Path

import pytest

from danetc.compiler import check_file, check_text, graph_of, lowered_network
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.warnings import warnings_of, warnings_of_network
from danetc.compiler.warnings.neurons import _constant
from danetc.dsl.diagnostics.codes import CODES, severity
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter
from danetc.dsl.diagnostics.explain import examples
from danetc.dsl.loading import is_library
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import INPUT, NeuronProgram
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile
from tests.compiler.error_cases import assert_says, unmarked
from tests.tables import each_of

NET = """use std

network n(classes = 10) {
  input = image(3, 32, 32); steps = 4; neuron = IF; surrogate = sigmoid
  stem = conv(16) -> norm -> spike
  stages = (stage(basic(16), 2) -> stage(basic(32), 2, stride = 2)) via origin by chain
  head = avgpool -> mean_over_time -> linear(classes)
}
"""
TRAIN = """recipe r {
  epochs = 30
  warmup = 2
  batch = 128
  optimizer = sgd(lr = 0.1, momentum = 0.9)
  schedule = step(10, 20, factor = 0.1)
}
"""


def net(*changes: tuple[str, str], after: str = "") -> str:
    """The network above with some parts replaced."""
    text = NET
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text + after


def train(old: str, new: str) -> str:
    assert TRAIN.count(old) == 1, old
    return TRAIN.replace(old, new)


def mine(body: str, use: str = "= mine", params: str = "") -> str:
    return net(("= IF", use), after=f"\nneuron mine{params} {{ {body} }}\n")


WARNINGS = [code for code in CODES if severity(code) == "warning"]


def warned(text: str) -> tuple[Diagnostic, ...]:
    return warnings_of(check_text(text))


PHASES = """recipe r {
  batch = 128; optimizer = sgd(lr = 0.1)
  phase a { epochs = 3 }
  phase b { «epochs» = 3; start = a }
  phase c { epochs = 3; start = a }
}
"""
SUSPICIOUS = {
    "W0101 `LIF` is not used": "use std (IF, «LIF», sigmoid, basic, origin, chain)\n"
    + NET.removeprefix("use std\n"),
    "W0102 neuron `mine` is not used | # allow": net(after="neuron «mine» = LIF(tau = 4.0)\n"),
    "W0102 block `mine`": net(
        after="block «mine»(w) { out = (in -> mine(w - 1)) if w > 1 else (in -> conv(w)) }\n"
    ),
    "W0103 `width` of network `n`": net(("classes = 10", "classes = 10, «width» = 16")),
    "W0103 `tau` of neuron `mine`": mine(
        "s = heaviside(x - v_threshold)", params="(«tau» = 2.0, v_threshold = 1.0)"
    ),
    "W0103 `decay`": mine(
        "state u = 0.0; u = u + x; s = heaviside(u - 1)",
        params="(tau = 2.0, «decay» = 1 - 1 / tau)",
    ),
    "W0103 parameter `classes` of network `m` | `n(classes = classes)`": NET
    + "network m(«classes» = 100) = n { steps = 2 }\n",
    "W0103 `stride` of block `mine` | stride = stride": net(
        ("stage(basic(32), 2, stride = 2)", "stage(mine(16), 2, stride = 2)"),
        after="block mine(width, «stride» = 1) = conv(width) -> conv(width)\n",
    ),
    "W0105 state `n`": mine("state «n» = 0.0; n = n + 1; s = heaviside(x - 1)"),
    "W0105 equation": mine("state u = 0.0; «w» = 2 * u; u = u + x; s = heaviside(u - 1)"),
    "W0105 `z`": net(
        ("= sigmoid", "= mine"), after="surrogate mine { «z» = 2 * x; dy = max(1 - abs(x), 0) }\n"
    ),
    "W0201 kernel 32 | conv(32, kernel": net(("conv(16)", "conv(16) -> «conv(16, 32, 3)»")),
    "W0201 initial weight of | write `batchnorm`": net(("-> norm ->", "-> «batchnorm(16)» ->")),
    "W0202 32 x 32 into 33 x 33 | 1 or 3": net(("conv(16)", "«conv(16, kernel = 2)»")),
    "W0202 9 x 9 | padding = 0": net(("conv(16)", "«conv(16, kernel = 4, stride = 4)»")),
    "W0203 `stages.1.blocks.0.branch.conv2` has a kernel of 3": net(
        ("(3, 32, 32)", "(3, 2, 2)"), ("stage(basic(32), 2, stride = 2)", "«resnet18»[1 .. 3]")
    ),
    "W0203 kernel of 3": net(("head = avgpool", "head = avgpool -> «maxpool(3, stride = 2)»")),
    "W0205 `head.linear1` | bias = false": net(
        ("-> linear(classes)", "-> «linear(64)» -> norm -> ReLU -> linear(classes)")
    ),
    "W0206 normalises the output of a norm": net(
        ("via origin", "via mine"),
        after="connection mine { each = conv -> norm; out = branch -> «norm» -> spike }\n",
    ),
    "W0301 multiplied by -1": net(("= IF", "= «LIF(tau = learn(0.5, above = 0))»")),
    "W0301 multiplied by 1.5": mine(
        "state u = 0.0; v = 1.5 * u + x; s = heaviside(v - 1); u = v * (1 - s)", "= «mine»"
    ),
    "W0302 `IF` cannot fire within 4 steps: it reads spikes": net(
        ("-> norm -> spike", "-> norm -> spike -> maxpool(2) -> «spike(v_threshold = 5.0)»")
    ),
    "W0302 returns 1 at every step": net(
        ("norm -> spike", "norm -> spike -> maxpool(2) -> «mine»"),
        after="neuron mine { s = heaviside(x + 0.5) }\n",
    ),
    "W0304 `stem.spike1`": net(("-> norm -> spike", "-> norm -> spike -> «spike»")),
    "W0304 `stem.spike`": net(
        ("via origin", "via pa_a"), ("(stage(basic(16), 2) ->", "(«stage(basic(16), 2)» ->")
    ),
    "W0305 this `IF` | `spike`": net(
        ("= IF", "= IF(detach_reset = true)"), ("via origin", "via origin(inter = «IF»)")
    ),
    "W0306 so it has one time step": net(("network n", "network «n»"), ("steps = 4; ", "")),
    "W0308 no layer of network `n` uses its norm": net(
        ("steps = 4", "steps = 4; norm = «tebn»"),
        ("-> norm ->", "-> batchnorm ->"),
        ("via origin", "via mine"),
        after="connection mine { each = conv -> batchnorm -> spike; out = branch }\n",
    ),
    "W0401 100": train("optimizer = sgd(lr = 0.1", "«optimizer» = sgd(lr = 100"),
    "W0401": train("optimizer = sgd(lr = 0.1, momentum = 0.9)", "«optimizer» = adamw(lr = 2)"),
    "W0402 no phase starts from `b` | start = b": PHASES,
    "W0403 training images are not normalised": train(
        "warmup = 2", "«evaluate» = resize(32) -> normalize(cifar10)"
    ),
    "W0403 by cifar10, and test images are normalised by imagenet": train(
        "warmup = 2", "augment = normalize(cifar10); «evaluate» = normalize(imagenet)"
    ),
}

PLAIN = [
    NET,
    TRAIN,
    TRAIN.replace("lr = 0.1", "lr = 30"),
    # a file without a network is for other files
    "use std\nneuron mine = LIF(tau = 4.0)\n",
    # a recipe is named on the command line
    NET + TRAIN,
    "use std (digits)\n",
    # a threshold that tdBN reads
    mine("s = heaviside(x - 1)", params="(v_threshold = 1.0)"),
    NET + "network m(classes = 10) = n { steps = 2 }\n",
    NET + "network m(classes = 100) = n(classes) { steps = 2 }\n",
    net(("conv(16)", "conv(16) -> conv(16, 8, 8, 0)")),
    net(("-> norm ->", "-> norm(0.5) ->")),
    net(("-> norm ->", "-> batchnorm(init = 16) ->")),
    net(("conv(16)", "conv(16, kernel = 4, stride = 4, padding = 0)")),
    # a gate of one pixel
    net(("head = avgpool", "head = avgpool -> conv(8, kernel = 1) -> norm -> spike")),
    net(("conv(16) -> norm", "conv(16, bias = true)")),
    net(("conv(16) -> norm", "conv(16, bias = true) -> groupnorm(4)")),
    # a norm that the shortcut also needs
    net(
        ("-> norm -> spike", "-> norm"), ("via origin", "via pa_b"), ("head = ", "head = spike -> ")
    ),
    net(("= IF", "= LIF(tau = 1.0)")),
    net(("= IF", "= LIF(tau = learn(2.0, above = 1))")),
    net(("= IF", "= ALIF")),
    # two states that oscillate
    mine(
        "state u = 0.0; state w = 0.0; v = -0.5 * u - w + x; w = u - 0.5 * w; s = heaviside(v - 1);"
        " u = v"
    ),
    # a state that alternates by itself
    mine(
        "state p = 0.0; state u = 0.0; v = 0.5 * u + x; s = heaviside(v - 1 - p); p = 1 - p; u = v"
    ),
    # a reset that subtracts more than the potential
    mine("state u = 0.0; v = 0.5 * u + x; s = heaviside(v - 1); u = v * (1 - 4 * s)"),
    net(("-> norm -> spike", "-> norm -> spike -> maxpool(2) -> spike(v_threshold = learn(5.0))")),
    # a bias that the last block needs
    net(
        ("stages = ", "stages = stage(biased, 2) -> "),
        after="block biased { out = in -> norm -> spike -> conv(16, bias = true) }\n",
    ),
    # a norm that follows another norm only in the second block
    net(
        ("stages = ", "stages = stage(normed, 2) -> "),
        after="block normed { out = in -> norm -> spike -> conv(16) -> norm }\n",
    ),
    net(("-> norm -> spike", "-> norm -> ReLU -> spike")),
    net(("= IF", "= IF(detach_reset = true)"), ("via origin", "via origin(inter = LIF)")),
    net(
        ("= IF", "= LIF(tau = 4.0)"), ("via origin", "via origin(inter = spike(v_threshold = 0.5))")
    ),
    net(("= IF", "= LIF(tau = 4.0)"), ("via origin", "via origin(inter = LIF(tau = 4.0))")),
    net(("steps = 4", "steps = 1")),
    net(("steps = 4; ", ""), ("= IF", "= ReLU")),
    net(("steps = 4; ", ""), ("image(3", "events(3")),
    # a norm that only a variant does not use
    net(("steps = 4", "steps = 4; norm = tebn"))
    + "network m = n { stem = conv(16) -> spike; stages = stage(basic(16), 2) via bare }\n"
    "connection bare { each = conv -> spike; out = branch }\n",
    train("lr = 0.1", "lr = 0.1 * 65536 / 256"),
    train("warmup = 2", "augment = normalize(cifar10); evaluate = normalize(cifar10)"),
]


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("said", SUSPICIOUS)
def test_what_is_suspicious_is_warned_of_at_its_place(said: str) -> None:
    text, start, end = unmarked(SUSPICIOUS[said])
    (found,) = warned(text)
    assert found.severity == "warning"
    assert (found.span.start, found.span.end) == (start, end)
    assert not is_library(found.span.source)
    assert_says(found, said)


def test_every_rule_has_a_case() -> None:
    assert {said[:5] for said in SUSPICIOUS} == set(WARNINGS)


@each_of(PLAIN)
def test_what_may_be_meant_is_left_alone(text: str) -> None:
    assert warned(text) == ()


WRITTEN = [
    *shipped_specs(),
    *sorted(
        str(path)
        for room in ("specs/lib", "dsl/std", "results", "examples", "docs")
        for path in (ROOT / room).rglob("*.danet")
    ),
]
PAGES = [
    ROOT / "README.md",
    *(path for room in ("docs", "results") for path in (ROOT / room).rglob("*.md")),
]


@pytest.mark.parametrize("name", WRITTEN, ids=lambda name: name.removeprefix(f"{ROOT}/"))
def test_no_written_spec_is_warned_of(name: str) -> None:
    assert warnings_of(check_file(name)) == ()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_network_of_a_page_is_warned_of(path: Path) -> None:
    for text in re.findall(
        r"^```danet\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        if re.search(r"^(network|recipe) ", text, re.MULTILINE):
            assert warned(text) == ()


@pytest.mark.parametrize("name", ["danet_c_small", "own_connection", "own_neuron", "own_rule"])
def test_a_network_in_one_file_is_not_warned_of_more(name: str) -> None:
    assert warned(resolved_spec(check_file(name))) == ()


def test_a_phase_that_starts_from_another_has_no_new_weights() -> None:
    (found,) = warned(re.sub("[«»]", "", PHASES))
    assert [label.text for label in found.labels] == ["`c` starts from `a`"]


def test_settings_from_outside_are_seen() -> None:
    checked = check_text(NET)
    lowered = lowered_network(checked, None, {"neuron": "LIF(tau = 0.5)"})
    (found,) = warnings_of_network(checked, lowered)
    assert (found.code, found.span.source.name) == ("W0301", "--set")
    mended = check_text(net(("= IF", "= LIF(tau = 0.5)")))
    assert warnings_of_network(mended, lowered_network(mended, None, {"neuron": "IF"})) == ()


def test_what_a_setting_names_is_used() -> None:
    text = "use std (IF, PLIF, sigmoid, basic, origin, chain)\n" + NET.removeprefix("use std\n")
    checked = check_text(text + "rule mine { in[i] = out[i-1]; result = out[n-1] }\n")
    assert [item.code for item in warnings_of(checked)] == ["W0101", "W0102"]
    stages = "stage(basic(16), 2) via origin by mine"
    lowered = lowered_network(checked, None, {"neuron": "PLIF", "stages": stages})
    assert warnings_of_network(checked, lowered) == ()
    lowered = lowered_network(checked, None, {"steps": 2})
    assert len(warnings_of_network(checked, lowered)) == 2


def test_one_network_of_a_file_is_seen_alone() -> None:
    checked = check_text(NET + "network m = n { neuron = LIF(tau = 0.5) }\n")
    assert warnings_of_network(checked, lowered_network(checked, "n")) == ()
    (found,) = warnings_of_network(checked, lowered_network(checked, "m"))
    assert (found.code, warnings_of(checked)) == ("W0301", (found,))


def test_used_files(tmp_path: Path) -> None:
    (tmp_path / "lib.danet").write_text(
        "use std\nconnection twice { each = conv -> norm -> norm -> spike; out = branch }\n"
        "neuron other = IF\n"
    )
    (tmp_path / "recipes.danet").write_text(TRAIN)
    main = tmp_path / "main.danet"
    main.write_text('use "lib.danet"\nuse "recipes.danet"\n' + NET)
    (found,) = warnings_of(check_file(str(main)))
    assert (found.code, found.span.text) == ("W0101", 'use "lib.danet"')
    main.write_text('use "lib.danet"\n' + net(("via origin", "via twice")))
    (found,) = warnings_of(check_file(str(main)))
    assert found.code == "W0206"
    assert found.span.source.name == str(tmp_path / "lib.danet")
    (tmp_path / "lib.danet").write_text(
        "use std\nconnection twice {\n"
        "  each = conv -> norm -> norm -> spike  # allow W0206\n  out = branch\n}\n"
    )
    assert warnings_of(check_file(str(main))) == ()


def at_end(text: str, line: int, comment: str) -> str:
    lines = text.splitlines()
    lines[line - 1] += f"  {comment}"
    return "\n".join(lines) + "\n"


def above(text: str, line: int, comment: str) -> str:
    lines = text.splitlines()
    return "\n".join([*lines[: line - 1], comment, *lines[line - 1 :]]) + "\n"


@pytest.mark.parametrize("code", WARNINGS)
def test_a_comment_at_the_statement_allows_a_warning(code: str) -> None:
    text = examples(code)[0]
    (found,) = warned(text)
    for place in (at_end, above):
        allowed = place(text, found.span.line, f"# allow {code}: it is meant")
        assert warned(allowed) == ()
        assert warned(format_source(parse(SourceFile("<text>", allowed), Reporter()))) == ()
        assert warned(place(text, found.span.line, f"# allow W9999, {code}")) == ()
        assert len(warned(place(text, found.span.line, "# allow W9999"))) == 1
        assert len(warned(place(text, found.span.line, f"# disallow {code}"))) == 1
    assert len(warned(f"# allow {code}\n\n{text}")) == 1
    assert len(warned(f"{text}# allow {code}\n")) == 1


def test_a_comment_holds_for_all_lines_of_its_statement_and_for_no_other() -> None:
    flow = "stem = conv(16)\n    -> norm\n    -> norm  # allow W0206\n    -> spike\n    -> spike"
    of_head = net(("-> norm ->", "-> norm -> norm ->")).replace("{\n", "{  # allow W0206\n", 1)
    above_first = "block b(width, unread = 1) {\n  # allow W0103\n  out = in -> conv(width)\n}\n"
    texts = (net(("stem = conv(16) -> norm -> spike", flow)), of_head, above_first)
    assert [[item.code for item in warned(text)] for text in texts] == [
        ["W0304"],
        ["W0206"],
        ["W0103"],
    ]


STD = (ROOT / "dsl" / "std" / "neurons.danet").read_text("utf-8")
CHANGES = ("v_threshold = 2.6", "v_threshold = 0.4", "v_threshold = -1.0", "tau = 3.0")
NEURONS = [
    f"{name}({change})"
    for name, parameters in re.findall(r"^neuron (\w+)(.*)", STD, re.MULTILINE)
    for change in ("", *CHANGES)
    if change.partition(" ")[0] in parameters
]


def outputs(program: NeuronProgram, xs: tuple[float, ...]) -> list[float]:
    """The outputs of a neuron for one input per step, computed operation by operation."""
    states: dict[str, float | bool] = {state.name: state.init for state in program.states}
    result = []
    for x in xs:
        values: dict[str, float | bool] = {INPUT: x, **states}
        values |= {item.parameter: item.raw for item in program.learnables}
        for op in program.ops:
            value = OPCODES[op.opcode].value
            values[op.name] = value(*(a if isinstance(a, float) else values[a] for a in op.args))
        ends = [end if isinstance(end, float) else values[end] for end in program.next_states]
        states = dict(zip(states, ends, strict=True))
        result.append(float(values[str(program.output)]))
    return result


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_neuron_that_always_gives_the_same_does(neuron: str) -> None:
    (program,) = graph_of(check_text(net(("= IF", f"= {neuron}")))).neurons.values()
    for largest, steps in product((1, 2), (1, 2, 4)):
        trains = product(map(float, range(largest + 1)), repeat=steps)
        every = {value for xs in trains for value in outputs(program, xs)}
        found = _constant(program, 0.0, float(largest), steps)
        if len(every) > 1:
            assert found is None
        elif not program.learnables:  # learnables may change in training
            assert {found} == every
