"""What is known of a text, worked out once and asked by every service."""

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
    """A text with what follows from it; each part is worked out when it is first asked for.

    ``texts`` stand in place of files that it uses, by their real paths. ``earlier`` is what was known
    of the file before an edit.
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
        """The file with the names that it sees; None where reading it came to a bound."""
        return self._checking.read()

    @cached_property
    def survey(self) -> Survey:
        """What the check has found: errors, and the values of the networks."""
        return self._checking.survey(self.earlier)

    @property
    def known(self) -> Survey | None:
        """What has been found by now, of this text or of an earlier one."""
        found = self.__dict__.get("survey", self.earlier)
        assert found is None or isinstance(found, Survey)
        return found

    @cached_property
    def program(self) -> Program:
        """The tree, without what syntax errors kept out."""
        module = self.module
        return parse(self.source, Reporter()) if module is None else module.program

    @cached_property
    def meanings(self) -> Meanings | None:
        """What the names of the file mean; None where it came to a bound."""
        return None if self.module is None else Meanings(self.module)

    @cached_property
    def scanned(self) -> Scan:
        """All tokens, the last of which is the end."""
        return scan(self.source)

    @cached_property
    def _ends(self) -> list[int]:
        return [token.end for token in self.scanned.tokens]

    def token_at(self, offset: int) -> int:
        """The index of the first token that ends behind an offset; the last is the end of the file."""
        return min(bisect_right(self._ends, offset), len(self._ends) - 1)

    @cached_property
    def brackets(self) -> Brackets:
        """Which bracket belongs to which, by the indices of tokens."""
        return pair(self.scanned.tokens)

    @cached_property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All errors, or, where there is none, all warnings; of this file and of those it uses."""
        checked = self.survey.checked
        return self.survey.errors if checked is None else warnings_of(checked)


def analyse(
    text: str,
    name: str = "untitled.danet",
    texts: Mapping[str, str] | None = None,
    after: Analysis | None = None,
) -> Analysis:
    """Begin to read a text. Never raises for what it says.

    ``name`` is the path of its file, from which what it uses is found. ``texts`` are those of other
    files as an editor has them, by their real paths; what is not there is read from disk. ``after`` is
    the file before an edit, of which what the edit left alone is not worked out again.
    """
    return Analysis(SourceFile(name, text), texts or {}, None if after is None else after.known)
