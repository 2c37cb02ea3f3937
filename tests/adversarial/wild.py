"""Specs at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from tests.adversarial.parts import HEAD, STEM, TAIL, Files

T = TypeVar("T")


class Wild:
    """A spec of pieces put together at random: most are wrong, and some ask for much.

    A piece that was made is often repeated, many times over, for that is what costs.
    """

    NUMBERS = ("0", "1", "2", "3", "64", "200", "1000", "20000", f"{10**18}", "1e308", "0.5", "-1")
    LAYERS = ("norm", "spike", "identity", "dropout(0.5)", "conv(4)", "maxpool(3, stride = 1)")
    BLOCKS = ("basic(4)", "bottleneck(1)", "basic(4, stride = 1)")
    CONNECTIONS = ("origin", "pa_a", "sew", "ms", "dense_layer", "tdbn")
    RULES = ("chain", "densely_additive", "densely_concatenated", "window(3)", "powers_of_two")
    NEURONS = ("IF", "LIF", "PLIF", "ReLU", "LIF(tau = 4.0)")

    def __init__(self, random: Random, size: int) -> None:
        self.random = random
        self.size = size
        self.names: dict[str, list[str]] = {}

    def text(self) -> str:
        kinds = (self.network, self.block, self.backbone, self.connection, self.rule, self.neuron)
        parts = ["use std"]
        while sum(map(len, parts)) < self.size // 2:
            part = self.pick(kinds)()
            copies = self.random.choice((1, 1, 1, 3, 30, 300))
            for _ in range(copies):
                if sum(map(len, parts)) + len(part) < self.size:
                    name = f"n{len(parts)}"
                    parts.append(part.replace("NAME", name))
                    self.names.setdefault(part.split()[0], []).append(name)
        return "\n".join(parts)

    def pick(self, choices: Sequence[T]) -> T:
        return self.random.choice(choices)

    def one_of(self, kind: str, known: Sequence[str]) -> str:
        own = self.names.get(kind, [])
        return self.pick(own) if own and self.random.random() < 0.6 else self.pick(known)

    def often(self, make: Callable[[], str], join: str) -> str:
        """One piece many times, or many pieces."""
        count = self.random.choice((1, 1, 2, 3, 10, 60))
        first = make()
        count = min(count, 1 + 2000 // len(first))
        if self.random.random() < 0.5:
            return join.join([first] * count)
        return join.join([first, *(make() for _ in range(min(count, 4) - 1))])

    def number(self, depth: int = 0, names: Sequence[str] = ()) -> str:
        match self.random.randrange(8 if depth < 5 else 2):
            case 0:
                return self.pick(self.NUMBERS)
            case 1 if names:
                return self.pick(names)
            case 2:
                return f"({self.often(lambda: self.number(depth + 1, names), ' + ')})"
            case 3:
                return f"max({self.often(lambda: self.number(depth + 1, names), ', ')}, 1)"
            case 4:
                then, test, other = (self.number(depth + 1, names) for _ in range(3))
                return f"({then} if {test} > 0 else {other})"
            case 5:
                return f"({self.number(depth + 1, names)} * {self.number(depth + 1, names)})"
            case 6:
                return f"floor({self.number(depth + 1, names)} / 2)"
            case _:
                return self.pick(("1", "2", "4", "8", "40", "300"))

    def layer(self, depth: int = 0) -> str:
        match self.random.randrange(6 if depth < 4 else 3):
            case 0:
                return self.pick(self.LAYERS)
            case 1:
                width = self.pick(("4", "4", "4", self.number(3)))
                return f"conv({width}, kernel = {self.pick((1, 3))})"
            case 2:
                return self.one_of("neuron", self.NEURONS)
            case 3:
                return f"({self.often(lambda: self.layer(depth + 1), ' -> ')})"
            case 4:
                return self.one_of("block", self.LAYERS)
            case _:
                return self.stages(depth + 1)

    def stages(self, depth: int = 0) -> str:
        match self.random.randrange(5 if depth < 4 else 2):
            case 0:
                return f"stage({self.one_of('block', self.BLOCKS)}, {self.number(3)})"
            case 1:
                return self.one_of("backbone", ("resnet18", "densenet121", "resnet152"))
            case 2:
                return f"({self.often(lambda: self.stages(depth + 1), ' -> ')})"
            case 3:
                return f"({self.stages(depth + 1)})[0 .. {self.pick(('0', '0', '1', '3'))}]"
            case _:
                neuron = self.one_of("neuron", self.NEURONS)
                return f"({self.stages(depth + 1)}) with (neuron = {neuron})"

    def wired(self) -> str:
        connection = self.one_of("connection", self.CONNECTIONS)
        return f"({self.stages()}) via {connection} by {self.one_of('rule', self.RULES)}"

    def definitions(self, value: Callable[[Sequence[str]], str], first: str) -> tuple[str, str]:
        """Lines that read the lines before them, and the last of their names."""
        names = [first]
        lines = []
        for i in range(self.random.choice((1, 3, 20, 100))):
            lines.append(f"a{i} = {value(names[-2:])}")
            names.append(f"a{i}")
        return "\n".join(lines), names[-1]

    def flow(self, names: Sequence[str]) -> str:
        a, b = names[0], names[-1]
        joined = self.pick((f"({a} + {b})", f"max({a}, {b})", f"((1 - {a}) * {b})", b))
        return f"{joined} -> {self.layer(2)}"

    def network(self) -> str:
        if self.names.get("network") and self.random.random() < 0.3:
            return (
                f"network NAME = {self.pick(self.names['network'])} {{ steps = {self.number(3)} }}"
            )
        if self.random.random() < 0.5:
            return f"network NAME {{ {STEM}; stages = {self.wired()}; {TAIL} }}"
        lines, last = self.definitions(self.flow, "in")
        return f"network NAME {{ {HEAD}\n{lines}\nout = {last} }}"

    def block(self) -> str:
        count = self.random.choice((0, 1, 20))
        params = ", ".join(f"p{i} = {self.number(3)}" for i in range(count))
        lines, last = self.definitions(self.flow, "in")
        return f"block NAME({params}) {{ {lines}\nout = {last} }}"

    def backbone(self) -> str:
        return f"backbone NAME(x = {self.stages()}, y = {self.stages(3)}) = {self.stages()}"

    def connection(self) -> str:
        each = f"{self.often(lambda: self.pick(self.LAYERS), ' -> ')} -> conv"
        out = f"(branch + shortcut) -> {self.layer(3)}"
        return f"connection NAME {{ each = {each}; projection = conv; out = {out} }}"

    def term(self, depth: int = 0, names: Sequence[str] = ("i", "n")) -> str:
        match self.random.randrange(4 if depth < 5 else 2):
            case 0:
                return f"out[max(0, min(i - 1, {self.number(3, names)}))]"
            case 1:
                return f"out[0 .. {self.pick(('i - 1', 'max(0, i - 2)'))}]"
            case 2:
                name = f"j{depth}"
                inner = self.term(depth + 1, (*names, name)).replace("out[0 ..", "in[0 ..")
                test = self.number(3, (*names, name))
                return f"sum({inner} for {name} in 0 .. {self.number(3, names)} if {test} > 0)"
            case _:
                join = self.pick(("sum", "max", "concat"))
                return f"{join}({self.often(lambda: self.term(depth + 1, names), ', ')})"

    def rule(self) -> str:
        return (
            f"rule NAME {{ in[i] = sum({self.term()}); result = sum({self.term()}, out[n - 1]) }}"
        )

    def equation(self, names: Sequence[str]) -> str:
        a, b = names[0], names[-1]
        return self.pick(
            (f"{a} * {b} + x", f"exp({a}) - {b}", f"max({a}, {b})", f"heaviside({a} - {b})",
             f"{a} if {b} > x else {b}", f"sigmoid({a} * {b})", f"{b} / ({a} * {a} + 1)")
        )  # fmt: skip

    def neuron(self) -> str:
        states = self.random.choice((0, 1, 5, 50))
        lines, last = self.definitions(self.equation, "x")
        first = "".join(f"state u{i} = 0.5\n" for i in range(states))
        after = "".join(f"u{i} = u{(i + 1) % states} + {last}\n" for i in range(states))
        reads = "".join(f" + u{i}" for i in range(states))
        return f"neuron NAME {{ {first}{lines}\ns = heaviside({last}{reads})\n{after} }}"


def wild(seed: int, size: int) -> Files:
    """A spec at random, the same for each seed."""
    return {"main.danet": Wild(Random(seed), size).text()}
