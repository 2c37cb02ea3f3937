"""Diagnostics, their collection and their text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from typing import TypeVar

from danetc.dsl.diagnostics.codes import Severity
from danetc.dsl.diagnostics.fixes import Fix, Hint, fixes_of
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.diagnostics.visible import HIDDEN, visible
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span

S = TypeVar("S")
T = TypeVar("T")


@record
class Label:
    """A text about a span related to the error."""

    span: Span
    text: str


@record
class Diagnostic:
    """An error or a warning.

    ``label`` is printed below the marked span. ``hint`` says how to solve the problem; each of
    ``fixes`` is an edit that does so, the most likely first.
    """

    code: str
    message: str
    span: Span
    label: str = ""
    labels: tuple[Label, ...] = ()
    hint: str | None = None
    severity: Severity = "error"
    fixes: tuple[Fix, ...] = field(default=(), compare=False, repr=False)

    def as_dict(self) -> dict[str, object]:
        """Return the object that ``--json`` prints, with lines and columns from 1 and exclusive ends."""
        end_line, end_column = self.span.source.position(self.span.end)
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            **_place(self.span),
            "end": {"line": end_line, "column": end_column},
            "hint": self.hint,
            "labels": [{**_place(label.span), "text": label.text} for label in self.labels],
        }


def _place(span: Span) -> dict[str, object]:
    return {"path": span.source.name, "line": span.line, "column": span.column}


class SpecError(Exception):
    """Raised for a spec with errors. ``diagnostics`` contains them; ``str()`` renders them."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(diagnostics)
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)

    def __str__(self) -> str:
        return render_all(self.diagnostics)

    def _render_traceback_(self) -> list[str]:
        """Return the lines that a notebook shows."""
        return str(self).splitlines()


class Reported(Exception):
    """Raised after an error was reported, to stop code that needs the missing value."""


