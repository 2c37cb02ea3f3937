"""A cursor over one line of a graph's text: the words and signs that its statements are made of."""

from __future__ import annotations

import json
import re
from typing import NoReturn

_SPACE = re.compile(r"[ \t]*", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.ASCII)
_BARE = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
INTEGER = re.compile(r"\d{1,18}(?![\d.])", re.ASCII)
INDEX = re.compile(r"\d{1,18}", re.ASCII)
NUMBER = re.compile(r"-?(?:\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+|inf\b|nan\b|\d+)", re.ASCII)
SIZES = re.compile(r"\d{1,18}(?:x\d{1,18})*|-", re.ASCII)


class GraphTextError(ValueError):
    """The text of a graph is malformed. ``line`` is counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"graph text, line {line}: {message}")
        self.line = line


class Line:
    """A cursor over one line. Every method takes what it names or fails."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
        self.at = 0
        self.skip()

    def skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def fail(self, message: str) -> NoReturn:
        raise GraphTextError(self.number, message)

    def expected(self, what: str) -> NoReturn:
        rest = self.text[self.at : self.at + 24]
        found = repr(rest) if rest else "the end of the line"
        self.fail(f"expected {what}, found {found} at column {self.at + 1}")

    def has(self, sign: str) -> bool:
        """Take ``sign`` if it comes next. A word must not be the beginning of a longer one."""
        if not self.text.startswith(sign, self.at):
            return False
        end = self.at + len(sign)
        if sign[-1].isalpha() and _BARE.match(self.text, end):
            return False
        self.at = end
        self.skip()
        return True

    def take(self, *signs: str) -> None:
        for sign in signs:
            if not self.has(sign):
                self.expected(f"`{sign}`")

    def match(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            self.expected(what)
        self.at = found.end()
        return found.group()

    def integer(self, what: str = "a whole number") -> int:
        number = int(self.match(INTEGER, what))
        self.skip()
        return number

    def reference(self) -> int:
        if not self.text.startswith("%", self.at):
            self.expected("a node such as `%3`")
        self.at += 1
        return self.integer("a node's number")

    def string(self) -> str:
        text = self.match(_STRING, "a string in quotes")
        try:
            result = json.loads(text)
        except ValueError:
            self.fail(f"{text[:40]} is not a JSON string")
        assert isinstance(result, str)
        self.skip()
        return result

    def segment(self, what: str) -> str:
        if self.text.startswith('"', self.at):
            return self.string()
        return self.match(_BARE, what)

    def name(self, what: str = "a name") -> str:
        result = self.segment(what)
        self.skip()
        return result

    def path(self) -> tuple[str, ...]:
        if self.has("-"):
            return ()
        parts = [self.segment("a path")]
        while self.text.startswith(".", self.at):
            self.at += 1
            parts.append(self.segment("a path"))
        self.skip()
        return tuple(parts)

    def end(self) -> None:
        if self.at != len(self.text):
            self.expected("the end of the line")
