"""The reference has every row of every table, and fragments in the text of pages are correct."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from danetc.compiler import check_text
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.environment import CONSTANTS, PORTS
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.codes import CODES
from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.loading import load_module, standard
from danetc.dsl.neuron.opcodes import functions
from danetc.dsl.reading import shipped_specs
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.syntax.errors import RESERVED
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import DECLARATION_KINDS
from danetc.dsl.syntax.words import AXES
from danetc.reference import SECTIONS, TOPICS, entries, entry_of, find, section, topic
from danetc.runtime.data.sources import SOURCES
from editors.highlighting import words

from .documents import ELSEWHERE, NOT_RUN, PAGES, ROOT, blocks, run, shell_lines


def test_every_row_of_every_table_has_an_entry_that_can_be_listed() -> None:
    found = [(entry.name, entry.kind) for entry in entries()]
    rows = {name for name, row in OPS.items() if row.public}
    assert rows.union(functions(), standard(), SETTINGS, shipped_specs(), SOURCES, CODES) <= {
        name for name, _ in found
    }
    assert {*found} == {(entry.name, entry.kind) for name in TOPICS for entry in topic(name)}
    assert all(row.shape.__doc__ and row.kind.__doc__ for row in OPS.values() if row.public)


def test_a_name_of_several_meanings_has_them_all() -> None:
    kinds = [entry.kind for entry in find("sigmoid")]
    assert kinds == ["operation", "neuron function", "surrogate"]
    assert find("conv")[0].parameters[1].takes == "a whole number from 1 to 4096"
    assert find("no such name") == ()


DOCUMENTED = {*SECTIONS} - {"words", "codes", "networks", "pretrained", "data"}
"""Sections whose entries have an example; examples of codes and networks are specs that tests check."""


@pytest.mark.parametrize("name", SECTIONS)
def test_every_name_and_parameter_is_documented_once(name: str) -> None:
    """A row without a line of documentation fails here: write it in the row."""
    names = [(entry.name, entry.kind) for entry in section(name)]
    assert len(names) == len(set(names)) > 0
    for entry in section(name):
        meanings = [parameter.meaning for parameter in entry.parameters]
        assert all([entry.summary, entry.signature, *meanings]), entry.name


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_every_example_checks_without_a_warning(name: str) -> None:
    checked: set[str] = set()
    for entry in section(name):
        assert entry.example is not None, entry.name
        assert entry.name.rpartition("/")[2] in SourceFile("", entry.example).words, entry.name
        if entry.example not in checked:
            found = warnings_of(check_text(entry.example, entry.name))
            assert not found, (entry.name, [item.message for item in found])
            checked.add(entry.example)


def test_words_are_those_of_the_grammar_and_of_places() -> None:
    words = {entry.name for entry in section("words")}
    ports = {name for known in PORTS.values() for name in known}
    reserved = {terminal.lower() for terminal in RESERVED}
    assert {*DECLARATION_KINDS, *reserved, *ports, *NETWORK_SETTINGS, *CONSTANTS, *AXES} <= words


def test_comments_are_read_as_documentation() -> None:
    text = """# A file.
# - b: of all

