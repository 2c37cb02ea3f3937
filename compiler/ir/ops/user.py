"""Row of the table: layers that users write in Python.

Only their declared shape and kind are known: their code is not read before the network is built.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from danetc.compiler.ir.graph import Attribute, Graph, Node, Shape
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import Op, OpError, Parameter, Site, TorchModule, integer
from danetc.compiler.ir.ops.shapes import UNKNOWN
from danetc.dsl.diagnostics.diagnostic import Diagnostic, SpecError
from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.errors import UserError
from danetc.dsl.kinds import ANALOG, SPIKE, Kind

PLACE = re.compile(r"[^\x00-\x1f]+\.py:[^\W\d]\w*")
"""File and class of a layer in Python."""
SIZES = ("width", "rows", "columns")


def extents(shape: Shape) -> str:
    """Return the text of a shape in the attributes of a layer: ``8x4x4``."""
    return "x".join(map(str, shape))


def _shape(attrs: Attrs, values: Values) -> Shape:
    """The declared shape, by default that of the input."""
    like, sizes = attrs["like"], [attrs[name] for name in SIZES]
    base: tuple[Attribute, ...] = values[0].shape
    if like is not None:
        base = tuple(UNKNOWN if size == "?" else int(size) for size in str(like).split("x"))
    if sizes[1:] != [None, None] and len(base) == 1:
        base = (*base, None, None)
    found = [own if size is None else size for own, size in zip(base, sizes, strict=False)]
    if None in found:
        raise OpError("python: a vector becomes a map if both `rows` and `columns` are given")
    return values[0].shape if like is None and sizes == [None] * 3 else tuple(found)  # type: ignore[arg-type]


def _kind(attrs: Attrs, values: Values) -> Kind:
    """As declared: real numbers, or spikes."""
    return SPIKE if attrs["gives"] == "spikes" else ANALOG


def _emit(at: Site) -> TorchModule:
    args = (at["place"], extents(at.value.shape), at["gives"] == "spikes")
    return TorchModule("danetc.compiler.emit.init.user_module", args, json.loads(at["arguments"]))


ROWS = (
    Op(
        "user_module", "layer of a user's Python file", _shape, _kind, _emit,
        (
            Parameter("place", object, "file, relative to the working directory, and class, in quotes"),
            Parameter("like", object, "value whose shape the result has; by default the input", None),
            integer("width", "number of channels of the result", None, high=2**16),
            integer("rows", "number of rows of the result", None, high=2**16),
            integer("columns", "number of columns of the result", None, high=2**16),
            Parameter("gives", str, "kind of the result: real numbers, or spikes (0 or 1)", "analog",
                      words=("analog", "spikes")),
            Parameter("arguments", object, "arguments of the class, as JSON"),
        ),
        public=False, random=True, opaque=True,
        label=lambda attrs: (str(attrs["place"]).rpartition(":")[2], ""),
    ),
)  # fmt: skip


def user_layers(graph: Graph) -> Iterator[Node]:
    """Iterate over the layers in Python."""
    return (node for node in graph.nodes.values() if node.op == ROWS[0].name)


def places_of(graph: Graph) -> list[str]:
    """Return the classes ``FILE.py:NAME`` of the layers in Python, each once."""
    return list(dict.fromkeys(str(node.attrs["place"]) for node in user_layers(graph)))


_ALLOWED: set[tuple[Path, str, bytes]] = set()
"""Names in files that this process may execute, with the digests of the files."""


def _resolved(place: str) -> tuple[Path, str, bytes]:
    file, _, name = place.rpartition(":")
    path = Path(file).expanduser().absolute()
    return path, name, sha256(path.read_bytes() if path.is_file() else b"").digest()


def allow_code(*places: str) -> None:
    """Allow this process to run code that a spec or a directory names, until its file changes.

    ``places`` are files with names in them, as in ``"my.py:Mixer"``. Raises UserError for other texts.
    """
    for place in places:
        if not PLACE.fullmatch(place):
            raise UserError(f"code is allowed by its place, FILE.py:NAME, not {place!r}")
        _ALLOWED.add(_resolved(place))


def is_allowed(place: str) -> bool:
    """Return True if code that a spec or a directory names may run."""
    return _resolved(place) in _ALLOWED


def require_allowed(place: str) -> None:
    """Raise UserError unless code that a spec or a directory names may run."""
    if not is_allowed(place):
        raise UserError(
            f"{visible(place)} is code, which runs only if you name it, and again after each change; if you "
            f"trust it: --allow-code {shlex.quote(visible(place))}, in Python danetc.allow_code({place!r})"
        )


def refuse_code(graph: Graph, why: str, hint: str | None = None) -> None:
    """Raise SpecError at a layer in Python, if there is one; ``why`` continues "..., which"."""
    for node in user_layers(graph):
        message = f"`{node.path}` is a layer in Python, which {why}"
        raise SpecError([Diagnostic("E0508", message, node.origin, hint=hint)])
