"""Specs with one typing mistake: there is no traceback, and the first error is at the mistake.

A seeded sample of mutated shipped specs, each checked in full: a token is deleted, a word is misspelt,
a word is doubled or a stray character is added. ``benchmarks/mutation_report.py`` measures a larger sample.
"""

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


def misspelt(word: str, choose: random.Random) -> str:
    i = choose.randrange(len(word) - 1)
    a, b = word[i : i + 2]
    return word[:i] + (b, a + a + b, b + a)[choose.randrange(3)] + word[i + 2 :]


def mutate(text: str, token: Token, kind: str, choose: random.Random) -> str:
    if kind == "misspell":
        new = misspelt(token.text, choose)
    elif kind != "delete":
        new = f"{token.text if kind == 'double' else choose.choice(_STRAY)} {token.text}"
    else:
        new = ""
    return text[: token.start] + new + text[token.end :]


def mutations(count: int, seed: int) -> Iterator[tuple[str, SourceFile, int]]:
    """The kind of each mutation, its text, and its line."""
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
            yield kind, SourceFile(str(path), new), text.count("\n", 0, token.start) + 1


def is_shown(source: SourceFile, line: int, error: Diagnostic) -> bool:
    spans = [error.span, *(label.span for label in error.labels)]
    own = [span for span in spans if span.source is source]
    return any(span.line <= line <= source.position(span.end)[0] for span in own)


@dataclass
class Result:
    wrong: Counter[str]
    shown: Counter[str]
    errors: Counter[int]  # number of errors: how many mutations gave it

    @property
    def rate(self) -> float:
        return self.shown.total() / self.wrong.total()


def measure(count: int, seed: int) -> Result:
    result = Result(Counter(), Counter(), Counter())
    for kind, source, line in mutations(count, seed):
        try:
            check_source(source)
        except SpecError as error:  # anything else fails the test
            render_all(error.diagnostics)
            result.wrong[kind] += 1
            result.errors[len(error.diagnostics)] += 1
            result.shown[kind] += is_shown(source, line, error.diagnostics[0])
    return result


@pytest.mark.thorough
def test_a_slip_gives_one_error_where_it_is() -> None:
    result = measure(count=120, seed=0)
    assert result.wrong.total() > 75
    assert result.rate >= 0.99
    assert result.errors[1] / result.wrong.total() >= 0.99
