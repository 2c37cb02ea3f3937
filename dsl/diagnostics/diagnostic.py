"""Diagnostics are data: a code, a message, places, a hint. Wording of the frame lives here alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from itertools import islice

from danetc.dsl.diagnostics.codes import Severity
from danetc.dsl.diagnostics.fixes import Fix, Suggestion, fixes_of
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.diagnostics.visible import HIDDEN, visible
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span


@record
class Label:
    """A second place that matters, with what to say about it."""

    span: Span
    text: str


@record
class Diagnostic:
    """An error or a warning. ``label`` stands under the marked span, ``hint`` says what to do,
    ``fixes`` do it: each by itself, the likeliest first."""

    code: str
    message: str
    span: Span
    label: str = ""
    labels: tuple[Label, ...] = ()
    hint: str | None = None
    severity: Severity = "error"
    fixes: tuple[Fix, ...] = field(default=(), compare=False, repr=False)

    def as_dict(self) -> dict[str, object]:
        """The object that ``--json`` prints: lines and columns counted from 1, end exclusive."""
        end_line, end_column = self.span.source.position(self.span.end)
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "path": self.span.source.name,
            "line": self.span.line,
            "column": self.span.column,
            "end": {"line": end_line, "column": end_column},
            "hint": self.hint,
            "labels": [
                {
                    "path": label.span.source.name,
                    "line": label.span.line,
                    "column": label.span.column,
                    "text": label.text,
                }
                for label in self.labels
            ],
        }


class SpecError(Exception):
    """A spec is wrong. ``diagnostics`` says where and how; ``str()`` is the rendered text."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(diagnostics)
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)

    def __str__(self) -> str:
        return render_all(self.diagnostics)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it."""
        return str(self).splitlines()


class Reported(Exception):
    """An error was reported; what depends on this value is left alone."""


class TooManyErrors(Exception):
    """A reporter has as many errors as it takes: what follows is not looked for."""


@record(frozen=False)
class Reporter:
    """Collects errors, each place and code once. The one beyond ``most`` raises TooManyErrors.

    ``met`` counts errors, those too that were reported before: of another network, or as an unknown name.
    """

    diagnostics: list[Diagnostic] = field(default_factory=list)
    most: int | None = None
    met: int = 0
    _seen: set[tuple[str, int, int, int]] = field(default_factory=set)
    _unknown: set[tuple[int, int, str]] = field(default_factory=set)

    def knows_unknown(self, declaration: Span, name: str) -> bool:
        """Whether a declaration's text was reported to read a name that it does not have."""
        known = (id(declaration.source), declaration.start, name) in self._unknown
        self.met += known
        return known

    def knows_any_unknown(self, declaration: Span) -> bool:
        """Whether a declaration's text was reported to read some name that it does not have."""
        return any(key[:2] == (id(declaration.source), declaration.start) for key in self._unknown)

    def note_unknown(self, declaration: Span, name: str) -> None:
        """Keep that such a name was reported, so that one cause gives one error."""
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
        fixes: tuple[Fix, ...] = (),
    ) -> None:
        """Keep an error. What its ``hint`` says to do counts among its ``fixes``."""
        self.met += 1
        key = (code, id(span.source), span.start, span.end)
        if key in self._seen:
            return
        if self.most is not None and len(self.diagnostics) >= self.most:
            raise TooManyErrors
        self._seen.add(key)
        labels = tuple(
            Label(item.span, _shortened(item.text)) for item in islice(labels, _MAX_LABELS)
        )
        fixes = fixes or fixes_of(hint, span)
        hint = None if hint is None else _shortened(str(hint))
        self.diagnostics.append(
            Diagnostic(
                code, _shortened(message), span, _shortened(label), labels, hint, fixes=fixes
            )
        )

    def add(self, found: Diagnostic) -> None:
        """Take an error that was made elsewhere."""
        self.error(
            found.code,
            found.message,
            found.span,
            label=found.label,
            labels=found.labels,
            hint=found.hint,
            fixes=found.fixes,
        )

    def raise_if_errors(self) -> None:
        if self.diagnostics:
            raise SpecError(sorted(self.diagnostics, key=order))


