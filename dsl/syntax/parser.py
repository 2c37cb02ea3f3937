"""Parser: tokens to the tree, reporting all syntax errors of a file.

The loop runs lark's LALR table. After an error it cuts the stack back to a state where a statement
or declaration may begin, and skips tokens to the next one. Each statement has at most one error.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter
from danetc.dsl.diagnostics.fixes import Fix, Hint, fixes_of, inserting, removing, replacing
from danetc.dsl.syntax import tree as syntax
from danetc.dsl.syntax.brackets import Brackets, pair, strays
from danetc.dsl.syntax.builders import Builders
from danetc.dsl.syntax.grammar import table
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import (
    NAME_LIKE,
    Token,
    first_on_line,
    scan,
    starts_declaration,
    starts_statement,
)

if TYPE_CHECKING:
    from danetc.dsl.syntax.errors import Found

MAX_CHARACTERS = 1_000_000
MAX_ERRORS = 100
MAX_RECOVERIES = 1000


def parse_expression(source: SourceFile, reporter: Reporter, start: int) -> syntax.Expr | None:
    """Parse the expression from offset ``start`` to the end; None if there is not exactly one."""
    equal = source.text.rindex("=", 0, start)
    head = [Token("KIND", "rule", 0, 0), Token("NAME", "a", 0, 0)]
    head.append(Token("EQUAL", "=", equal, equal + 1))
    program = parse(source, reporter, Span(source, start, len(source.text)), head)
    match program.items:
        case (syntax.Declaration(value=expr, body=None),) if not reporter.diagnostics:
            return expr
    return None


def parse(
    source: SourceFile, reporter: Reporter, part: Span | None = None, head: Sequence[Token] = ()
) -> syntax.Program:
    """Parse a file and report its errors, at most MAX_ERRORS.

    ``part`` restricts it to whole declarations from the start of a line; ``head`` holds tokens to
    read first. If there are errors, names may be missing from the program.
    """
    nothing = syntax.Program((), span=part or Span(source, 0, len(source.text)))
    if len(source.text) > MAX_CHARACTERS:
        reporter.error(
            "E0901",
            f"the file has {len(source.text):,} characters; the limit is {MAX_CHARACTERS:,}",
            Span(source, 0, 0),
            hint="a spec is short: repeat with `stage(block, n)`, share with `use`",
        )
        return nothing
    scanned = scan(source, part)
    scanned.tokens[:0] = head
    for i in reversed(strays(scanned.tokens)):
        token = scanned.tokens.pop(i)
        closes = "closes" if token.type == "RBRACE" else "opens"
        span = Span(source, token.start, token.end)
        message = f"this `{token.text}` {closes} nothing"
        scanned.errors.append(
            Diagnostic("E0104", message, span, hint=Hint("remove it", removing(span)))
        )
    scanned.errors.sort(key=_start)
    brackets = pair(scanned.tokens)
    if brackets.too_deep is not None:
        token = scanned.tokens[brackets.too_deep]
        reporter.error(
            "E0902",
            "brackets are nested deeper than 100 levels",
            Span(source, token.start, token.end),
            hint="give names to the inner parts",
        )
        return nothing

    run = _Run(source, scanned.tokens, brackets, scanned.errors)
    items = run.run() if scanned.is_text else []
    errors = sorted([*run.errors, *scanned.errors], key=_start)
    errors += [item for item in run.builders.errors if not _touched(item, errors)]
    errors.sort(key=_start)
    if len(errors) > MAX_ERRORS:
        more = "there are more errors in this file; they are not shown"
        errors = [*errors[: MAX_ERRORS - 1], replace(errors[MAX_ERRORS - 1], hint=more)]
    for error in errors:
        reporter.add(error)
    lost = tuple(run.lost.values())
    return replace(nothing, items=tuple(items), comments=tuple(scanned.comments), lost=lost)


def _start(error: Diagnostic) -> int:
    return error.span.start


def _touched(error: Diagnostic, others: list[Diagnostic]) -> bool:
    """True if one of the sorted ``others`` overlaps or touches an error, which then may follow from it."""
    place = bisect_left(others, error.span.start - 1, key=_start)
    return place < len(others) and others[place].span.start <= error.span.end + 1


class _Run:
    """The stacks of one parse.

    ``states`` has one item more than ``values``, ``starts`` and ``ends``: tokens or what builders
    returned, and their offsets.
    """

    def __init__(
        self, source: SourceFile, tokens: list[Token], brackets: Brackets, lexical: list[Diagnostic]
    ) -> None:
        self.source = source
        self.tokens = tokens
        self.brackets = brackets
        self.lexical = lexical
        self.errors: list[Diagnostic] = []
        self.lost: dict[int, syntax.Lost] = {}  # by first token
        self.builders = Builders(source)
        self.table = table()
        self.states = [self.table.start]
        self.values: list[Any] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.recoveries = 0
        self.bad_region = -1  # index of the first token of the last statement with an error
        self.inserted_before = -1  # index of the last token that a missing one was inserted before
        self.rules: list[tuple[str, int, Callable[..., Any] | None, tuple[int, ...]]] = [
            (origin, length, getattr(self.builders, name) if name else None, places)
            for origin, length, name, places in self.table.rules
        ]

    def run(self) -> list[syntax.Use | syntax.Declaration]:
        """Parse all tokens and return the items of the program."""
        i = 0
        last = len(self.tokens) - 1
        while True:
            token = self.tokens[i]
            if not self.feed(token):
                self.recoveries += 1
                if len(self.errors) > MAX_ERRORS or self.recoveries > MAX_RECOVERIES:
                    return []  # stop: there are too many errors
                i = self.recover(i)
            elif i == last:
                return list(self.values[0].items)
            else:
                i += 1

    def feed(self, token: Token) -> bool:
        """Apply reductions until the token can be shifted. Return False if it is not allowed here."""
        actions, states = self.table.actions, self.states
        kind = token.type
        while True:
            action = actions[states[-1]].get(kind)
            if action is None:
                return False
            if action >= 0:
                states.append(action)
                self.values.append(token)
                self.starts.append(token.start)
                self.ends.append(token.end)
                return True
            self.reduce(~action)

    def reduce(self, rule: int) -> None:
        states, values = self.states, self.values
        origin, length, build, places = self.rules[rule]
        if length == 1 and build is None:
            states.pop()
        else:
            starts, ends = self.starts, self.ends
            first = len(values) - length
            end = ends[-1] if values else 0
            start = starts[first] if length else end
            chosen = [values[first + place] for place in places]
            if length:
                del states[-length:], values[-length:], starts[-length:], ends[-length:]
            values.append(build(Span(self.source, start, end), *chosen) if build else chosen[0])
            starts.append(start)
            ends.append(end)
        states.append(self.table.gotos[states[-1]][origin])

    def settle(self) -> None:
        """Make all reductions that do not depend on the next token."""
        while True:
            actions = set(self.table.actions[self.states[-1]].values())
            action = actions.pop()
            if actions or action >= 0:
                return
            self.reduce(~action)

    # Recovery

    def recover(self, i: int) -> int:
        """Report the error at token i, and return the index of the token to continue from."""
        from danetc.dsl.syntax.errors import (  # deferred: only needed for errors
            Situation,
            diagnose,
        )

        self.settle()
        base = self.base()
        in_body = self.begins(base, "stmt")
        begin = self.region_start(base, i)
        if self.is_complete(in_body, i):
            begin = i
        if in_body and self.is_unclosed(begin, i):
            return self.close_bodies(base, i if self.tokens[i].type in ("USE", "$END") else begin)

        case = Situation(self.source, self.tokens, self.brackets, i, begin, in_body, self.accepts)
        found = diagnose(case)
        stop = self.sync(max(i, found.resume), in_body)
        self.report(replace(found.diagnostic, fixes=self.fixes(found, i)), begin, stop)
        if found.drop:
            if self.accepts(self.tokens[i + 1].type):
                return i + 1
            stop = self.sync(i + 1, in_body)
        if found.replace is not None:
            token = self.tokens[i]
            if self.feed(Token(*found.replace, token.start, token.end)):
                return i + 1
        elif found.insert is not None and self.inserted_before != i:
            self.inserted_before = i
            here = self.tokens[i].start
            if self.feed(Token(*found.insert, here, here)):
                return i
        self.lose(begin, stop)
        return self.resume(base, in_body, stop)

    def lose(self, begin: int, stop: int) -> None:
        """Record the name that the skipped tokens from begin to stop define, if any."""
        tokens, kind = self.tokens, ""
        if starts_declaration(tokens, begin):
            kind = tokens[begin].text
        elif not starts_statement(tokens, begin) or tokens[begin + 1].type == "LBRACE":
            return
        named = tokens[begin + 1] if kind or tokens[begin + 1].type in NAME_LIKE else tokens[begin]
        self.lost[begin] = syntax.Lost(
            kind,
            named.text,
            span=Span(self.source, tokens[begin].start, tokens[max(begin, stop - 1)].end),
            name_span=Span(self.source, named.start, named.end),
        )

    def fixes(self, found: Found, i: int) -> tuple[Fix, ...]:
        """Return the fixes of the hint, else the correction that the parser continues with."""
        known = fixes_of(found.diagnostic.hint, found.diagnostic.span)
        token, before = self.tokens[i], self.tokens[max(i - 1, 0)]
        here = Span(self.source, token.start, token.end)
        if known or "unnamed" in (found.insert or ()):
            return known
        if found.drop and token.text:
            return (removing(here),)
        if found.insert is not None:
            text = found.insert[1] if found.insert[0] == "COMMA" else f" {found.insert[1]}"
            return (inserting(self.source, before.end, text),)
        if found.replace is not None and found.replace[1] != token.text and token.type != "NAME":
            return (replacing(here, found.replace[1]),)
        return ()

    def report(self, error: Diagnostic, begin: int, stop: int) -> None:
        """Add an error unless there is one in its statement, the tokens from begin to stop."""
        start = min(self.tokens[begin].start, error.span.start)
        end = self.tokens[stop].start
        place = bisect_left(self.lexical, start, key=_start)
        has_bad_words = place < len(self.lexical) and self.lexical[place].span.start <= end
        if begin != self.bad_region and not has_bad_words:
            self.errors.append(error)
        self.bad_region = begin

    def base(self) -> int:
        """Return the stack index of the innermost state where a statement or item may begin."""
        for place in range(len(self.states) - 1, -1, -1):
            if self.begins(place, "stmt") or self.begins(place, "declaration"):
                return place
        raise AssertionError("a file begins with declarations")

    def begins(self, place: int, nonterminal: str) -> bool:
        return nonterminal in self.table.gotos[self.states[place]]

    def region_start(self, base: int, i: int) -> int:
        """Return the first token of the current statement or declaration."""
        if base == len(self.values):
            return i
        return bisect_left(self.tokens, self.starts[base], key=lambda token: token.start)

    def is_complete(self, in_body: bool, i: int) -> bool:
        """True if the previous statement or item is complete at token i."""
        before = self.tokens[max(i - 1, 0)].type
        if in_body:
            return before in ("SEMICOLON", "RBRACE") and self.accepts("RBRACE")
        ends = before == "RBRACE" or first_on_line(self.source, self.tokens, i)
        return ends and self.accepts("$END")

    def accepts(self, kind: str) -> bool:
        """True if a token of this type is allowed here."""
        states = list(self.states)
        while True:
            action = self.table.actions[states[-1]].get(kind)
            if action is None or action >= 0:
                return action is not None
            origin, length, *_ = self.table.rules[~action]
            del states[len(states) - length :]
            states.append(self.table.gotos[states[-1]][origin])

    def is_unclosed(self, begin: int, i: int) -> bool:
        """True if the body is still open at the end of the file or at the next declaration."""
        if begin == i - 1 and starts_declaration(self.tokens, begin):
            return self.tokens[begin].text != self.tokens[i].text  # else it is repeated
        return self.accepts("RBRACE") and (self.tokens[i].type == "$END" or self.begins_use(i))

    def begins_use(self, i: int) -> bool:
        """True if token i is the start of a ``use`` that is not inside a closed body."""
        follows = self.tokens[min(i + 1, len(self.tokens) - 1)].type
        return (
            self.tokens[i].type == "USE"
            and self.brackets.inside[i] not in self.brackets.partner
            and (follows in ("STRING", "LIBRARY") or follows in NAME_LIKE)
            and first_on_line(self.source, self.tokens, i)
        )

    def close_bodies(self, base: int, at: int) -> int:
        """Report and close the open braces, and return the index of the token to continue from."""
        from danetc.dsl.syntax.errors import unclosed  # deferred: only needed for errors

        opened = [value for value in self.values[: base + 1] if isinstance(value, Token)]
        self.report(unclosed(self.source, self.tokens, self.brackets, opened, at), at, at)
        self.cut(base)
        here = self.tokens[at].start
        for token in opened:
            if token.type == "LBRACE":
                self.feed(Token("RBRACE", "}", here, here))
        return at

    def sync(self, i: int, in_body: bool) -> int:
        """Return the index of the first token, starting at i, where parsing can continue."""
        tokens, partner = self.tokens, self.brackets.partner
        while True:
            around = self.brackets.inside[i]
            if tokens[i].type in ("LPAR", "LSQB"):
                around = i
            if around >= 0 and tokens[around].type != "LBRACE" and around in partner:
                i = partner[around] + 1
                continue
            kind = tokens[i].type
            if (
                kind == "LBRACE"
                and i in partner
                and tokens[i - 1].type in ("EQUAL", "LPAR", "COMMA")
            ):
                i = partner[i] + 1  # braces in place of a value
                continue
            if kind in ("$END", "LBRACE") or starts_declaration(tokens, i):
                return i
            if kind == "USE" and (not in_body or self.begins_use(i)):
                return i
            if in_body and (kind == "RBRACE" or self.parts_statements(i)):
                return i
            if in_body and starts_statement(tokens, i) and first_on_line(self.source, tokens, i):
                return i
            i += 1

    def parts_statements(self, i: int) -> bool:
        """True if token i is a ``;`` before a statement or the end of the body."""
        return self.tokens[i].type == "SEMICOLON" and (
            self.tokens[i + 1].type == "RBRACE"
            or starts_statement(self.tokens, i + 1)
            or first_on_line(self.source, self.tokens, i + 1)
        )

    def resume(self, base: int, in_body: bool, stop: int) -> int:
        """Remove the current statement from the stacks and return the token to continue with."""
        self.cut(base)
        token = self.tokens[stop]
        if token.type == "SEMICOLON":
            return stop + 1
        if token.type == "LBRACE":  # the body of a declaration with an error in its head
            if not in_body:
                self.feed(Token("KIND", "network", token.start, token.start))
            self.feed(Token("NAME", "unnamed", token.start, token.start))
        return stop

    def cut(self, base: int) -> None:
        """Cut the stacks back to a place."""
        del self.states[base + 1 :], self.values[base:], self.starts[base:], self.ends[base:]
