"""The definitions of prelude.py by name, and what each of them needs."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib.resources import files


class Prelude:
    """The layers that a standalone model may be made of, as text."""

    def __init__(self) -> None:
        text: str = files("danetc.compiler.emit.python").joinpath("prelude.py").read_text("utf-8")
        lines = text.split("\n")
        self.source: dict[str, str] = {}
        self.needs: dict[str, set[str]] = {}
        self.parameters: dict[str, tuple[str, ...]] = {}
        self.imports: dict[str, str] = {}
        for item in ast.parse(text).body:
            source = "\n".join(lines[item.lineno - 1 : item.end_lineno])
            match item:
                case ast.Import() | ast.ImportFrom() if getattr(item, "module", "") != "__future__":
                    self.imports.update((alias.name, source) for alias in item.names)
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    self._add(name, source, item)
                case ast.Assign(targets=[ast.Name(id=name)]):
                    self._add(name, source, item)

        del self.source["Model"]  # stands for what is written

    def _add(self, name: str, source: str, item: ast.AST) -> None:
        self.source[name] = source
        for part in ast.walk(item):
            if isinstance(part, ast.FunctionDef) and part.name in ("__init__", name):
                own = 0 if part.name == name else 1  # without self
                self.parameters[name] = tuple(arg.arg for arg in part.args.args[own:])
        self.needs[name] = {part.id for part in ast.walk(item) if isinstance(part, ast.Name)}

    def framed(self, name: str, target: str, rank: int) -> None:
        """Add the class ``name``: a module of torch that is applied to each frame."""
        rest = ": ..." if rank == 3 else f":\n    rank = {rank}"
        added = f"class {name}(Frames, nn.{target}){rest}"
        after = [*self.source].index("Frames") + 1
        items = [*self.source.items()]
        self.source = dict([*items[:after], (name, added), *items[after:]])
        self.needs[name] = {"Frames"}

    def chosen(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """The texts of ``names`` and what they need: the layers, and what can stand last."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in self.source and name not in found:
                found.add(name)
                todo += self.needs[name]
        order = [name for name in self.source if name in found]
        at = [*self.source].index("starting_at")
        late = {*[*self.source][at:]}
        layers = [self.source[name] for name in order if name not in late]
        return _grouped(layers), [self.source[name] for name in order if name in late]


def _grouped(texts: list[str]) -> list[str]:
    """The texts, with classes of one line together."""
    short = [text for text in texts if "\n" not in text]
    return [*(text for text in texts if "\n" in text), *(["\n".join(short)] if short else [])]