def apply_all(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Apply a function to all items. If it raises Reported for some, raise that at the end."""
    values: list[T] = []
    failed = False
    for item in items:
        try:
            values.append(function(item))
        except Reported:
            failed = True
    if failed:
        raise Reported
    return values


class TooManyErrors(Exception):
    """Raised if a reporter reaches its limit of errors."""


@record(frozen=False)
class Reporter:
    """Collects errors; an error with the place and code of an earlier one is ignored.

    More than ``most`` errors raise TooManyErrors. ``met`` is the number of all errors, including ignored ones.
    """

    diagnostics: list[Diagnostic] = field(default_factory=list)
    most: int | None = None
    met: int = 0
    _seen: set[tuple[str, int, int, int]] = field(default_factory=set)
    _unknown: set[tuple[int, int, str]] = field(default_factory=set)

    def knows_unknown(self, declaration: Span, name: str) -> bool:
        """True if the unknown name was already reported for this declaration."""
        known = (id(declaration.source), declaration.start, name) in self._unknown
        self.met += known
        return known

    def knows_any_unknown(self, declaration: Span) -> bool:
        """True if any unknown name was reported for this declaration."""
        return any(key[:2] == (id(declaration.source), declaration.start) for key in self._unknown)

    def note_unknown(self, declaration: Span, name: str) -> None:
        """Record an unknown name as reported, so that one cause gives only one error."""
        self._unknown.add((id(declaration.source), declaration.start, name))

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        *,
        label: str = "",
        labels: Iterable[Label] = (),
        hint: str | None = None,
    ) -> Reported:
        """Add an error with the fixes of its ``hint``, and return the exception to raise."""
        self.add(Diagnostic(code, message, span, label, tuple(labels), hint))
        return Reported()

    def add(self, found: Diagnostic) -> None:
        """Add an error and shorten its long texts and its labels."""
        self.met += 1
        span, hint = found.span, found.hint
        key = (found.code, id(span.source), span.start, span.end)
        if key in self._seen:
            return
        if self.most is not None and len(self.diagnostics) >= self.most:
            raise TooManyErrors
        self._seen.add(key)
        self.diagnostics.append(
            replace(
                found,
                message=_shortened(found.message),
                label=_shortened(found.label),
                labels=tuple(
                    Label(it.span, _shortened(it.text)) for it in found.labels[:_MAX_LABELS]
                ),
                hint=None if hint is None else _shortened(str(hint)),
                fixes=found.fixes or fixes_of(hint, span),
            )
        )

    def raise_if_errors(self) -> None:
        if self.diagnostics:
            raise SpecError(sorted(self.diagnostics, key=order))


def order(diagnostic: Diagnostic) -> tuple[str, int, str]:
    """Return the sort key of a diagnostic: file, place, code."""
    return diagnostic.span.source.name, diagnostic.span.start, diagnostic.code


def did_you_mean(name: str, likely: Iterable[str], others: Iterable[str] = ()) -> str | None:
    """Return ``did you mean `x`?`` for the nearest candidates, or None if none is near.

    See ``suggestions.nearest`` for the parameters.
    """
    return suggestion(name, nearest(name, likely, others, words=True))


def instead(name: str, known: Iterable[str], there: str = "there is") -> str:
    """Return the hint for an unknown name: ``did you mean ...``, or else all known names."""
    names = [*known]
    return did_you_mean(name, names) or f"{there} {', '.join(names)}"


def suggestion(name: str, near: Sequence[str]) -> str | None:
    """Return ``did you mean `x`?`` for similar names, or None if there are none."""
    if not near:
        return None
    *some, last = (f"`{candidate}`" for candidate in near)
    text = f"did you mean {', '.join(some)} or {last}?" if some else f"did you mean {last}?"
    return Hint(text, name=name, candidates=near)


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate nearest to a name, or None if none is near."""
    return next(iter(nearest(name, candidates)), None)


_COLOURS = {
    "error": "\033[1;31m",
    "warning": "\033[1;33m",
    "place": "\033[1;34m",
    "hint": "\033[1;36m",
    "bold": "\033[1m",
}
_MAX_LINE = 160
_MAX_MESSAGE = 400
_MAX_LABELS = 8


def _shortened(text: str) -> str:
    """Return a text with its middle omitted if it is long."""
    if len(text) <= _MAX_MESSAGE:
        return text
    return f"{text[: _MAX_MESSAGE // 2]} ... {text[-_MAX_MESSAGE // 2 :]}"


def render_all(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:
    """Render diagnostics, separated by blank lines."""
    return "\n\n".join(render(item, colour) for item in diagnostics)


def render(diagnostic: Diagnostic, colour: bool = False) -> str:
    """Return the text of a diagnostic, with the source lines of its span and its labels."""

    def paint(text: str, style: str) -> str:
        return f"{_COLOURS[style]}{text}\033[0m" if colour else text

    severity = diagnostic.severity
    lines = [
        paint(f"{severity}[{diagnostic.code}]", severity)
        + paint(f": {visible(diagnostic.message)}", "bold")
    ]
    places = [Label(diagnostic.span, diagnostic.label), *diagnostic.labels]
    margin = max(len(str(place.span.line)) for place in places)
    for number, place in enumerate(places):
        arrow, mark, style = (":::", "-", "place") if number else ("-->", "^", severity)
        if number == 0 or place.span.source is not places[number - 1].span.source:
            where = str(place.span) if place.span.source.text else visible(place.span.source.name)
            lines.append(paint(f"{' ' * margin}{arrow} ", "place") + where)
        if place.span.source.text:  # an unreadable file has no lines
            lines += _excerpt(place, margin, mark, style, paint)
    if diagnostic.hint:
        lines.append(
            f"{' ' * margin} {paint('=', 'place')} {paint('hint', 'hint')}: {visible(diagnostic.hint)}"
        )
    return "\n".join(lines)


def _excerpt(
    place: Label, margin: int, mark: str, style: str, paint: Callable[[str, str], str]
) -> list[str]:
    """Return the source line of a place, and a line with its mark and text."""
    span = place.span
    text = span.source.line(span.line)
    first = span.column - 1
    length = max(1, min(span.end, span.start + len(text) - first) - span.start)
    cut = max(0, first - _MAX_LINE // 2) if len(text) > _MAX_LINE else 0
    shown = "".join(
        (" " if ch in "\t\r" else "\N{REPLACEMENT CHARACTER}")
        if HIDDEN.match(ch) or not ch.isprintable()
        else ch  # one character each, so that the mark is aligned
        for ch in text[cut : cut + _MAX_LINE]
    )
    under = " " * (first - cut) + mark * max(1, min(length, _MAX_LINE - (first - cut)))
    bar = paint("|", "place")
    return [
        f"{paint(str(span.line).rjust(margin), 'place')} {bar} {shown}".rstrip(),
        f"{' ' * margin} {bar} {paint((under + ' ' + visible(place.text)).rstrip(), style)}",
    ]
