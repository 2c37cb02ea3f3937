"""Names and literals in generated Python: nothing of a spec gets into code but through here."""

from __future__ import annotations

import builtins
import keyword
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence

from danetc.compiler.emit.names import attribute
from danetc.compiler.ir.graph import Attribute

WIDTH = 88
_PLAIN = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
TAKEN = frozenset({"self", "torch", "nn", "json", "math", "Tensor", "Callable", "annotations"})
TAKEN |= frozenset(dir(builtins)) | frozenset(keyword.kwlist)


def literal(value: Attribute) -> str:
    """A constant as Python text."""
    if isinstance(value, float) and repr(value).lstrip("-") in ("inf", "nan"):
        return f'float("{value!r}")'
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """A string literal of letters, digits and escapes alone: no text can end it or break a line."""
    return '"' + re.sub(r"[^A-Za-z0-9_]", lambda ch: f"\\U{ord(ch[0]):08x}", text) + '"'


def is_plain(name: str) -> bool:
    """Whether ``self.NAME`` reads the module that is registered under ``name``.

    Not so for two leading underscores, which a class mangles, and for letters beyond ASCII, which
    Python normalises.
    """
    return _PLAIN.fullmatch(name) is not None and not keyword.iskeyword(name)


def member(holder: str, name: str) -> str:
    """The text that reads the child ``name`` (as in the spec) of ``holder``."""
    if name.isdecimal() and name.isascii():
        return f"{holder}[{int(name)}]"
    name = attribute(name)
    return f"{holder}.{name}" if is_plain(name) else f"getattr({holder}, {quoted(name)})"


def words(text: str) -> str:
    """A name for a docstring: printable ASCII that cannot end the string."""
    kept = "".join(ch if " " <= ch <= "~" and ch not in "\\\"'" else "?" for ch in text)
    return kept if len(kept) <= 60 else kept[:57] + "..."


def variable(name: str) -> str:
    """A name of the spec as a Python identifier; it may still be taken."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return safe if safe[:1].isalpha() else f"v{safe}"


def camel(name: str) -> str:
    """``dense_layer`` as ``DenseLayer``; what has capitals already keeps them."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", name) if part]
    text = "".join(part[0].upper() + part[1:] for part in parts)
    return text if text[:1].isalpha() else f"N{text}"


def singular(name: str) -> str:
    """``blocks`` as ``block``."""
    return name[:-1] if name.endswith("s") and len(name) > 1 else name


def free(base: str, taken: Callable[[str], bool]) -> str:
    """``base``, or the first of ``base2``, ``base3``, ... that is neither taken nor Python's."""
    number, name = 1, base
    while name in TAKEN or taken(name):
        number += 1
        name = f"{base}{number}" if not base[-1].isdigit() else f"{base}_{number}"
    return name


def wrapped(lines: Iterable[str]) -> list[str]:
    """The lines, with those broken that are too long: inside of their outermost brackets."""
    return [part for line in lines for part in _wrap(line)]


def _wrap(line: str) -> list[str]:
    if len(line) <= WIDTH:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    found = re.fullmatch(r"\s*(?:return |[\w.=, ]*= |[\w.]+=)?[\w.]*[(\[](.*)[)\]],?", line)
    if found is not None and _closed(found[1]):
        head, body, tail = line[: found.start(1)], found[1], line[found.end(1) :]
    elif (defined := re.fullmatch(r"\s*def \w+\((.*)\) -> .*:", line)) is not None:
        head, body, tail = line[: defined.start(1)], defined[1], line[defined.end(1) :]
    else:
        assigned = re.match(r"\s*(?:return|[\w, ]+ =) ", line)
        if assigned is None:
            return [line]
        head, body, tail = f"{assigned[0]}(", line[assigned.end() :], ")"
    if body.startswith("[") and body.endswith("]") and len(items_of(body)) == 1:
        head, body, tail = f"{head}[", body[1:-1], f"]{tail}"
    items = items_of(body)
    inner = f"{indent}    "
    if len(inner + body) <= WIDTH:
        broken = [inner + body]
    elif len(items) == 1 or all(re.fullmatch(r"\w+", item) for item in items):
        broken = textwrap.wrap(
            body,
            WIDTH,
            initial_indent=inner,
            subsequent_indent=inner,
            break_long_words=False,
            break_on_hyphens=False,
        )
    else:
        broken = wrapped(f"{inner}{item}," for item in items)
    return [head, *broken, f"{indent}{tail}"]


def items_of(body: str) -> list[str]:
    """What the commas outside of all brackets part."""
    items, start, depth = [], 0, 0
    for at, ch in enumerate(body):
        depth += (ch in "([{") - (ch in ")]}")
        if ch == "," and depth == 0:
            items.append(body[start:at].strip())
            start = at + 1
    return [*items, body[start:].strip()]


def _closed(body: str) -> bool:
    """Whether no bracket in the text closes one that was opened before it."""
    depth = 0
    for ch in body:
        depth += (ch in "([{") - (ch in ")]}")
        if depth < 0:
            return False
    return True


def class_name(paths: Sequence[tuple[str, ...]]) -> str:
    """A name of what the scopes share: ``Stage2Block`` for all blocks of stage 2 but one."""
    first = paths[0]
    if any(len(path) != len(first) for path in paths):
        return camel(first[-1])
    parts: list[str] = []
    for depth, name in enumerate(first):
        same = all(path[depth] == name for path in paths)
        if name.isdecimal() and depth:
            last = depth == len(first) - 1
            kind = camel(singular(first[depth - 1]))
            if parts and parts[-1] == camel(first[depth - 1]):
                parts.pop()
            if not same:
                parts += [kind] if last else []
            elif name == "0" and kind == "Block":
                parts.append("OpeningBlock")
            else:
                parts.append(f"{kind}{name}")
        elif same:
            parts.append(camel(name))
    return "".join(parts) or camel(first[-1])
