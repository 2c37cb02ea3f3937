"""Weights by name, in the order in which a network asks for them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from tests.reference.tape import Array, Var

Path = tuple[str, ...]
Places = tuple[Iterable[str], Iterable[str], Mapping[str, tuple[int, ...]], Mapping[str, str]]


class Weights:
    """Parameters and buffers by name: those of the layer ``stem.conv`` start with its path.

    ``layers`` are the paths of all layers, with weights or without, ``scopes`` those of what holds
    layers: a definition, a block, a stage. ``ties`` lead from the path of a layer of which the state
    has nothing to that of the same layer of which it has. ``shapes`` are those of what loops carry, of a sample at
    one step, by their paths.
    """

    def __init__(self, state: Mapping[str, Array], places: Places) -> None:
        layers, scopes, shapes, ties = places
        self.ties = {plain(name): plain(first) for name, first in ties.items()}
        self.shapes = shapes
        # Python's reserved words have a `_` behind them as attributes, and no name of a spec else.
        self.names = {plain(name): name for name in state}
        self.layers = {plain(name): name for name in layers}
        self.scopes = {plain(name) for name in scopes}
        assert len(self.names) == len(state)
        self.state = state
        self.known: dict[str, Var] = {}
        self.used: dict[str, Var] = {}
        self.multiplied: set[str] = set()  # weights of convolutions and linear layers
        self.starts: dict[str, float] = {}  # of norms and neurons: what is there before training
        self.started: list[str] = []  # their names, each time that one is read
        self.numbers: Counter[tuple[Path, str]] = Counter()
        self.same: dict[Path, Path] = {}  # of layers, those with their weights
        self.again: Counter[Path] = Counter()
        self._places: list[tuple[list[Path], list[Path]]] = []

    @contextmanager
    def at_places_of(self, first: list[Path]) -> Iterator[None]:
        """The layers met inside have the weights of those at these paths, one after the other; where
        there is none yet they are noted there."""
        met: list[Path] = []
        self._places.append((first, met))
        yield
        self._places.pop()
        if not first:
            first += met

    @contextmanager
    def at_own_places(self) -> Iterator[None]:
        """The layers met inside are of a weight: none of those that a shared layer has."""
        places, self._places = self._places, []
        yield
        self._places = places

    def weights_at(self, path: Path) -> Path:
        """The path at which the weights of a layer are."""
        while path in self.same:
            path = self.same[path]
        return self.ties.get(path, path)

    def name(self, path: Path, leaf: str) -> str:
        """What a weight of a layer is called in the state dict."""
        return self.names[(*self.weights_at(path), leaf)]

    def path(self, scope: Path, role: str) -> Path:
        """The path of the next layer of a scope."""
        path = self._next_path(scope, role)
        for first, met in self._places:
            met.append(path)
            if len(met) <= len(first) and first[len(met) - 1] != path:
                self.same.setdefault(path, first[len(met) - 1])
        return path

    def _next_path(self, scope: Path, role: str) -> Path:
        """The path of the next layer of a scope: ``conv`` where it has one, else ``conv1``,
        ``conv2``, ..., those left out that a scope is called by."""
        self.numbers[scope, role] += 1
        if self.numbers[scope, role] == 1 and (*scope, role) in self.layers:
            return (*scope, role)
        while (*scope, f"{role}{self.numbers[scope, role]}") in self.scopes:
            self.numbers[scope, role] += 1
        return (*scope, f"{role}{self.numbers[scope, role]}")

    def take(self, path: Path, leaf: str, *shape: int, start: float | None = None) -> Var:
        name = self.name(path, plain(leaf)[-1])
        value = self.state[name]
        assert value.shape == shape, f"{name} is {value.shape}, not {shape}"
        if start is not None:
            self.starts[name] = start
            self.started.append(name)
        self.used[name] = self.known.setdefault(name, Var(value))
        return self.used[name]

    def next_of(self, path: Path, start: float, *shape: int) -> Var:
        """The next parameter of a layer that was not asked for, in the order in which it has them."""
        names = [name for name in self.state if plain(name)[:-1] == self.weights_at(path)]
        if path in self.same:
            name = names[self.again[path] % len(names)]
            self.again[path] += 1
        else:
            name = next(name for name in names if name not in self.used)
        return self.take(path, plain(name)[-1], *shape, start=start)


def plain(name: str) -> Path:
    """Return the parts of a name without the ``_`` that avoids a name of Python.

    A second number that one line learns ends in ``_learnt_``.
    """
    return tuple(re.sub("(?<!_learnt)_+$", "", part) for part in name.split("."))