# First (Fang et al., ICCV 2021). Second sentence
# goes on.
# - a: what it
#   is
neuron one(a = 1.0, b = 2.0) { s = max(a * x, b) }  # no documentation
neuron two(b = 2.0) { s = max(x, b) }
"""
    module = load_module(SourceFile("f.danet", text), Reporter())
    one, two = (entry_of(module, module.own[name]) for name in ("one", "two"))
    assert one.summary == "First (Fang et al., ICCV 2021)."
    assert one.text == "Second sentence goes on."
    meanings = {each.name: each.meaning for each in one.parameters}
    assert meanings == {"a": "what it is", "b": "of all"}
    assert (two.summary, two.parameters[0].meaning) == ("", "of all")
    assert one.place == "f.danet:8"


def test_it_needs_neither_torch_nor_click() -> None:
    code = (
        "import sys, danetc.reference as r; list(r.entries());"
        "sys.exit(bool({'torch', 'click', 'subprocess'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- fragments of the language that a page names within a sentence ---------------------------------


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALLED = {*(name for name, row in OPS.items() if row.public), "spike", "stage", "learn", "shared"}
OF_OTHERS = {
    "y = (x - mean) / sqrt(variance + eps) * weight + bias": "an equation",
    "r = 0.9 r + 0.1 b": "an equation",
    "r = min(max(slope * sum(w[t] * x[t]), 0), height)": "an equation",
    "v = leak * u + gain * x": "an equation",
    "x = f(x); y = x + g(x)": "Python",
    "model(a, b)": "Python",
    "= a(width = 2 * width)": "the base of a variant",
    "->": "a sign",
    "/ sqrt(...)": "a part of an expression",
    "block basic(width, stride = 1) = ...": "a declaration without its body",
    'torch.backends.mkldnn.conv.fp32_precision = "bf16"': "Python",
}
"""Fragments that are not in the language, or are not complete."""
TRIED_AS = {
    "tokens(V, length = L)": "length = 4",
    "embedding(D)": "embedding(4)",
    "in -> table": "in -> f",
    "x -> table": "x -> f",
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
"""Fragments with names that depend on their place, and the text that is tried instead."""

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
"""Names that pages use for arguments of layers, and their values."""


def _network(line: str) -> str:
    numbers = rf"(?<![\w.])({'|'.join(NUMBERS)})(?!\w| =|\()"
    return NETWORK.format(line=re.sub(numbers, lambda found: NUMBERS[found[0]], line))


CONTEXTS = [
    lambda text: _network(f"out = in -> conv(4) -> {text}"),
    lambda text: _network(f"out = {text}"),
    lambda text: _network(f"out = a * {text}"),
    lambda text: _network(f"out = a -> softmax(over = columns) -> {text} -> mean_over_time"),
    lambda text: _network(f"out = in -> conv(8) -> mean_over_time -> {text}"),
    lambda text: _network(f"{text}; out = in"),
    lambda text: f"use std\nnetwork net {{ input = tokens(9); steps = 2; neuron = LIF; surrogate = atan; out = in -> {text} }}",
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
    for page in DOCUMENTS:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for part in re.findall(r"`([^`\n]+)`", text):
            head = re.match(r"(\w+)\(", part)
            claims = " -> " in part or " = " in part or (head is not None and head[1] in CALLED)
            if claims and part not in OF_OTHERS and not part.startswith(("danetc ", "--")):
                found[page.relative_to(ROOT).as_posix(), part] = None
    return [*found]


def is_setting(text: str) -> bool:
    """True for ``name = value, ...`` if each name is that of an argument or of a setting."""
    reporter = Reporter()
    parse(SourceFile("a.danet", f"block b {{ out = f({text}) }}"), reporter)
    names = {item.name for row in OPS.values() for item in row.parameters}
    names |= {"bound", "decay", "layers", "length", "of", "output"}  # of inputs and of recipes
    names |= {"trace", "trace_first", "update"}.union(*words().values())
    named = re.findall(r"(?:^|, )(\w+) = ", text)
    return not reporter.diagnostics and bool(named) and {*named} <= names


def is_accepted(text: str) -> bool:
    """True if the text is correct in some context. A flow or a call may be unused."""
    unused = {"E0308"} if re.search("[({>]", text) else set()
    return is_setting(text) or any({*errors(form(text))} <= unused for form in CONTEXTS)


def errors(text: str) -> list[str]:
    try:
        check_text(text)
    except SpecError as error:
        return [item.code for item in error.diagnostics]
    return []


@pytest.mark.parametrize(("page", "text"), fragments())
def test_a_fragment_is_accepted(page: str, text: str) -> None:
    written = re.sub(r"(image|events)\(\.\.\.\)", r"\1(2, 8, 8)", TRIED_AS.get(text, text))
    assert is_accepted(written.replace(", ...", "").replace("...", "1")), page


def test_a_wrong_one_is_not() -> None:
    for text in ("spike(LIF)", "conv(8, knernel = 3)", "in -> con(8)", "knernel = 3"):
        assert not is_accepted(text)


# -- shell lines of the documentation, on a few images and for one epoch; no block is left out -----


BLOCKS = {
    page.relative_to(ROOT).as_posix(): found
    for pattern in ("*.md", "docs/**/*.md", "results/**/*.md", "editors/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if "node_modules" not in page.parts and (found := [*blocks(page.read_text("utf-8"))])
}
SHELL = {
    page: [line for block in found if block.language == "sh" for line in shell_lines(block)]
    for page, found in BLOCKS.items()
    if page not in ELSEWHERE
}
BEFORE = {
    "docs/guides/fine-tuning.md": ["danetc train danet_c_small --data digits --classes 5 --set classes=5 -o runs/five"],
    "docs/guides/importing.md": ["danetc build danet_c_r18 --set 'input=image(3, 32, 32)'"],
}  # fmt: skip
"""Commands that create what a page assumes."""
QUICK = {
    "convert": "--steps=4 --batches=1",
    "import": "--input 3x32x32 --samples 10",
    "search": "--trials=1 --set recipe.epochs=1 --backend=eager",
}


def test_no_block_is_left_out() -> None:
    performed = {page.relative_to(ROOT).as_posix() for page in PAGES}
    for page, found in BLOCKS.items():
        if page in ELSEWHERE:
            assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text("utf-8")
        elif page not in performed:
            assert {block.language for block in found} == {"sh"}, page
    for lines in SHELL.values():
        assert all(line.lstrip().startswith("danetc ") for line in lines), lines
    text = "\n".join(block.text for found in BLOCKS.values() for block in found)
    assert [part for parts in NOT_RUN.values() for part in parts if part not in text] == []


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::danetc.SpecWarning")
@pytest.mark.usefixtures("short_samples", "few_digits")
@pytest.mark.parametrize("page", [page for page, lines in SHELL.items() if lines])
def test_its_shell_lines_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS[page]:
        if block.title:
            Path(block.title).write_text(block.text + "\n", encoding="utf-8")
    for name in ("a.png", "b.jpg"):
        Image.new("L", (8, 8)).save(name)
    for line in [*BEFORE.get(page, ()), *SHELL[page]]:
        words = shlex.split(re.sub(r" --set recipe.epochs=\d+", "", line), comments=True)
        status, out = run([*words, *QUICK.get(words[1], "").split()])
        assert status == 0, f"{line}\n{out}"
