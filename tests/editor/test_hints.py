"""Inlay hints (shapes and kinds along flows), hover and completion, also in files with errors."""

import re
from pathlib import Path

import pytest

from danetc import compiler
from danetc.compiler.frontend.program import Checking
from danetc.dsl.reading import find_spec, read_source, shipped_specs
from danetc.editor import Analysis, analyse
from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.hover import hover
from danetc.editor.proposals import Proposal
from tests.editor.marked import HEAD, at_cursor, network


def hinted(analysis: Analysis, *others: Analysis) -> list[tuple[str, str]]:
    return [
        (re.split("\n|->| = ", analysis.text[: hint.offset])[-1].strip(), hint.text)
        for hint in inlay_hints(analysis, others)
    ]


def test_a_hint_stands_where_shape_or_kind_changes() -> None:
    text = network(
        "stem = conv(64, kernel = 7, stride = 2) -> norm -> spike -> maxpool(3, stride = 2)",
        "stages = stage(basic(64), 2) via sew",
        "head = avgpool -> mean_over_time -> linear(classes)",
    )
    assert hinted(analyse(text)) == [
        ("image(3, 32, 32)", "3 x 32 x 32 analog"),
        ("2)", "64 x 16 x 16 analog"),
        ("spike", "64 x 16 x 16 spike"),
        ("2)", "64 x 8 x 8 spike"),
        ("stage(basic(64), 2) via sew", "64 x 8 x 8 in 0 .. 3"),
        ("avgpool", "64 x 1 x 1 in 0 .. 192 of 1/64"),
        ("mean_over_time", "64 x 1 x 1 analog"),
        ("linear(classes)", "10 analog"),
    ]


def test_a_block_has_the_values_of_its_first_use_and_says_so() -> None:
    block = "block fire(width) { out = in -> conv(width) -> norm -> spike }\n"
    text = block + network("out = in -> fire(8) -> fire(16) -> avgpool -> linear(classes)")
    first, second, *_ = inlay_hints(analyse(text))
    assert first.text == "8 x 32 x 32 analog (1st of 2)"
    assert second.text == "8 x 32 x 32 spike (1st of 2)"
    alike = block + network("out = in -> fire(3) -> fire(3) -> avgpool -> linear(classes)")
    assert inlay_hints(analyse(alike))[0].text == "3 x 32 x 32 spike"


def test_a_value_is_told_of_once_behind_parentheses() -> None:
    lines = ("f = shared(conv(8) -> norm -> spike)", "out = in -> f -> avgpool -> linear(classes)")
    found = [word for word, text in hinted(analyse(network(*lines))) if text == "8 x 32 x 32 spike"]
    assert found == ["spike)", "f"]


def test_what_stands_before_an_error_keeps_its_hints() -> None:
    text = network("stem = conv(8) -> norm -> spike", "head = avgpool -> nothing -> linear(10)")
    found = hinted(analyse(text))
    assert ("conv(8)", "8 x 32 x 32 analog") in found
    assert ("spike", "8 x 32 x 32 spike") in found


def test_a_file_without_networks_has_the_hints_of_one_that_uses_it(tmp_path: Path) -> None:
    library = tmp_path / "blocks.danet"
    own = analyse("block fire(width) { out = in -> conv(width) }\n", str(library))
    text = 'use "blocks.danet"\n' + network("out = in -> fire(8) -> avgpool -> linear(classes)")
    user = analyse(text, str(tmp_path / "user.danet"), {str(library.resolve()): own.text})
    assert not user.survey.errors
    assert hinted(own) == []
    assert hinted(own, user) == [("conv(width)", "8 x 32 x 32 analog")]


@pytest.mark.parametrize("name", ["danet_c_r50", "zoo/spikformer", "zoo/glif"])
def test_a_traced_check_comes_out_as_one_without(name: str) -> None:
    source = read_source(find_spec(name))
    graphs = compiler.check_source(source).graphs
    found = Checking(source).survey({})
    assert {key: str(graph) for key, graph in found.checked.graphs.items()} == {
        key: str(graph) for key, graph in graphs.items()
    }
    for key, trace in found.traces.items():
        for _, id, _ in trace.notes:  # nodes that were taken back leave no note
            value = trace.nodes[id].value
            assert value == graphs[key].nodes.get(id, trace.nodes[id]).value


# -- hover: the meaning of a name, and the value at its place --------------------------------------


def text_at(marked: str) -> str:
    analysis, offset = at_cursor(marked)
    found = hover(analysis, offset)
    return "" if found is None else found.markdown


