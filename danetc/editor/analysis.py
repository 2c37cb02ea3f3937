"""The analysis of a text, which is computed once and used by all services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from danetc.compiler.frontend.program import Checking, Survey
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter
from danetc.dsl.loading import Module
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import Scan, scan
from danetc.dsl.syntax.tree import Program
from danetc.editor.meanings import Meanings
from danetc.editor.reuse import unchanged


@dataclass(frozen=True, eq=False)
class Analysis:
    """The analysis of a text. Each part is computed when it is first used.

    ``texts`` maps real paths to the texts that replace the files on disk. ``earlier`` is the check
    before an edit, whose unchanged networks are reused.
    """

    source: SourceFile
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    earlier: Survey | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        return self.source.text

    @cached_property
    def _checking(self) -> Checking:
        return Checking(self.source, self.texts)

    @cached_property
    def module(self) -> Module | None:
        """The module of the file, or None if the file is too large."""
        return self._checking.read()

    @cached_property
    def survey(self) -> Survey:
        """The errors of the file and the values of its networks."""
        if self.earlier is None or self.module is None:
            return self._checking.survey({})
        return self._checking.survey(unchanged(self.earlier, self.module))

    @cached_property
    def program(self) -> Program:
        """The syntax tree of the file. Statements with syntax errors are left out."""
        module = self.module
        return parse(self.source, Reporter()) if module is None else module.program

    @cached_property
    def meanings(self) -> Meanings:
        """The meanings of all names in the file; empty if the file is too large."""
        return Meanings(self.module)

    @cached_property
    def scanned(self) -> Scan:
        """The tokens of the file. The last one marks the end."""
        return scan(self.source)

    @cached_property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Errors of this file and of the files it uses. If there are none, its warnings."""
        checked = self.survey.checked
        return self.survey.errors if checked is None else warnings_of(checked)


def analyse(
    text: str,
    name: str = "untitled.danet",
    texts: Mapping[str, str] | None = None,
    before: Analysis | None = None,
) -> Analysis:
    """Return the analysis of a text, which may contain errors.

    ``name`` is the path of the file; paths in the file are relative to it. ``texts`` maps the real
    paths of open files to their texts; all other files are read from disk. ``before`` is the analysis
    of the file before an edit.
    """
    # The check of the text before the edit may not have been needed.
    earlier = None if before is None else vars(before).get("survey", before.earlier)
    return Analysis(SourceFile(name, text), texts or {}, earlier)
