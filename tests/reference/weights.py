"""Weights by name, in the order in which a network asks for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from tests.reference.tape import Array, Var


class Weights:
    """Parameters and buffers by name: those of the layer ``stem.conv`` start with its path.

    ``layers`` are the paths of all layers, with weights or without, ``scopes`` those of what holds
    layers: a definition, a block, a stage. ``ties`` lead from the path of a layer of which the state
    has nothing to that of the same layer of which it has. ``shapes`` are those of what loops carry, of a sample at
    one step, by their paths.
    """

    def __init__(
        self,
        state: Mapping[str, Array],
        layers: Iterable[str],
        scopes: Iterable[str],
        shapes: Mapping[str, tuple[int, ...]],
        ties: Mapping[str, str],
    ) -> None:
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
        self.numbers: Counter[tuple[tuple[str, ...], str]] = Counter()
        self.same: dict[
            tuple[str, ...], tuple[str, ...]
        ] = {}  # of layers, those with their weights
        self.again: Counter[tuple[str, ...]] = Counter()
        self._places: list[tuple[list[tuple[str, ...]], list[tuple[str, ...]]]] = []

    @contextmanager
    def at_places_of(self, first: list[tuple[str, ...]]) -> Iterator[None]:
        """The layers met inside have the weights of those at these paths, one after the other; where
        there is none yet they are noted there."""
        met: list[tuple[str, ...]] = []
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

    def weights_at(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """The path at which the weights of a layer are."""
        while path in self.same:
            path = self.same[path]
        return self.ties.get(path, path)

    def name(self, path: tuple[str, ...], leaf: str) -> str:
        """What a weight of a layer is called in the state dict."""
        return self.names[(*self.weights_at(path), leaf)]

    def path(self, scope: tuple[str, ...], role: str) -> tuple[str, ...]:
        """The path of the next layer of a scope."""
        path = self._next_path(scope, role)
        for first, met in self._places:
            met.append(path)
            if len(met) <= len(first) and first[len(met) - 1] != path:
                self.same.setdefault(path, first[len(met) - 1])
        return path

    def _next_path(self, scope: tuple[str, ...], role: str) -> tuple[str, ...]:
        """The path of the next layer of a scope: ``conv`` where it has one, else ``conv1``,
        ``conv2``, ..., those left out that a scope is called by."""
        self.numbers[scope, role] += 1
        if self.numbers[scope, role] == 1 and (*scope, role) in self.layers:
            return (*scope, role)
        while (*scope, f"{role}{self.numbers[scope, role]}") in self.scopes:
            self.numbers[scope, role] += 1
        return (*scope, f"{role}{self.numbers[scope, role]}")

    def take(
        self, path: tuple[str, ...], leaf: str, *shape: int, start: float | None = None
    ) -> Var:
        name = self.name(path, plain(leaf)[-1])
        value = self.state[name]
        assert value.shape == shape, f"{name} is {value.shape}, not {shape}"
        if start is not None:
            self.starts[name] = start
            self.started.append(name)
        self.used[name] = self.known.setdefault(name, Var(value))
        return self.used[name]

    def next_of(self, path: tuple[str, ...], start: float, *shape: int) -> Var:
        """The next parameter of a layer that was not asked for, in the order in which it has them."""
        if path in self.same:
            names = [name for name in self.state if plain(name)[:-1] == self.weights_at(path)]
            self.again[path] += 1
            return self.take(
                path, plain(names[(self.again[path] - 1) % len(names)])[-1], *shape, start=start
            )
        for name in self.state:
            if plain(name)[:-1] == self.weights_at(path) and name not in self.used:
                return self.take(path, plain(name)[-1], *shape, start=start)
        raise AssertionError(f"nothing more is learnt by {'.'.join(path)}")


def plain(name: str) -> tuple[str, ...]:
    """Return the parts of a name without the ``_`` that avoids a name of Python.

    A second number that one line learns ends in ``_learnt_``.
    """
    return tuple(re.sub("(?<!_learnt)_+$", "", part) for part in name.split("."))
