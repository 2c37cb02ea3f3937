"""What the reference knows of names: every row of every table is there, with its documentation."""

from __future__ import annotations

import subprocess
import sys

import pytest

from danetc.compiler import check_text
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.environment import CONSTANTS, PORTS
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.codes import CODES
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module, standard
from danetc.dsl.neuron.opcodes import functions
from danetc.dsl.reading import shipped_specs
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.syntax.errors import RESERVED
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import DECLARATION_KINDS
from danetc.dsl.syntax.words import AXES
from danetc.reference import SECTIONS, TOPICS, entries, entry_of, find, section, topic
from danetc.runtime.data.sources import SOURCES


def test_every_row_of_every_table_has_an_entry_that_can_be_listed() -> None:
    found = [(entry.name, entry.kind) for entry in entries()]
    rows = {name for name, row in OPS.items() if row.public}
    assert rows.union(functions(), standard(), SETTINGS, shipped_specs(), SOURCES, CODES) <= {
        name for name, _ in found
    }
    assert {*found} == {(entry.name, entry.kind) for name in TOPICS for entry in topic(name)}


def test_a_name_of_several_meanings_has_them_all() -> None:
    kinds = [entry.kind for entry in find("sigmoid")]
    assert kinds == ["operation", "neuron function", "surrogate"]
    assert find("conv")[0].parameters[1].takes == "a whole number from 1 to 4096"
    assert find("no such name") == ()


DOCUMENTED = {*SECTIONS} - {"words", "codes", "networks", "pretrained", "data"}
"""Their entries have examples of their own; those of codes and networks are specs that tests check."""


@pytest.mark.parametrize("name", SECTIONS)
def test_every_name_and_parameter_is_documented_once(name: str) -> None:
    """A row without a line of documentation fails here: write it in the row."""
    names = [(entry.name, entry.kind) for entry in section(name)]
    assert len(names) == len(set(names)) > 0
    for entry in section(name):
        assert entry.summary, entry.name
        assert entry.signature, entry.name
        for parameter in entry.parameters:
            assert parameter.meaning, f"{parameter.name} of {entry.name}"


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


def test_every_operation_says_its_shape_and_kind() -> None:
    for name, row in OPS.items():
        if row.public:
            assert row.shape.__doc__, name
            assert row.kind.__doc__, name


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
    assert {each.name: each.meaning for each in one.parameters} == {
        "a": "what it is",
        "b": "of all",
    }
    assert (two.summary, two.parameters[0].meaning) == ("", "of all")
    assert one.place == "f.danet:8"


def test_it_needs_neither_torch_nor_click() -> None:
    code = (
        "import sys, danetc.reference as r; list(r.entries());"
        "sys.exit(bool({'torch', 'click', 'subprocess'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
