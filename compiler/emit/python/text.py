"""Text of generated Python: constants, modules, classes, and lines that fit the page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from danetc.compiler.emit.names import attribute, is_plain

WIDTH = 100
_STRING = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""")
_STATEMENT = re.compile(r"(\s*(?:return|[\w., ]+ =) )(.+)")


def constant(value: object) -> str:
    """Return the ASCII text of a constant."""
    text = ascii(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) and '"' not in text else text


def child(holder: str, part: str) -> str:
    """Return the expression that reads the child ``part``, as named in the spec, of ``holder``."""
    if part.isdecimal() and part.isascii():
        return f"{holder}[{int(part)}]"
    part = attribute(part)
    return f"{holder}.{part}" if is_plain(part) else f"getattr({holder}, {constant(part)})"


def sequence(items: Iterable[str]) -> str:
    """Return items separated by commas."""
    return ", ".join(items)


def signature(name: str, parameters: Iterable[str], result: str) -> str:
    """Return the first line of a method."""
    return f"def {name}({sequence(['self', *parameters])}) -> {result}:"


def indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def method(head: str, body: Iterable[str]) -> list[str]:
    return [head, *indented(body)]


def class_(title: str, base: str, doc: str, methods: Sequence[Sequence[str]]) -> str:
    """Return the text of a class."""
    lines = [f"class {title}({base}):"]
    lines.append(f'    """{doc}"""')
    for each in methods:
        lines += ["", *(part for line in indented(each) for part in wrapped(line))]
    return "\n".join(lines)


def wrapped(line: str) -> Iterator[str]:
    """Break a line that is too long inside its outermost brackets."""
    indent = line[: len(line) - len(line.lstrip())]
    inner = f"{indent}    "
    start, end = _outermost(line) if len(line) > WIDTH else (0, 0)
    statement = _STATEMENT.fullmatch(line)
    if end:
        content = line[start:end]
        items = _split(content, ", ")
        clauses = _split(content, " for ")
        yield line[:start]
        if len(clauses) > 1:
            yield from wrapped(f"{inner}{clauses[0]}")
            yield from wrapped(f"{inner}for {' for '.join(clauses[1:])}")
        elif line[start - 1] == "(" and len(inner) + len(content) <= WIDTH:
            yield f"{inner}{content}"
        else:
            for item in items:
                yield from wrapped(f"{inner}{item},")
        yield f"{indent}{line[end:]}"
    elif len(line) > WIDTH and statement is not None and '"' not in line:
        yield f"{statement[1]}("
        yield from textwrap.wrap(
            statement[2],
            WIDTH,
            initial_indent=inner,
            subsequent_indent=inner,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield f"{indent})"
    else:
        yield line


def _masked(text: str) -> str:
    return _STRING.sub(lambda found: "s" * len(found[0]), text)


def _outermost(line: str) -> tuple[int, int]:
    """Start and end of the contents of the brackets at the end of a line; (0, 0) without any."""
    opened: list[int] = []
    found = (0, 0)
    for at, char in enumerate(mask := _masked(line)):
        if char in "([{":
            opened.append(at + 1)
        elif char in ")]}":
            start = opened.pop()
            if not opened and re.fullmatch(r"[,:]?|( -> .*:)", mask[at + 1 :]):
                found = (start, at)
                if line.lstrip().startswith("def "):
                    break
    start, end = found
    while end and mask[start] in "([" and _outermost(line[start:end]) == (1, end - start - 1):
        start, end = start + 1, end - 1
    return start, end


def _split(text: str, separator: str) -> list[str]:
    """Split a text at separators outside of brackets and strings."""
    mask, depth, start = _masked(text), 0, 0
    parts: list[str] = []
    for at, char in enumerate(mask):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and mask.startswith(separator, at):
            parts.append(text[start:at])
            start = at + len(separator)
    return [*parts, text[start:]]
