"""Analysis of a text, computed once for all services."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from danetc.compiler.frontend.program import Checking, Survey
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter
from danetc.dsl.modules import Module
from danetc.dsl.syntax.brackets import Brackets, pair
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import Scan, scan
from danetc.dsl.syntax.tree import Program
from danetc.editor.meanings import Meanings


@dataclass(frozen=True, eq=False)
class Analysis:
    """A text and its analysis, whose parts are computed on first use.

    ``texts`` replace files that it uses, by their real paths. ``earlier`` is the survey of the file
    before an edit.
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
        """The module of the file; None if it exceeds a limit."""
        return self._checking.read()

    @cached_property
    def survey(self) -> Survey:
        """Errors, and the values of the networks."""
        return self._checking.survey()

    @property
    def known(self) -> Survey | None:
        """The survey of this text if it exists, else the earlier one."""
        found = self.__dict__.get("survey", self.earlier)
        assert found is None or isinstance(found, Survey)
        return found

    @cached_property
    def program(self) -> Program:
        """Syntax tree of the file, without statements that have syntax errors."""
        module = self.module
        return parse(self.source, Reporter()) if module is None else module.program

    @cached_property
    def meanings(self) -> Meanings:
        """Meanings of the names of the file; none if it exceeds a limit."""
        return Meanings(self.module)

    @cached_property
    def scanned(self) -> Scan:
        """Tokens of the file, with the end as the last one."""
        return scan(self.source)

    @cached_property
    def _ends(self) -> list[int]:
        return [token.end for token in self.scanned.tokens]

    def token_at(self, offset: int) -> int:
        """Return the index of the first token that ends after an offset."""
        return min(bisect_right(self._ends, offset), len(self._ends) - 1)

    @cached_property
    def brackets(self) -> Brackets:
        """Pairs of brackets, by token index."""
        return pair(self.scanned.tokens)

    @cached_property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Errors of this file and of those it uses, or warnings if there are no errors."""
        checked = self.survey.checked
        return self.survey.errors if checked is None else warnings_of(checked)


def analyse(
    text: str,
    name: str = "untitled.danet",
    texts: Mapping[str, str] | None = None,
    after: Analysis | None = None,
) -> Analysis:
    """Return the analysis of a text. Never raises for its content.

    ``name`` is the path of its file, relative to which other files are found. ``texts`` are open
    files by their real paths; other files are read from disk. ``after`` is the analysis before an
    edit, whose unchanged parts are reused.
    """
    return Analysis(SourceFile(name, text), texts or {}, None if after is None else after.known)
