"""The layers that ``model.py`` may be made of: their texts, and what each of them needs.

Those of ``prelude`` are written for ``model.py``: the runtime has the same arithmetic as operators of
torch. All others are the runtime's own layers, copied without what serves the runtime alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from danetc.dsl.record import record

PRELUDE = "danetc.compiler.emit.python.prelude"
LAYERS = "danetc.runtime.layers"
SOURCES: tuple[tuple[str, str, frozenset[str] | None], ...] = (
    (PRELUDE, "frames", None),
    (PRELUDE, "norms", None),
    (PRELUDE, "layers", None),
    (LAYERS, "norm", frozenset({"BorderedBatchNorm2d", "RunningMean", "ChannelLayerNorm"})),
    (LAYERS, "learnt", None),
    (
        LAYERS,
        "time",
        frozenset({"Delay", "SampleDropout", "TimeConv", "TimeLinear", "MaskedTimeLinear"}),
    ),
    (LAYERS, "attention", frozenset({"tokens", "band"})),
    (LAYERS, "axes", None),
    (PRELUDE, "loading", None),
)
"""Files in the order in which a model has their definitions: package, module, and which (None: all)."""
_FIRST = "frames"  # the module whose definitions stand before the network; others stand behind it
_RUNTIME_BASES = frozenset({"Leaf", "ReadsWhatItMoves"})
_RUNTIME_METHODS = frozenset({"advance", "at", "extra_repr"})


@record
class _Definition:
    """``needs`` are the names in it; ``parameters`` those of a function; ``first``: before the network."""

    text: str
    needs: frozenset[str]
    parameters: tuple[str, ...]
    first: bool


class Prelude:
    """The definitions by name, in order."""

    def __init__(self) -> None:
        definitions, self.imports = _read()
        self.source = {name: item.text for name, item in definitions.items()}
        self.needs = {name: item.needs for name, item in definitions.items()}
        self.parameters = {name: item.parameters for name, item in definitions.items()}
        self.first = {name for name, item in definitions.items() if item.first}

    def framed(self, name: str, target: str, rank: int) -> None:
        """Add the class ``name``: a module of torch that is applied to each frame."""
        rest = ": ..." if rank == 3 else f":\n    rank = {rank}"
        added = f"class {name}(Frames, nn.{target}){rest}"
        after = [*self.source].index("Frames") + 1
        items = [*self.source.items()]
        self.source = dict([*items[:after], (name, added), *items[after:]])
        self.needs[name] = frozenset({"Frames"})
        self.first.add(name)

    def chosen(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """The texts of ``names`` and what they need: what stands before the network, and behind."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in self.source and name not in found:
                found.add(name)
                todo += self.needs[name]
        order = [name for name in self.source if name in found]
        layers = [self.source[name] for name in order if name in self.first]
        return _grouped(layers), [self.source[name] for name in order if name not in self.first]


@cache
def _read() -> tuple[Mapping[str, _Definition], Mapping[str, str]]:
    """All definitions, and the lines that import what they use, by the names imported."""
    found: dict[str, _Definition] = {}
    imports: dict[str, str] = {}
    for package, module, names in SOURCES:
        text: str = files(package).joinpath(f"{module}.py").read_text("utf-8")
        for item in ast.parse(text).body:
            match item:
                case ast.Import() | ast.ImportFrom():
                    line = ast.unparse(item)
                    if "danetc" not in line:
                        for alias in item.names:
                            imports[alias.name] = min(line, imports.get(alias.name, line), key=len)
                case (
                    ast.ClassDef(name=name)
                    | ast.FunctionDef(name=name)
                    | ast.Assign(targets=[ast.Name(id=name)])
                ) if names is None or name in names:
                    found[name] = _definition(_standalone(text, item), module == _FIRST)
    del found["Model"]  # stands for what is written
    return found, imports


def _definition(text: str, first: bool) -> _Definition:
    (item,) = ast.parse(text).body
    needs = frozenset(part.id for part in ast.walk(item) if isinstance(part, ast.Name))
    parameters = item.args.args if isinstance(item, ast.FunctionDef) else []
    return _Definition(text, needs, tuple(arg.arg for arg in parameters), first)


def _standalone(text: str, item: ast.ClassDef | ast.FunctionDef | ast.Assign) -> str:
    """The text of a definition, without the bases and methods that serve the runtime alone."""
    lines = text.split("\n")
    assert item.end_lineno is not None
    if not isinstance(item, ast.ClassDef):
        return "\n".join(lines[item.lineno - 1 : item.end_lineno])
    bases = [ast.unparse(base) for base in item.bases]
    if not _RUNTIME_BASES.isdisjoint(bases):
        kept = [base for base in bases if base not in _RUNTIME_BASES] or ["nn.Module"]
        lines[item.lineno - 1] = f"class {item.name}({', '.join(kept)}):"
    left_out: set[int] = set()
    for part in item.body:
        if isinstance(part, ast.FunctionDef) and part.name in _RUNTIME_METHODS:
            assert part.end_lineno is not None
            left_out |= {*range(part.lineno - 2, part.end_lineno)}  # with the empty line before
    own = range(item.lineno - 1, item.end_lineno)
    return "\n".join(lines[number] for number in own if number not in left_out)


def _grouped(texts: list[str]) -> list[str]:
    """The texts, with classes of one line together."""
    short = [text for text in texts if "\n" not in text]
    return [*(text for text in texts if "\n" in text), *(["\n".join(short)] if short else [])]