STEM = "stem = conv(64, kernel = 7, stride = 2) -> norm -> spike"


@pytest.mark.parametrize(
    ("marked", "says"),
    [
        # lines of a network
        (STEM.replace("conv", "co|nv"), ["64 x 16 x 16 analog", "from 3 x 32 x 32 analog", "no neurons so far", "convolution", "height and width of the kernel"]),
        (STEM.replace("kernel", "ker|nel"), ["height and width of the kernel", "argument of* `conv`"]),
        (STEM.replace("spike", "spi|ke"), ["64 x 16 x 16 spike", "1 layer of neurons so far, 16,384 neurons", "neuron"]),
        (STEM.replace("64", "6|4"), ["64 x 16 x 16 analog"]),
        (STEM.replace("stem", "st|em"), ["64 x 16 x 16 spike", "setting of* `small`"]),
        ("neuron = L|IF", ["v = (1 - 1 / tau) * u", "*neuron*"]),
        ("head = linear(cla|sses)", ["classes = 10", "parameter of* `small`"]),
        ("stages = stage(basic(8), 1) v|ia origin", ["ires the blocks of a backbone"]),
        ("stages = stage(basic(8), 1) via ori|gin", ["projection = conv -> norm", "*connection*"]),
        ("stem = sum(over = chan|nels)", ["First axis"]),
        # other declarations
        ("neuron N(tau = 2.0) { state u = 0.0; v = u + x / ta|u; s = heaviside(v) }", ["tau = 2.0"]),
        ("neuron N { state u = 0.0; v = |u + x; s = heaviside(v); u = v }", ["state u = 0.0"]),
        ("neuron N { s = heavi|side(x) }", ["heaviside"]),
        ("rule r { in[i] = out[i-1]; result = out[|n-1] }", ["number of blocks"]),
        ("rule r { in[i] = sum(out[|j] for j in 0 .. i-1); result = out[n-1] }", ["variable"]),
        ("network n { out = sum(in -> conv(|j) for j in 1 .. 2) }", ["variable"]),
        ("recipe r { epo|chs = 3; optimizer = adamw(lr = 0.1) }", ["asses over"]),
        ("recipe r { epochs = 3; optimizer = adamw(l|r = 0.1) }", ["learning rate"]),
        ("recipe r { epochs = 3; loss = tet(wei|ght = 0.1) }", ["squared error"]),
        ("# Mine.\nblock fi|re = conv(8)", ["Mine."]),
        ("net|work n { out = in }", ["declares"]),
    ],
)  # fmt: skip
def test_a_name_is_explained(marked: str, says: list[str]) -> None:
    other = re.match(r"\|?(#|(net\|?work|neuron|rule|recipe) \w+.*\{)", marked)
    found = text_at(f"use std\n{marked}\n" if other else network(marked)).casefold()
    for each in says:
        assert each.casefold() in found


def test_a_line_of_a_block_tells_of_all_its_uses() -> None:
    block = "block fire(width) { out = in -> conv(width) -> no|rm -> spike }\n"
    flow = "out = in -> fire(8) -> fire(16) -> fire(16) -> avgpool -> linear(classes)"
    found = text_at(block + network(flow))
    assert "the first of 3 uses" in found
    assert "- 8 x 32 x 32 analog: `fire`" in found
    assert "- 16 x 32 x 32 analog: `fire2` and 1 more" in found
    stages = "stages = (stage(own(8), 4) -> stage(own(8), 3)) via origin by densely_additive"
    text = network("stem = conv(8) -> spike", stages, "head = avgpool -> linear(10)")
    assert "the first of 7 uses" in text_at(f"block own(c) = conv(c) -> |conv(c)\n{text}")


def test_comments_and_blank_lines_have_no_hover() -> None:
    assert text_at("use std\n|\n") == ""
    assert text_at("# a com|ment\n") == ""


# -- completion in unfinished lines ----------------------------------------------------------------


def proposed(marked: str) -> dict[str, Proposal]:
    return {item.name: item for item in complete(*at_cursor(marked))}


