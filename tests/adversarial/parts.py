"""The table of the specs, and what they are put together from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Files = Mapping[str, str]
Make = Callable[[int], str | Files]

HEAD = "input = image(3, 8, 8); steps = 2; neuron = IF; surrogate = sigmoid"
STEM = f"{HEAD}; stem = conv(4) -> norm"
TAIL = "head = avgpool -> mean_over_time -> linear(10)"
BIG = " -> ".join(["stage(basic(4), 1)"] * 1_000)
SPECS: dict[str, Callable[[int], Files]] = {}


def spec(make: Make) -> Make:
    """Add a function to the table, under its name."""

    def files(size: int) -> Files:
        made = make(size)
        return {"main.danet": made} if isinstance(made, str) else made

    SPECS[make.__name__] = files
    return make


def filled(size: int, line: Callable[[int], str], join: str = "\n") -> str:
    """As many lines as nine tenths of the size hold."""
    parts: list[str] = []
    length = 0
    while length < size * 9 // 10:
        parts.append(line(len(parts)))
        length += len(parts[-1]) + len(join)
    return join.join(parts)


def times(size: int, text: str) -> str:
    """A text as often as nine tenths of the size hold."""
    return text * (size * 9 // 10 // len(text))


def network(body: str, name: str = "n", params: str = "") -> str:
    return f"network {name}{params} {{ {HEAD}\n{body}\n}}\n"


def staged(stages: str, name: str = "n") -> str:
    return f"network {name} {{ {STEM}; stages = {stages}; {TAIL} }}\n"


def doubled(word: str, first: str, count: int) -> str:
    """Definitions a0 ... aN, each of the one before by a word that names it twice."""
    lines = [f"a0 = {first}"]
    lines += [f"a{i} = {word.format(f'a{i - 1}')}" for i in range(1, count + 1)]
    return "\n".join(lines)
