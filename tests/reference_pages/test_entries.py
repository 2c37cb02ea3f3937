"""What the reference knows of names: every row of every table is there, with its documentation."""

from __future__ import annotations

import subprocess
import sys

import pytest

from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.codes import CODES
from danetc.dsl.loading import std_names
from danetc.dsl.neuron.functions import functions
from danetc.dsl.reading import shipped_specs
from danetc.dsl.recipe.settings import SETTINGS
from danetc.reference import SECTIONS, entries, find, section
from danetc.runtime.sources.table import SOURCES


def test_every_row_of_every_table_has_an_entry() -> None:
    names = {entry.name for entry in entries()}
    rows = {name for name, row in OPS.items() if row.public}
    for table in (functions(), std_names(), SETTINGS, shipped_specs(), SOURCES, CODES):
        rows |= set(table)
    assert rows <= names


def test_a_name_of_several_meanings_has_them_all() -> None:
    assert [entry.kind for entry in find("sigmoid")] == [
        "operation",
        "neuron function",
        "surrogate",
    ]
    assert find("conv")[0].parameters[1].takes == "a whole number from 1 to 4096"
    assert find("no such name") == ()


@pytest.mark.parametrize("name", SECTIONS)
def test_names_of_a_section_are_different(name: str) -> None:
    names = [entry.name for entry in section(name)]
    assert len(names) == len(set(names)) > 0


def test_it_needs_neither_torch_nor_click() -> None:
    code = (
        "import sys, danetc.reference as r; list(r.entries());"
        "sys.exit(bool({'torch', 'click', 'subprocess'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