INPUTS = "use std\nnetwork n { input = inputs(rgb = image(3, 8, 8), dvs = events(2, 8, 8))"
LAYERS = {"conv", "norm", "spike", "LIF", "PSN", "stage", "avgpool"}
CASES: list[tuple[str, set[str], set[str]]] = [
    # place, names that are proposed, names that are not
    ("|", {"use", "network", "recipe"}, {"conv"}),
    ("use |", {"std"}, {"network"}),
    ("use std (|", {"LIF", "resnet50", "origin"}, {"conv"}),
    (f"{HEAD}  |", {"stem", "stages", "head", "out", "norm"}, {"input", "steps", "conv"}),
    (f"{HEAD}  stem = conv(8) -> no|\n}}\nblock b = conv(8)", {*LAYERS, "b"}, {"origin"}),
    (f"{HEAD}  stem = conv(|", {"width", "kernel", "stride", "classes"}, {"LIF", "conv"}),
    (f"{HEAD}  stem = conv(8, kernel = 3, |)", {"stride", "over"}, {"kernel", "LIF"}),
    (f"{HEAD}  stem = conv(8, over = |)", {"channels", "time"}, {"classes", "conv"}),
    (f"{HEAD}  stem = swap(|)", {"channels", "time"}, {"classes"}),
    (f"{HEAD}  stages = |", {"resnet50", "stage"}, {"origin", "in"}),
    (f"{HEAD}  stages = stage(|", {"block", "basic", "bottleneck"}, {"LIF", "origin"}),
    (f"{HEAD}  stages = resnet18 |", {"via", "by", "with"}, {"origin", "for"}),
    (f"{HEAD}  out = concat(in -> conv(8) |", {"for", "if"}, {"origin"}),
    (f"{HEAD}  stages = resnet18 via |", {"origin", "sew"}, {"chain", "LIF", "input"}),
    (f"{HEAD}  stages = resnet18 via origin(|", {"inter"}, {"width"}),
    (f"{HEAD}  stages = resnet18 via origin by |", {"chain", "densely_additive"}, {"origin"}),
    (f"{HEAD}  stages = resnet18 with (|", {"neuron", "norm", "init"}, {"stem"}),
    (f"{HEAD}  norm = |", {"batchnorm", "tebn", "none"}, {"conv", "LIF"}),
    (f"{HEAD}  init = |", {"xavier_uniform", "orthogonal"}, {"conv"}),
    (f"{HEAD}  weight = |", {"layernorm", "relu"}, {"xavier_uniform"}),
    (f"{HEAD}  stem = conv(8, we|", {"weight"}, set()),
    (f"{HEAD}  stem = conv(8, weight = |", {"layernorm", "relu"}, {"xavier_uniform", "floor"}),
    (f"{HEAD}  stem = spike(|", {"tau", "detach_reset"}, {"conv"}),
    (f"{HEAD}  a = in -> conv(8)\n  out = |", {"a", "in", "concat", "scores"}, {"origin2"}),
    (f"{INPUTS}; out = concat(|) }}", {"rgb", "dvs"}, set()),
    (f"{INPUTS}; d1 = in -> relu }}\nnetwork b = n {{ out = |", {"d1", "in"}, set()),
    ("use std\nnetwork n { neuron = |", {"IF", "LIF"}, {"atan", "conv"}),
    ("network a { out = in }\nnetwork b = |", {"a"}, {"conv"}),
    ("connection c { |", {"each", "projection", "out"}, {"stem"}),
    ("connection c { each = conv -> norm; |", {"projection", "out"}, {"each"}),
    ("connection c { out = |", {"branch", "shortcut", "in"}, set()),
    ("block b(width) { out = in -> conv(|", {"width", "kernel"}, {"spike"}),
    ("rule r(k = 3) { |", {"in", "result"}, {"out2"}),
    ("rule r(k = 3) { in[i] = (out[0] -> |", {"delay"}, {"conv", "spike", "out"}),
    ("rule r(k = 3) { in[i] = |", {"out", "in", "i", "k", "sum"}, {"conv", "spike"}),
    ("neuron n(tau = 2.0) { |", {"state", "s"}, {"x", "y"}),
    ("neuron n(tau = 2.0) { state u = 0.0; v = |", {"tau", "u", "x", "heaviside"}, {"conv", "v"}),
    ("surrogate q(alpha = 2.0) { dy = |", {"alpha", "x", "exp"}, {"dy"}),
    ("recipe r { |", {"phase", "epochs", "optimizer", "seed"}, {"start", "conv"}),
    ("recipe r { phase a { |", {"epochs", "start"}, {"seed"}),
    ("recipe r {\n  phase a { epochs = 1 }\n  phase b { start = |", {"a", "none"}, {"b", "epochs"}),
    ("recipe r { optimizer = |", {"sgd", "adamw"}, {"cosine"}),
    ("recipe r { gradient = |", {"bptt", "online"}, {"sgd"}),
    ("recipe r { evaluate = |", {"resize", "none"}, {"sgd", "mixup"}),
    ("recipe r { freeze = |", {"stem", "head"}, {"sgd"}),
    ("recipe r { optimizer = sgd(|", {"lr", "momentum", "batch"}, {"beta1"}),
    ("recipe r { loss = mse + 0.1 * |", {"firing_rate", "tet"}, {"sgd"}),
    ("recipe r { augment = horizontal_flip -> |", {"random_crop", "mixup"}, {"sgd"}),
    ("recipe r { change = |", {"neuron", "surrogate", "linear"}, {"cosine"}),
    ("recipe r { change = neuron(tau = linear(|", {"start", "end"}, {"neuron"}),
    ("recipe r { precision = |", {"tf32", "fp16"}, {"sgd"}),
    ("recipe r { sync_norm = |", {"true", "false"}, {"sgd"}),
    ("# a com|ment", set(), {"network"}),
]


