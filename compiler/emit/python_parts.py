"""What a standalone model takes from elsewhere: the prelude's layers, classes of neurons."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from importlib.resources import files

from danetc.compiler.emit.python_names import camel, wrapped
from danetc.dsl.neuron.kernel_text import python_class, round_class, surrogate_class, uses
from danetc.dsl.neuron.program import NeuronProgram, SurrogateProgram


class Prelude:
    """The definitions of prelude.py by name, and what each of them needs."""

    def __init__(self) -> None:
        text: str = files("danetc.compiler.emit").joinpath("prelude.py").read_text("utf-8")
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

    def _add(self, name: str, source: str, item: ast.AST) -> None:
        self.source[name] = source
        for part in ast.walk(item):
            if isinstance(part, ast.FunctionDef) and part.name in ("__init__", name):
                own = 0 if part.name == name else 1  # without self
                self.parameters[name] = tuple(arg.arg for arg in part.args.args[own:])
        self.needs[name] = {part.id for part in ast.walk(item) if isinstance(part, ast.Name)}

    def chosen(self, names: Iterable[str]) -> list[str]:
        """``names`` and what they need, in the order of the file."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in self.source and name not in found:
                found.add(name)
                todo += self.needs[name]
        return [name for name in self.source if name in found]


class Neurons:
    """The classes of neurons and surrogates. ``claim`` gives a free name."""

    def __init__(self, claim: Callable[[str], str]) -> None:
        self.claim = claim
        self.names: dict[str, str] = {}
        self.surrogates: dict[SurrogateProgram, str] = {}
        self.round = ""
        self.texts: list[str] = []

    def name(self, text: str) -> str:
        """The class of a neuron program."""
        if text in self.names:
            return self.names[text]
        program = NeuronProgram.parse(text)
        steps: dict[str, str] = {}
        if program.surrogate is not None:
            spike = self.surrogates.get(program.surrogate, "")
            if not spike:
                spike = self.claim(f"{camel(program.surrogate.name)}Spike")
                self.surrogates[program.surrogate] = spike
                self._add(surrogate_class(program.surrogate, spike))
            steps["heaviside"] = spike
        if uses(program, "round"):
            if not self.round:
                self.round = self.claim("Round")
                self._add(round_class(self.round))
            steps["round"] = self.round
        name = self.claim(camel(program.name))
        self.names[text] = name
        self._add(python_class(program, name, steps))
        return name

    def _add(self, text: str) -> None:
        self.texts.append("\n".join(wrapped(text.split("\n"))))
