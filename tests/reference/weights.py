"""Weights by name, in the order in which a network reads them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from tests.reference.tape import Array, Var

Path = tuple[str, ...]
Places = tuple[Iterable[str], Iterable[str], Mapping[str, tuple[int, ...]], Mapping[str, str]]


class Weights:
    """Parameters and buffers by name. The names in the layer ``stem.conv`` start with its path.

    ``layers`` are the paths of all layers, with or without weights. ``scopes`` are the paths of the
    definitions, blocks and stages that contain layers. ``ties`` maps the path of a layer without names in
    the state to the path of the same layer in the state. ``shapes`` maps the paths of values that loops
    carry to their shapes, for one sample at one step.
    """

    def __init__(self, state: Mapping[str, Array], places: Places) -> None:
        layers, scopes, shapes, ties = places
        self.ties = {plain(name): plain(first) for name, first in ties.items()}
        self.shapes = shapes
        # Reserved words have a `_` at the end as attributes. No other name of a spec may end in `_`.
        self.names = {plain(name): name for name in state}
        self.layers = {plain(name): name for name in layers}
        self.scopes = {plain(name) for name in scopes}
        assert len(self.names) == len(state)
        self.state = state
        self.known: dict[str, Var] = {}
        self.used: dict[str, Var] = {}
        self.multiplied: set[str] = set()  # weights of convolutions and linear layers
        self.starts: dict[str, float] = {}  # initial values in norms and neurons
        self.started: list[str] = []  # their names, once for each read
        self.numbers: Counter[tuple[Path, str]] = Counter()
        self.same: dict[Path, Path] = {}  # layers with the weights of others
        self.again: Counter[Path] = Counter()
        self._places: list[tuple[list[Path], list[Path]]] = []

    @contextmanager
    def at_places_of(self, first: list[Path]) -> Iterator[None]:
        """The layers inside have the weights of the layers at these paths, in order. If there are no
        paths yet, those of the layers inside are added."""
        met: list[Path] = []
        self._places.append((first, met))
        yield
        self._places.pop()
        if not first:
            first += met

    @contextmanager
    def at_own_places(self) -> Iterator[None]:
        """The layers inside belong to a weight and not to a shared layer."""
        places, self._places = self._places, []
        yield
        self._places = places

    def weights_at(self, path: Path) -> Path:
        """The path that has the weights of a layer."""
        while path in self.same:
            path = self.same[path]
        return self.ties.get(path, path)

    def name(self, path: Path, leaf: str) -> str:
        """The name of a layer's weight in the state dict."""
        return self.names[(*self.weights_at(path), leaf)]

    def path(self, scope: Path, role: str) -> Path:
        """The path of the next layer of a scope, which is recorded for shared layers."""
        path = self._next_path(scope, role)
        for first, met in self._places:
            met.append(path)
            if len(met) <= len(first) and first[len(met) - 1] != path:
                self.same.setdefault(path, first[len(met) - 1])
        return path

    def _next_path(self, scope: Path, role: str) -> Path:
        """The path of the next layer of a scope: ``conv`` if there is one, else ``conv1``,
        ``conv2``, ..., without those that are names of scopes."""
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
        """The next parameter of a layer that was not read yet, in the order of the layer."""
        names = [name for name in self.state if plain(name)[:-1] == self.weights_at(path)]
        if path in self.same:
            name = names[self.again[path] % len(names)]
            self.again[path] += 1
        else:
            name = next(name for name in names if name not in self.used)
        return self.take(path, plain(name)[-1], *shape, start=start)


def plain(name: str) -> Path:
    """Return the parts of a name without the ``_`` that marks a reserved word of Python.

    The second learnt number of a line ends in ``_learnt_``, and this ``_`` stays.
    """
    return tuple(re.sub("(?<!_learnt)_+$", "", part) for part in name.split("."))
