"""Modules, which are files with the names that are visible in them, and their declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from danetc.dsl.record import record
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration, Program, Use, called


@record
class Resolved:
    """A declaration and its module, where its names are looked up."""

    declaration: Declaration
    module: Module

    @property
    def base(self) -> Resolved | None:
        """Network that this one is a variant of."""
        name = called(self.declaration.value) if self.declaration.kind == "network" else None
        return self.module.names.get(name.id) if name is not None else None

    def lineage(self) -> Iterator[Resolved]:
        """Iterate over a network and its bases; a circle ends the iteration."""
        level: Resolved | None = self
        seen: set[int] = set()
        while level is not None and id(level.declaration) not in seen:
            seen.add(id(level.declaration))
            yield level
            level = level.base


@record(slots=False, eq=False)
class Module:
    """A file and all names that it sees, its own and those it uses.

    ``places`` are those of the names of its declarations. ``lost`` are names that a reported error
    hides; ``complete`` is False if such an error (a syntax error, a missing file) may hide any name.
    ``imports`` are the names that each `use` brings.
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
        """Return a declaration of this file."""
        return Resolved(self.own[name], self)

    def declaration_at(self, span: Span) -> Span:
        """Return the span of the declaration that contains a place, or else the place itself."""
        items = self.program.items if span.source is self.source else ()
        within = (it.span for it in items if it.span.start <= span.start < it.span.end)
        return next(within, span)

    def excuses(self, name: str) -> bool:
        """True if a reported error explains that a name is unknown here."""
        return not self.complete or name in self.lost
