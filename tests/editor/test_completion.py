"""Completion in unfinished lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from danetc.compiler.ir.ops import OPS
from danetc.dsl.reading import shipped_specs
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import ChangeType
from danetc.dsl.recipe.settings import SETTINGS
from danetc.editor import analyse
from danetc.editor.completion import complete
from danetc.editor.proposals import Proposal
from tests.editor.marked import HEAD, at_cursor


def proposed(marked: str) -> dict[str, Proposal]:
    return {item.name: item for item in complete(*at_cursor(marked))}


LAYERS = {"conv", "norm", "spike", "LIF", "PSN", "stage", "avgpool"}
CASES: list[tuple[str, set[str], set[str]]] = [
    # where, what is proposed, what is not
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
    (
        "use std\nnetwork n { input = inputs(rgb = image(3, 8, 8), dvs = events(2, 8, 8)); out = concat(|) }",
        {"rgb", "dvs"},
        set(),
    ),
    (
        "use std\nnetwork a { d1 = in -> relu; out = d1 }\nnetwork b = a { out = |",
        {"d1", "in"},
        set(),
    ),
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
        ("neuron = |", ["neuron", "parameter"]),
        ("surrogate = |", ["surrogate", "parameter"]),
        ("stages = |", ["backbone", "function", "parameter"]),
        ("stages = resnet18 via |", ["connection", "parameter"]),
        ("stages = resnet18 via origin by |", ["rule", "parameter"]),
        (
            "stem = |",
            ["word", "operation", "block", "neuron", "function", "backbone", "parameter"],
        ),
    ],
)
def test_what_is_expected_is_proposed_first(line: str, kinds: list[str]) -> None:
    """By kind: neurons after ``neuron =``, connections after ``via``, own ones before those of std."""
    own = "neuron mine { s = heaviside(x) }\nconnection wired { out = branch }\n"
    found = proposed(f"{HEAD}  {line}\n}}\n{own}").values()
    assert [*dict.fromkeys(item.kind for item in found)] == kinds
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


def test_every_row_of_the_tables_is_proposed_with_what_it_is() -> None:
    layers = proposed(f"{HEAD}  stem = |\n}}\n")
    for name, row in OPS.items():
        if row.public and not row.arguments:
            assert layers[name].markdown, name
            parameters = proposed(f"{HEAD}  stem = {name}(|)\n}}\n")
            for item in row.parameters:
                assert parameters[item.name].markdown, (name, item.name)
    settings = proposed("recipe r { | }") | proposed("recipe r { phase a { | } }")
    assert {name for name in SETTINGS if not settings[name].markdown} == set()
    for key, setting in SETTINGS.items():
        family = getattr(setting.type, "family", None)
        if isinstance(setting.type, ChangeType):
            found = proposed(f"recipe r {{ {key} = {setting.type.parts[0]}(a = |) }}")
        elif family is not None:
            found = proposed(f"recipe r {{ {key} = | }}")
        if family is not None:
            assert {name for name in ITEMS[family] if not found[name].markdown} == set()


def test_files_are_proposed_in_a_use(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "blocks.danet").write_text("")
    (tmp_path / "own.danet").write_text("")
    (tmp_path / "a.txt").write_text("")
    name = str(tmp_path / "own.danet")
    for text, wanted in (
        ('use "', ["lib/"]),
        ('use "lib/', ["blocks.danet"]),
        ('use "nowhere/', []),
    ):
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
    """Each name of a line, with the rest of its line not written yet."""
    location = shipped_specs()[name]
    text = location.read_text(encoding="utf-8")
    meanings = analyse(text, str(location)).meanings
    for one in meanings.occurrences[::2]:
        if one.defines or one.meaning.kind == "library" or one.span.text in ("init", "norm"):
            continue
        if one.meaning.kind == "argument" and one.meaning.owner in ("inputs", "outputs"):
            continue  # the name of an input or output, which is whatever one likes
        end = text.find("\n", one.span.start)
        cut = text[: one.span.start] + text[end:]
        found = {item.name for item in complete(analyse(cut, str(location)), one.span.start)}
        assert one.span.text in found, (one.span.line, one.span.text)
