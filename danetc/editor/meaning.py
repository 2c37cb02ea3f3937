"""What a name can mean, and where one stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from danetc.dsl.modules import Resolved
from danetc.dsl.recipe.value_types import SCHEDULED_OPERATIONS
from danetc.dsl.syntax.source import Span


@dataclass(frozen=True)
class Meaning:
    """What a name means.

    ``kind`` is that of a declaration; or ``parameter``, ``line``, ``state``, ``variable``, ``phase``,
    which a file defines at ``place``; or what the language has: ``word`` (also what a place knows,
    as `in`), ``network setting``, ``setting`` and ``item`` of recipes, ``operation``, ``function``,
    ``neuron function``, ``first weights``, ``choice`` (a word as an argument), ``argument`` of the
    call ``owner``, ``library``. ``owner`` of what stands in a declaration is that declaration's name.
    """

    kind: str
    name: str
    place: Span | None = None
    owner: str = ""
    resolved: Resolved | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the same thing, in whatever file and reading of it a name stands."""
        at = None if self.place is None else (self.place.source.name, self.place.start)
        return (self.name, at) if at else (self.kind, self.name, self.owner)


@dataclass(frozen=True)
class Occurrence:
    """A name in the text of a file. ``defines`` where it gets its meaning there."""

    span: Span
    meaning: Meaning
    defines: bool = False


@dataclass(frozen=True)
class Names:
    """What names mean where an expression stands, nearest first."""

    what: str
    local: Mapping[str, Meaning]
    lines: Mapping[str, Meaning] = field(default_factory=dict)


def declared(resolved: Resolved) -> Meaning:
    """What the name of a declaration means."""
    item = resolved.declaration
    return Meaning(item.kind, item.name, item.name_span, resolved=resolved)


def changed_part(name: str) -> Meaning:
    """What has a parameter that a recipe changes: a setting of the network, or an operation."""
    kind = "operation" if name in SCHEDULED_OPERATIONS else "network setting"
    return Meaning(kind, name)
