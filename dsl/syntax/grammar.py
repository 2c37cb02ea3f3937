"""The parse table of ``danet.lark``: made by lark, kept as JSON, so that a run need not make it.

``python -m danetc.dsl.syntax.grammar`` writes the table anew after a change of the grammar. A table of
another grammar than the one beside it is never used: lark then makes one in memory.
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
    nonterminal, its length and the name of its builder ("" passes the only child on).
    """

    grammar: str  # the text that it was made from
    start: int
    actions: tuple[dict[str, int], ...]
    gotos: tuple[dict[str, int], ...]
    rules: tuple[tuple[str, int, str], ...]
    terminals: tuple[tuple[str, str], ...]  # name and regular expression, in the order of matching
    ignored: frozenset[str]


def grammar_text() -> str:
    return Path(__file__).with_name("danet.lark").read_text("utf-8")


@cache
def table() -> ParseTable:
    """The table: from the file beside the grammar if it was made from it, else by lark."""
    text = grammar_text()
    if _STORED.is_file():
        data = json.loads(_STORED.read_text("utf-8"))
        if data["grammar"] == text:
            return _from_json(data)
    return make_table(text)


def make_table(text: str) -> ParseTable:
    """Let lark build the table. States are numbered anew, in an order that is always the same."""
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

    rules: dict[tuple[str, int, str], int] = {}
    actions: list[dict[str, int]] = []
    gotos: list[dict[str, int]] = []
    for state in queue:
        actions.append({})
        gotos.append({})
        for symbol, reduces, target in states[state]:
            if reduces:
                rule = memo[target["@"]]
                key = (rule["origin"]["name"], len(rule["expansion"]), rule["alias"] or "")
                actions[-1][symbol] = ~rules.setdefault(key, len(rules))
            elif symbol.islower():
                gotos[-1][symbol] = number[target]
            else:
                actions[-1][symbol] = number[target]
        if state == end:
            actions[-1]["$END"] = number[end]

    terminals = []
    for terminal in lark.terminals:  # lark has sorted them: priority, then length
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
    """The table as JSON, one state or rule a line."""
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
        grammar=data["grammar"],
        start=data["start"],
        actions=tuple(data["actions"]),
        gotos=tuple(data["gotos"]),
        rules=tuple((origin, length, builder) for origin, length, builder in data["rules"]),
        terminals=tuple((name, pattern) for name, pattern in data["terminals"]),
        ignored=frozenset(data["ignored"]),
    )


if __name__ == "__main__":
    _STORED.write_text(dump(make_table(grammar_text())), encoding="utf-8", newline="\n")
