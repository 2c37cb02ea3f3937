"""The parse table of ``danet.lark``, which lark builds, stored as JSON for a faster start.

Run ``python -m danetc.dsl.syntax.grammar`` after changing the grammar. If the stored table does not
match the grammar, lark builds the table in memory.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from danetc.dsl.record import record

_STORED = Path(__file__).with_name("danet.table.json")


@record(slots=False)
class ParseTable:
    """An LALR(1) table.

    ``actions[state][terminal]`` is a state to shift to, or ``~rule`` to reduce by; shifting
    ``$END`` accepts. ``gotos[state][nonterminal]`` is the state after a reduction. A rule is its
    nonterminal, its length, the name of its builder ("" passes on the only value) and the places
    of the symbols whose values the builder gets.
    """

    grammar: str  # the text it was built from
    start: int
    actions: tuple[dict[str, int], ...]
    gotos: tuple[dict[str, int], ...]
    rules: tuple[tuple[str, int, str, tuple[int, ...]], ...]
    terminals: tuple[tuple[str, str], ...]  # name and regular expression, in the order of matching
    ignored: frozenset[str]


def grammar_text() -> str:
    return Path(__file__).with_name("danet.lark").read_text("utf-8")


@cache
def table() -> ParseTable:
    """Return the stored table, or build one if the grammar has changed since."""
    text = grammar_text()
    if _STORED.is_file():
        data = json.loads(_STORED.read_text("utf-8"))
        if data["grammar"] == text:
            return _from_json(data)
    return make_table(text)


def make_table(text: str) -> ParseTable:
    """Build the table with lark. The numbers of its states are deterministic."""
    from lark import Lark
    from lark.grammar import Rule
    from lark.lexer import PatternStr, TerminalDef

    lark = Lark(text, parser="lalr", lexer="basic")
    data, memo = lark.memo_serialize([TerminalDef, Rule])  # what `lark.tools.serialize` writes
    made = data["parser"]["parser"]
    first, end = made["start_states"]["start"], made["end_states"]["start"]
    states = {  # by name: whether to reduce, and by which rule; or the state to go to
        number: sorted((made["tokens"][token], *action) for token, action in state.items())
        for number, state in made["states"].items()
    }

    number = {first: 0}
    queue = [first]
    for state in queue:  # breadth first, symbols sorted
        for _, reduces, target in states[state]:
            if not reduces and target not in number:
                number[target] = len(number)
                queue.append(target)

    rules: dict[tuple[str, int, str, tuple[int, ...]], int] = {}
    actions: list[dict[str, int]] = []
    gotos: list[dict[str, int]] = []
    for state in queue:
        actions.append({})
        gotos.append({})
        for symbol, reduces, target in states[state]:
            if reduces:
                rule = memo[target["@"]]
                symbols = rule["expansion"]
                kept = tuple(i for i, each in enumerate(symbols) if not each.get("filter_out"))
                key = (rule["origin"]["name"], len(symbols), rule["alias"] or "", kept)
                actions[-1][symbol] = ~rules.setdefault(key, len(rules))
            elif symbol.islower():
                gotos[-1][symbol] = number[target]
            else:
                actions[-1][symbol] = number[target]
        if state == end:
            actions[-1]["$END"] = number[end]

    terminals = []
    for terminal in lark.terminals:  # lark sorts them by priority and length
        pattern = terminal.pattern.to_regexp()
        is_word = isinstance(terminal.pattern, PatternStr) and terminal.pattern.value.isalpha()
        terminals.append((terminal.name, pattern + r"(?!\w)" if is_word else pattern))
    terminals.sort(key=lambda item: not item[1].endswith(r"(?!\w)") or item[0] == "NAME")
    return ParseTable(
        grammar=text,
        start=0,
        actions=tuple(actions),
        gotos=tuple(gotos),
        rules=tuple(rules),
        terminals=tuple(terminals),
        ignored=frozenset(lark.ignore_tokens),
    )


def dump(made: ParseTable) -> str:
    """Return the table as JSON, with one state or rule on each line."""
    data = asdict(made) | {"ignored": sorted(made.ignored)}
    lines = []
    for name, value in data.items():
        if isinstance(value, tuple | list) and value and not isinstance(value[0], str):
            rows = ",\n ".join(json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f'"{name}": [\n {rows}\n]')
        else:
            lines.append(f'"{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _from_json(data: dict[str, Any]) -> ParseTable:
    return ParseTable(
        data["grammar"],
        data["start"],
        tuple(data["actions"]),
        tuple(data["gotos"]),
        tuple((*rule[:3], tuple(rule[3])) for rule in data["rules"]),
        tuple((name, pattern) for name, pattern in data["terminals"]),
        frozenset(data["ignored"]),
    )


if __name__ == "__main__":
    _STORED.write_text(dump(make_table(grammar_text())), encoding="utf-8", newline="\n")
