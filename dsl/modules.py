"""A file with the names that it sees, and declarations with the file they stand in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from danetc.dsl.record import record
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration, Program, Use, called


@record
class Resolved:
    """A declaration and the module it stands in, where its own names are looked up."""

    declaration: Declaration
    module: Module

    @property
    def base(self) -> Resolved | None:
        """What a network is a variant of."""
        name = called(self.declaration.value) if self.declaration.kind == "network" else None
        return self.module.names.get(name.id) if name is not None else None

    def lineage(self) -> Iterator[Resolved]:
        """A network, what it is a variant of, and so on; each once, should they go in a circle."""
        level: Resolved | None = self
        seen: set[int] = set()
        while level is not None and id(level.declaration) not in seen:
            seen.add(id(level.declaration))
            yield level
            level = level.base


@record(slots=False, eq=False)
class Module:
    """A file and all names that it sees, its own and those it uses. ``read`` gives its tree.

    ``places`` says where its own declarations are named. ``lost`` are names that an error, already
    reported, has kept out. ``complete`` is False where such an error (a syntax error, a missing file)
    may have lost any name. ``imports`` are the names that each `use` of the file brings.
    """

    source: SourceFile
    read: Callable[[], Program]
    names: Mapping[str, Resolved]
    own: Mapping[str, Declaration]
    places: Mapping[str, Span]
    lost: frozenset[str] = frozenset()
    complete: bool = True
    imports: tuple[tuple[Use, frozenset[str]], ...] = ()

    @cached_property
    def program(self) -> Program:
        return self.read()

    def resolve(self, name: str) -> Resolved:
        """A declaration of its own."""
        return Resolved(self.own[name], self)

    def declaration_at(self, span: Span) -> Span:
        """The declaration that a place stands in; the place itself where that is in none."""
        number = bisect_right(self._starts, span.start) - 1
        if span.source is not self.source or number < 0:
            return span
        item = self.program.items[number].span
        return item if span.start < item.end else span

    @cached_property
    def _starts(self) -> list[int]:
        return [item.span.start for item in self.program.items]

    def excuses(self, name: str) -> bool:
        """Whether an error that is already reported explains that a name is unknown here."""
        return not self.complete or name in self.lost
