"""danetc in a notebook: ``%load_ext danetc``, and cells that hold a spec.

::

    %%danet
    use std
    network small { ... }

checks the cell, shows its networks and binds each to its name: ``small.build()``,
``small.train("digits")``. Errors appear under the cell as commands print them. Needs IPython
(``danetc[notebook]``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from danetc.compiler import check_source
from danetc.compiler.analysis.summary import Summary
from danetc.compiler.draw import DEFAULT_LEVEL, LEVELS, DrawError
from danetc.compiler.draw.html import to_html
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.diagnostic import Diagnostic, render_all
from danetc.dsl.syntax.source import SourceFile
from danetc.errors import UserError
from danetc.output.spec_messages import handled_by
from danetc.tasks.networks import CompiledNetwork, build, compile_spec

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from danetc.runtime.model.built import Model
    from danetc.tasks.training.train import Training


@dataclass(frozen=True)
class Network:
    """A network of a cell, whose warnings appear under that cell. ``level`` is that of its picture."""

    text: str
    name: str
    level: str = "stage"

    @cached_property
    def compiled(self) -> CompiledNetwork:
        with handled_by(_ignore):
            return compile_spec(text=self.text, network=self.name)

    @property
    def summary(self) -> Summary:
        """Facts of its topology: parameters, operations, kinds of values."""
        return self.compiled.summary

    def draw(self, level: str) -> Network:
        """Return the network with another level for its picture."""
        return replace(self, level=level)

    def build(self, **options: Any) -> Model:
        """Return the model; ``options`` are those of ``danetc.build``."""
        with handled_by(_ignore):
            return build(text=self.text, network=self.name, **options)

    def train(self, data: str = "digits", **options: Any) -> Training:
        """Train the network; ``options`` are those of ``danetc.train``."""
        from danetc.tasks.training.train import train  # late: it imports torch

        with handled_by(_ignore):
            return train(data=data, text=self.text, network=self.name, **options)

    def _repr_html_(self) -> str:
        try:
            return to_html(self.compiled.graph, self.level)
        except DrawError as error:
            raise UserError(f"the picture could not be drawn: {error}") from error


def _ignore(found: Sequence[Diagnostic]) -> None:
    """Ignore warnings that appear under the cell."""


def danet(line: str, cell: str, namespace: dict[str, Any]) -> Network | None:
    """Bind the networks of a cell that begins with ``%%danet [--level LEVEL]`` to their names.

    Return the last network, which the notebook shows. Raises SpecError, UserError.
    """
    level = _level(line)
    checked = check_source(SourceFile("<cell>", f"\n{cell}"))  # lines count as in the notebook
    found = warnings_of(checked)
    if found:
        sys.stderr.write(f"{render_all(found)}\n")
    last = None
    for name in checked.networks:
        last = namespace[name] = Network(cell, name, level)
    return last


def _level(line: str) -> str:
    words = line.split()
    if not words:
        return DEFAULT_LEVEL
    if len(words) != 2 or words[0] != "--level" or words[1] not in LEVELS:
        raise UserError(f"write `%%danet` or `%%danet --level LEVEL`, one of {', '.join(LEVELS)}")
    return words[1]


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Register the magic; ``%load_ext danetc`` calls this."""
    from IPython.core.pylabtools import print_figure

    def magic(line: str, cell: str) -> Network | None:
        return danet(line, cell, ipython.user_ns)

    ipython.register_magic_function(magic, "cell", "danet")  # type: ignore[arg-type]
    if ipython.display_formatter is not None:
        png = ipython.display_formatter.formatters["image/png"]
        png.for_type_by_name("matplotlib.figure", "Figure", print_figure)
