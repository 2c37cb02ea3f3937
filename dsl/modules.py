"""Modules: files, their declarations and the names visible in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from danetc.dsl.record import record
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration, Program, Use, called

NETWORK = "network "
"""Prefix of the key of a network that shares its name with a declaration of another kind."""


@record
class Resolved:
    """A declaration, and the module in which its names are looked up."""

    declaration: Declaration
    module: Module

    @property
    def base(self) -> Resolved | None:
        """Network of which this one is a variant, or None."""
        name = called(self.declaration.value) if self.declaration.kind == "network" else None
        return self.module.network(name.id) if name is not None else None

    def lineage(self) -> Iterator[Resolved]:
        """Iterate over a network and its bases, up to the first repetition in a cycle."""
        level: Resolved | None = self
        seen: set[int] = set()
        while level is not None and id(level.declaration) not in seen:
            seen.add(id(level.declaration))
            yield level
            level = level.base


@record(slots=False, eq=False)
class Module:
    """A file and all names visible in it: its own and those it imports.

    A network may have the name of a block, a neuron and the like; its key then begins with ``NETWORK``.
    ``lost`` contains the names that a reported error hides; ``complete`` is False if an error (a
    syntax error, a missing file) may hide any name. ``imports`` lists the names of each `use`.
    """

    source: SourceFile
    read: Callable[[], Program]
    names: Mapping[str, Resolved]
    own: Mapping[str, Declaration]
    lost: frozenset[str] = frozenset()
    complete: bool = True
    imports: tuple[tuple[Use, frozenset[str]], ...] = ()

    @cached_property
    def program(self) -> Program:
        return self.read()

    def resolve(self, name: str) -> Resolved:
        """Return a declaration of this file."""
        return Resolved(self.own[name], self)

    def declares(self, item: Declaration) -> bool:
        """True if a name of this file stands for a declaration of it, which is not a duplicate."""
        return any(self.own.get(key) is item for key in (item.name, NETWORK + item.name))

    def network(self, name: str) -> Resolved | None:
        """Return the network of a name, or what else has the name; None if nothing has it."""
        return self.names.get(NETWORK + name) or self.names.get(name)

    def declaration_at(self, span: Span) -> Span:
        """Return the span of the declaration that contains a span, or the span itself."""
        items = self.program.items if span.source is self.source else ()
        within = (it.span for it in items if it.span.start <= span.start < it.span.end)
        return next(within, span)

    def excuses(self, name: str) -> bool:
        """True if a reported error explains why a name is unknown."""
        return not self.complete or name in self.lost
