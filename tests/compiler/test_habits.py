"""The table of names from other languages: each row gives its hint at its place, and none is stale."""

import re
from collections.abc import Callable, Iterator, Mapping

import pytest

from danetc.dsl.diagnostics.habits import Habit, fold, habits
from danetc.dsl.neuron.opcodes import functions
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.settings import SETTINGS
from tests.compiler.error_cases import errors

from .test_suggestions import PUBLIC, STANDARD, USES, declared, network, recipe

ADDED = {fold(name) for name in (*PUBLIC, *functions())}
"""Names of operations and functions. A row with such a name is no longer used, and may stay."""
UNSEEN = {("parameter", "beta"), ("setting", "classes"), ("setting", "image")}
"""Names that mean something in the specs below."""


def _called(row: Habit) -> str:
    of, name = row.of or "conv", row.name
    if of in PUBLIC:
        return network(stem=f"conv(8) -> {of}({name} = 1)")
    match of:
        case "norm":
            return network(stem=f"conv(8) -> norm({name} = 1)")
        case "stage":
            return network(stages=f"stage(basic(8), {name} = 2) via origin")
        case "image" | "events":
            return network(input=f"{of}({name} = 3)")
        case "concat":
            return f"block b {{ out = concat(in, in, {name} = 1) }}"
    kind = next((item.kind for item in STANDARD if item.name == of), of)
    first = declared(kind)[0] if of == kind else of
    return USES[kind](f"{first}({name} = 1)")


def _family(row: Habit) -> str:
    """The recipe setting that contains an item or its argument."""
    family = row.of if row.where == "item" else next(f for f, i in ITEMS.items() if row.of in i)
    return next(k for k, s in SETTINGS.items() if getattr(s.type, "family", "") == family)


SPECS: Mapping[str, Callable[[Habit], str]] = {
    "name": lambda row: f"use std\nblock b = conv(8) -> {row.name}",
    "dotted": lambda row: network(stem=f"conv(8) -> nn.{row.name}"),
    "parameter": _called,
    "setting": lambda row: network(**{row.name: "4"}),
    "part": lambda row: f"connection c {{ {row.name} = norm; out = branch + shortcut }}",
    "recipe": lambda row: recipe(f"{row.name} = 1"),
    "item": lambda row: recipe(**{_family(row): row.name}),
    "argument": lambda row: recipe(**{_family(row): f"{row.of}({row.name} = 1)"}),
    "equation": lambda row: f"neuron N {{ s = heaviside({row.name}(x)) }}",
    "join": lambda row: f"rule r {{ in[i] = {row.name}(in[0]); result = out[n - 1] }}",
    "word": lambda row: f"{row.name} some {{ a = 1 }}",
}


def _hints(text: str) -> Iterator[str | None]:
    return (item.hint for item in errors(text))


def test_every_row_is_seen_where_it_belongs() -> None:
    """No row has the name of something that exists, and no name has two answers."""
    unseen = []
    for row in habits():
        if row.where == "command" or (row.where, row.name) in UNSEEN:
            continue  # tests/danetc/test_main.py tests the rows of the command line
        texts = [SPECS[row.where](row)]
        if row.where == "word":
            texts += [f"block b {{ {row.name} a = in }}", f"block b {{ {row.name} a }}"]
        seen = any(hint == row.answer for text in texts for hint in _hints(text))
        if not seen and fold(row.name) not in ADDED:
            unseen.append((row, [*_hints(texts[0])]))
    assert unseen == []


ONE_ERROR = {
    "nn.Conv2d(3, 8, kernel_size=3, padding=1) -> norm -> spike": "`conv(WIDTH",
    "conv(8, kernel = (3, 3)) -> norm -> spike": "square",
    "conv(8) -> norm -> spike -> maxpool(size = 2)": "`kernel`",
    "conv(8, bias = True) -> norm -> spike": "`true`",
    "conv(classes > 5 ? 8 : 16) -> norm -> spike": "`a if condition else b`",
    "F.relu(conv(8))": "`ReLU`",
    "spike(norm(conv(8)))": "`conv(8) -> norm`",
}


@pytest.mark.parametrize("stem", ONE_ERROR)
def test_a_habit_costs_one_error(stem: str) -> None:
    (hint,) = _hints(network(stem=stem))
    assert ONE_ERROR[stem] in str(hint)


CALLED = [
    ("spike(shortcut)", "`shortcut -> spike`"),
    ("norm(shortcut)", "`shortcut -> norm`"),
    ("sigmoid(branch + shortcut)", "`(branch + shortcut) -> sigmoid`"),
    ("conv(shortcut, 8, kernel = 1)", "`shortcut -> conv(8, kernel = 1)`"),
    ("flatten(shortcut)", "`shortcut -> flatten`"),
    ("dropout(spike(shortcut), 0.5)", "`shortcut -> spike`"),
]


@pytest.mark.parametrize(("call", "flow"), CALLED)
def test_a_layer_called_with_a_value(call: str, flow: str) -> None:
    connection = f"connection c {{ each = conv -> norm -> spike; out = branch + {call} }}\n"
    (hint,) = _hints(connection + network(stages="stage(basic(8), 1) via c"))
    assert hint is not None
    assert f"write {flow}" in hint


def test_a_gate_that_does_not_join_says_which_forms_do() -> None:
    gate = "block b { a = in -> conv(8); g = a -> avgpool -> linear(5) -> sigmoid; out = a * g }\n"
    (hint,) = _hints(gate + network(stages="stage(b, 1)"))
    form = re.search(r"a gate is `(a -> .+?)`", str(hint))
    right = f"block b {{ a = in -> conv(8); g = {form[1]}; out = a * g }}\n"
    assert [*_hints(right + network(stages="stage(b, 1)"))] == []


PYTHON = """import torch.nn as nn

class Net(nn.Module):
    def forward(self, x):
        for batch in data:
            return self.conv(x)
"""
FILES = [
    (PYTHON, "there is no `import`", 1),
    (PYTHON.partition("\n\n")[2], "there is no `class`", 1),
    (network().replace(" {", ":").replace("}\n", ""), "a `:` does not begin a body", 2),
]


@pytest.mark.parametrize(("text", "message", "line"), FILES)
def test_a_file_is_read_to_its_first_line_of_python(text: str, message: str, line: int) -> None:
    (found,) = errors(text)
    assert (found.message, found.span.line) == (message, line)