@pytest.mark.parametrize(("marked", "there", "not_there"), CASES)
def test_what_may_stand_here_is_proposed(marked: str, there: set[str], not_there: set[str]) -> None:
    found = proposed(marked)
    assert there <= found.keys(), there - found.keys()
    assert not not_there & found.keys()


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("neuron = |", "neuron parameter"),
        ("surrogate = |", "surrogate parameter"),
        ("stages = |", "backbone function parameter"),
        ("stages = resnet18 via |", "connection parameter"),
        ("stages = resnet18 via origin by |", "rule parameter"),
        ("stem = |", "word operation block neuron function backbone parameter"),
    ],
)
def test_what_is_expected_is_proposed_first(line: str, kinds: str) -> None:
    own = "neuron mine { s = heaviside(x) }\nconnection wired { out = branch }\n"
    found = proposed(f"{HEAD}  {line}\n}}\n{own}").values()
    assert [*dict.fromkeys(item.kind for item in found)] == kinds.split()
    first = {item.kind: item.name for item in reversed(found)}
    assert (first.get("neuron", "mine"), first.get("connection", "wired")) == ("mine", "wired")


def test_a_proposal_replaces_the_name_that_is_begun() -> None:
    analysis, offset = at_cursor(f"{HEAD}  stem = co|nv(8)\n}}\n")
    (conv,) = [item for item in complete(analysis, offset) if item.name == "conv"]
    assert (conv.span.text, conv.text) == ("conv", "conv")
    assert "convolution" in conv.markdown
    assert "kernel = 3" in conv.detail
    arguments = proposed(f"{HEAD}  stem = conv(|)\n}}\n")
    assert arguments["kernel"].text == "kernel = "
    assert arguments["kernel"].detail == "kernel = 3"
    assert "height and width" in arguments["kernel"].markdown


def test_files_are_proposed_in_a_use(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for each in ("lib/blocks.danet", "own.danet", "a.txt"):
        (tmp_path / each).write_text("")
    name = str(tmp_path / "own.danet")
    cases = (('use "', ["lib/"]), ('use "lib/', ["blocks.danet"]), ('use "nowhere/', []))
    for text, wanted in cases:
        found = complete(analyse(text + '"\n', name), len(text))
        assert [item.name for item in found] == wanted
    (tmp_path / "lib" / "blocks.danet").write_text("# Fires.\nblock fire(width) = conv(width)\n")
    text = 'use "lib/blocks.danet" ('
    (fire,) = complete(analyse(text + ")\n", name), len(text))
    assert (fire.name, fire.kind, fire.detail) == ("fire", "block", "fire(width)")
    assert "Fires." in fire.markdown


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(shipped_specs())[::15])
def test_what_stands_in_a_spec_would_be_proposed_there(name: str) -> None:
    """Each name is proposed while it and the rest of its line are not written yet."""
    location = shipped_specs()[name]
    text = location.read_text(encoding="utf-8")
    meanings = analyse(text, str(location)).meanings
    for one in meanings.occurrences[::2]:
        if one.defines or one.meaning.kind == "library" or one.span.text in ("init", "norm"):
            continue
        if one.meaning.kind == "argument" and one.meaning.owner in ("inputs", "outputs"):
            continue  # the name of an input or output is free
        end = text.find("\n", one.span.start)
        cut = text[: one.span.start] + text[end:]
        found = {item.name for item in complete(analyse(cut, str(location)), one.span.start)}
        assert one.span.text in found, (one.span.line, one.span.text)