def order(diagnostic: Diagnostic) -> tuple[str, int, str]:
    """The key that diagnostics are sorted by: file, place, code."""
    return diagnostic.span.source.name, diagnostic.span.start, diagnostic.code


def did_you_mean(name: str, likely: Iterable[str], others: Iterable[str] = ()) -> str | None:
    """``did you mean `x`?`` for the nearest candidate, or None where none is near.

    Several that are equally near are named together. See ``suggestions.nearest``.
    """
    return meant(name, nearest(name, likely, others, words=True))


def instead(name: str, known: Iterable[str], there: str = "there is") -> str:
    """What to take in place of a name that is not known: ``did you mean ...``, else all that are."""
    names = [*known]
    return did_you_mean(name, names) or f"{there} {', '.join(names)}"


def meant(name: str, near: Sequence[str]) -> str | None:
    """The question about the names that are near one, or None where there is none."""
    if not near:
        return None
    *some, last = (f"`{candidate}`" for candidate in near)
    text = f"did you mean {', '.join(some)} or {last}?" if some else f"did you mean {last}?"
    return Suggestion(text, name, near)


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant by a name, or None where none is near."""
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
    """A text that may hold any of the user's, with its middle left out where it is long."""
    if len(text) <= _MAX_MESSAGE:
        return text
    return f"{text[: _MAX_MESSAGE // 2]} ... {text[-_MAX_MESSAGE // 2 :]}"


def render_all(diagnostics: Sequence[Diagnostic], colour: bool = False) -> str:
    """All diagnostics as text, one blank line between them."""
    return "\n\n".join(render(item, colour) for item in diagnostics)


def render(diagnostic: Diagnostic, colour: bool = False) -> str:
    """One diagnostic as text: message, place, source lines with the span marked, labels, hint."""

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
        if number == 0 or place.span.source is not places[number - 1].span.source:
            arrow = "-->" if number == 0 else ":::"
            where = str(place.span) if place.span.source.text else visible(place.span.source.name)
            lines.append(paint(f"{' ' * margin}{arrow} ", "place") + where)
        if not place.span.source.text:
            continue  # a file that could not be read has no line to show
        style = severity if number == 0 else "place"
        mark = "^" if number == 0 else "-"
        lines += _excerpt(place, margin, mark, style, paint)
    if diagnostic.hint:
        lines.append(
            f"{' ' * margin} {paint('=', 'place')} {paint('hint', 'hint')}: {visible(diagnostic.hint)}"
        )
    return "\n".join(lines)


def _excerpt(
    place: Label, margin: int, mark: str, style: str, paint: Callable[[str, str], str]
) -> list[str]:
    """The line of a place, and a line with its marks and its text in a style."""
    span = place.span
    text = span.source.line(span.line)
    first = span.column - 1
    length = max(1, min(span.end, span.start + len(text) - first) - span.start)
    cut = max(0, first - _MAX_LINE // 2) if len(text) > _MAX_LINE else 0
    shown = text[cut : cut + _MAX_LINE]
    shown = "".join(
        (" " if ch in "\t\r" else "\N{REPLACEMENT CHARACTER}")
        if HIDDEN.match(ch) or not ch.isprintable()
        else ch  # each as wide as it was, so that the mark below stands right
        for ch in shown
    )
    under = " " * (first - cut) + mark * max(1, min(length, _MAX_LINE - (first - cut)))
    bar = paint("|", "place")
    return [
        f"{paint(str(span.line).rjust(margin), 'place')} {bar} {shown}".rstrip(),
        f"{' ' * margin} {bar} {paint((under + ' ' + visible(place.text)).rstrip(), style)}",
    ]
