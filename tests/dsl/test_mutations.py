"""Specs with one slip of the pen: never a traceback, the first error where the slip is.

A seeded sample of mutations of shipped specs, each checked in full: a token deleted, a word misspelt,
a word doubled, a stray character. ``benchmarks/mutation_report.py`` measures a larger sample.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from danetc.compiler.frontend.program import check_source
from danetc.dsl.diagnostics.diagnostic import Diagnostic, SpecError, render_all
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import NAME_LIKE, Token, scan

_ROOT = Path(__file__).parents[2]
_FOLDERS = ("specs", "dsl/std")
_STRAY = "@$?=()[]{};,+*->.\"'!&|:%~"
_KINDS = ("delete", "misspell", "double", "stray")


@dataclass(frozen=True)
class Mutation:
    kind: str
    source: SourceFile
    line: int
    word: str


def misspelt(word: str, choose: random.Random) -> str:
    """A word with one letter gone, doubled, or exchanged with its neighbour."""
    i = choose.randrange(len(word) - 1)
    match choose.randrange(3):
        case 0:
            return word[:i] + word[i + 1 :]
        case 1:
            return word[: i + 1] + word[i:]
        case _:
            return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def mutate(text: str, token: Token, kind: str, choose: random.Random) -> str:
    match kind:
        case "delete":
            new = ""
        case "misspell":
            new = misspelt(token.text, choose)
        case "double":
            new = f"{token.text} {token.text}"
        case _:
            new = f"{choose.choice(_STRAY)} {token.text}"
    return text[: token.start] + new + text[token.end :]


def mutations(count: int, seed: int) -> Iterator[Mutation]:
    """Mutations of files in which the networks of language.md and of the package stand."""
    texts = [path for folder in _FOLDERS for path in sorted((_ROOT / folder).glob("*.danet"))]
    choose = random.Random(seed)
    for number in range(count):
        path = choose.choice(texts)
        text = path.read_text("utf-8")
        kind = _KINDS[number % len(_KINDS)]
        tokens = scan(SourceFile(path.name, text)).tokens[:-1]
        if kind == "misspell":
            tokens = [t for t in tokens if t.type in NAME_LIKE and len(t.text) > 2]
        token = choose.choice(tokens)
        new = mutate(text, token, kind, choose)
        if new != text:
            line = text.count("\n", 0, token.start) + 1
            yield Mutation(kind, SourceFile(str(path), new), line, token.text)


def errors(source: SourceFile) -> tuple[Diagnostic, ...]:
    """The errors of a full check; anything but a SpecError fails the test."""
    try:
        check_source(source)
    except SpecError as error:
        return error.diagnostics
    return ()


def is_shown(mutation: Mutation, error: Diagnostic) -> bool:
    """Whether an error stands on the line of the mutation, or labels it."""
    spans = [error.span, *(label.span for label in error.labels)]
    return any(
        span.source is mutation.source
        and span.line <= mutation.line <= span.source.position(span.end)[0]
        for span in spans
    )


@dataclass
class Result:
    wrong: Counter[str]
    shown: Counter[str]
    errors: Counter[int]  # how many mutations gave so many errors
    elsewhere: list[tuple[Mutation, tuple[Diagnostic, ...]]]

    @property
    def rate(self) -> float:
        return self.shown.total() / self.wrong.total()

    @property
    def single(self) -> float:
        """The share of mutations that gave one error."""
        return self.errors[1] / self.wrong.total()


def measure(count: int, seed: int) -> Result:
    result = Result(Counter(), Counter(), Counter(), [])
    for mutation in mutations(count, seed):
        found = errors(mutation.source)
        if not found:
            continue  # the mutation is another right spec
        render_all(found)
        result.wrong[mutation.kind] += 1
        result.errors[len(found)] += 1
        if is_shown(mutation, found[0]):
            result.shown[mutation.kind] += 1
        else:
            result.elsewhere.append((mutation, found))
    return result


@pytest.mark.thorough
def test_a_slip_gives_one_error_where_it_is() -> None:
    result = measure(count=120, seed=0)
    assert result.wrong.total() > 75
    assert result.rate >= 0.99
    assert result.single >= 0.99
