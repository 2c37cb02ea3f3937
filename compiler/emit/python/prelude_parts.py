"""The layers that ``model.py`` may be made of: their texts, and what each of them needs.

Those of ``prelude`` are written for ``model.py``: the runtime has the same arithmetic as operators of
torch. All others are the runtime's own layers, copied without what serves the runtime alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib.resources import files

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


class Prelude:
    """The definitions by name, in order."""

    def __init__(self) -> None:
        self.source: dict[str, str] = {}
        self.needs: dict[str, set[str]] = {}
        self.parameters: dict[str, tuple[str, ...]] = {}
        self.imports: dict[str, str] = {}
        self.first: set[str] = set()
        for package, module, names in SOURCES:
            text: str = files(package).joinpath(f"{module}.py").read_text("utf-8")
            for item in ast.parse(text).body:
                match item:
                    case ast.Import() | ast.ImportFrom() if package == PRELUDE:
                        line = ast.unparse(item)
                        if "danetc" not in line:
                            self.imports.update((alias.name, line) for alias in item.names)
                    case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                        if names is None or name in names:
                            self._add(name, text, item)
                    case ast.Assign(targets=[ast.Name(id=name)]):
                        self._add(name, text, item)
            if module == _FIRST:
                self.first = {*self.source}
        del self.source["Model"]  # stands for what is written

    def _add(self, name: str, text: str, item: ast.ClassDef | ast.FunctionDef | ast.Assign) -> None:
        self.source[name] = _standalone(text, item)
        if isinstance(item, ast.FunctionDef):
            self.parameters[name] = tuple(arg.arg for arg in item.args.args)
        parts = ast.walk(ast.parse(self.source[name]))
        self.needs[name] = {part.id for part in parts if isinstance(part, ast.Name)}

    def framed(self, name: str, target: str, rank: int) -> None:
        """Add the class ``name``: a module of torch that is applied to each frame."""
        rest = ": ..." if rank == 3 else f":\n    rank = {rank}"
        added = f"class {name}(Frames, nn.{target}){rest}"
        after = [*self.source].index("Frames") + 1
        items = [*self.source.items()]
        self.source = dict([*items[:after], (name, added), *items[after:]])
        self.needs[name] = {"Frames"}
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
