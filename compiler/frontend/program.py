"""From a file to checked graphs: parse, resolve, lower, verify. Needs lark, never torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from danetc.compiler.analysis.verify import verify
from danetc.compiler.frontend.declarations import check_declarations
from danetc.compiler.frontend.reuse import Earlier, Reuse
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.builder import Trace
from danetc.compiler.lowering.evaluator import Shared
from danetc.compiler.lowering.networks import Lowered, lower
from danetc.compiler.lowering.values import Constant
from danetc.dsl.diagnostics.diagnostic import (
    Diagnostic,
    Label,
    Reporter,
    SpecError,
    TooManyErrors,
    did_you_mean,
    order,
)
from danetc.dsl.loading import is_library, load_module
from danetc.dsl.modules import Module
from danetc.dsl.reading import find_spec, read_source
from danetc.dsl.record import record
from danetc.dsl.syntax.overrides import parse_override
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration, Expr
from danetc.dsl.work import Exhausted, bounded, of_a_check

if TYPE_CHECKING:
    from danetc.compiler.passes import Pass

MAX_ERRORS = 100

Settings = Mapping[str, Constant]
"""What is set from outside: the text of an expression, where it is a string."""


@record(slots=False)
class Checked:
    """A file without errors: its module, and the networks that it declares, lowered."""

    module: Module
    lowered: Mapping[str, Lowered] = field(repr=False)

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(self.lowered)

    @cached_property
    def graphs(self) -> Mapping[str, Graph]:
        """The networks as they are written, before the passes."""
        return {name: item.graph for name, item in self.lowered.items()}

    @cached_property
    def main(self) -> str:
        """The network meant when none is named: that of the file's name, or the only one."""
        stem = self.module.source.name.replace("\\", "/").rpartition("/")[2].removesuffix(".danet")
        if stem in self.graphs:
            return stem
        if len(self.graphs) == 1:
            return next(iter(self.graphs))
        span = Span(self.module.source, 0, 0)
        if not self.graphs:
            raise _error(
                "E0220", "the file declares no network", span, "add `network NAME { ... }`"
            )
        names = ", ".join(self.graphs)
        raise _error(
            "E0220", "the file declares several networks", span, f"name one with -n: {names}"
        )

    def declaration(self, network: str | None = None) -> Declaration:
        """The declaration of a network, by name or the main one."""
        name = network or self.main
        if name not in self.graphs:
            hint = (
                did_you_mean(name, self.graphs) or f"it declares {', '.join(self.graphs) or 'none'}"
            )
            raise _error(
                "E0220",
                f"the file declares no network `{name}`",
                Span(self.module.source, 0, 0),
                hint,
            )
        return self.module.own[name]


def _error(code: str, message: str, span: Span, hint: str | None) -> SpecError:
    reporter = Reporter()
    reporter.error(code, message, span, hint=hint)
    return SpecError(reporter.diagnostics)


def check_text(text: str, name: str = "<text>") -> Checked:
    """Check a spec given as text. Raises ``SpecError`` with all that is wrong in it."""
    return check_source(SourceFile(name, text))


def check_file(path_or_name: str) -> Checked:
    """Check a file, or a shipped spec by its name. Raises ``SpecError``."""
    return check_source(read_source(find_spec(path_or_name)))


def check_source(source: SourceFile) -> Checked:
    """Check a source: every declaration, and every network lowered and verified.

    Raises ``SpecError``. What is done is bounded (E0906), and so is the number of errors (E0907).
    """
    checking = Checking(source)
    _raise_errors(checking.errors())
    assert checking.module is not None
    return Checked(checking.module, checking.networks)


@record(slots=False)
class Survey:
    """All that a check finds out about a file, errors or not.

    ``module`` is None where the check came to a bound before all files were read, ``checked`` where
    there is an error. ``traces`` have the values in the text of each network, as far as it was
    lowered, ``lowered`` the networks without an error.
    """

    errors: tuple[Diagnostic, ...]
    module: Module | None
    checked: Checked | None
    lowered: Mapping[str, Lowered] = field(repr=False)
    traces: Mapping[str, Trace] = field(repr=False)


class Checking:
    """A check in progress, in two steps: all files are read, then all that they say is looked at.

    ``texts`` are taken in place of files, by their real paths. ``place`` is the declaration that it
    has reached.
    """

    def __init__(self, source: SourceFile, texts: Mapping[str, str] | None = None) -> None:
        self.place = Span(source, 0, 0)
        self.texts = texts
        self.reporter = Reporter(most=MAX_ERRORS)
        self.module: Module | None = None
        self.networks: dict[str, Lowered] = {}
        self.traces: dict[str, Trace] | None = None  # where an editor asks for them
        self.earlier: Earlier | None = None
        self.shared = Shared()
        self.syntax = 0  # how many errors there were when all files were read
        self.work = of_a_check()
        self.cut: Diagnostic | None = None  # what ended it early
        self.is_read = False

    def read(self) -> Module | None:
        """Read the file and all that it uses, once; None where that came to a bound."""
        if not self.is_read:
            self.is_read = True
            with bounded(self.work):
                self.cut = _run_to_bounds(self._read, lambda: self.place)
        return self.module

    def errors(self) -> list[Diagnostic]:
        """Check, and give what is wrong."""
        self.read()
        if self.cut is None:
            with bounded(self.work):
                self.cut = _run_to_bounds(self._check, lambda: self.place)
        if self.module is not None:
            _drop_follow_ups(self.module, self.reporter, self.syntax)
        return _errors(self.reporter, self.cut)

    def survey(self, earlier: Survey | None = None) -> Survey:
        """Check for an editor: what is wrong, and what is known in spite of it.

        Networks of an ``earlier`` check of the file that read as before are taken from it.
        """
        self.traces = {}
        if earlier is not None and earlier.module is not None:
            self.earlier = Earlier(earlier.module, earlier.lowered, earlier.traces, earlier.errors)
        errors = tuple(self.errors())
        self.earlier = None  # which has an earlier one, and so on
        module = self.module
        checked = None if module is None or errors else Checked(module, self.networks)
        return Survey(errors, module, checked, self.networks, self.traces)

    def _read(self) -> None:
        self.module = load_module(self.place.source, self.reporter, self.texts)
        self.syntax = len(self.reporter.diagnostics)

    def _check(self) -> None:
        module = self.module
        assert module is not None
        check_declarations(module, self.reporter)
        reuse = None if self.earlier is None else Reuse(self.earlier, module)
        for declaration in module.program.declarations:
            name = declaration.name
            if declaration.kind != "network" or module.own.get(name) is not declaration:
                continue
            self.place = declaration.name_span
            known = None if reuse is None else reuse.network(name)
            if known is not None and self.traces is not None:
                self.networks[name], self.traces[name] = known
                continue
            traced = None if self.traces is None else partial(self.traces.__setitem__, name)
            lowered = _lowered(declaration, module, {}, self.reporter, self.shared, traced)
            if lowered is not None:
                self.networks[name] = lowered


def _run_to_bounds(work: Callable[[], None], place: Callable[[], Span]) -> Diagnostic | None:
    """Do some work; what to report where it came to a bound. ``place`` is where it is by then."""
    try:
        work()
    except TooManyErrors:
        return Diagnostic(
            "E0907",
            f"there are more than {MAX_ERRORS} errors; the check ends here",
            place(),
            hint="fix these first: the rest may follow from them",
        )
    except Exhausted as end:
        return Diagnostic(
            "E0906",
            f"to check this takes more than {end.limit:,} steps",
            _own_place(end.span, place()),
            label="the check ends here",
            hint="have fewer networks in a file, shorter stages and rules, and fewer names that "
            "stand for others",
        )
    return None


def _errors(reporter: Reporter, cut: Diagnostic | None) -> list[Diagnostic]:
    """What was reported, and last what ended the work early."""
    found = sorted(reporter.diagnostics, key=order)
    return found if cut is None else [*found, cut]


def _raise_errors(found: Sequence[Diagnostic]) -> None:
    if found:
        raise SpecError(found)


def _own_place(span: Span | None, place: Span) -> Span:
    """Where the user's own text can be fixed."""
    return place if span is None or is_library(span.source) else span


def _lowered(
    declaration: Declaration,
    module: Module,
    settings: Mapping[str, Expr],
    reporter: Reporter,
    shared: Shared | None = None,
    traced: Callable[[Trace], None] | None = None,
) -> Lowered | None:
    lowered = lower(declaration, module, settings, reporter, shared, traced)
    if lowered is None:
        return None
    try:
        verify(lowered.graph)
    except SpecError:
        for item in _broken_where_it_stands(lowered):
            _report_broken(item, declaration, reporter)
        return None
    return lowered


def _broken_where_it_stands(lowered: Lowered) -> Sequence[Diagnostic]:
    """What ``verify`` finds, `norm` at its place and not at the network's setting."""
    graph, stands = lowered.graph, lowered.stands
    nodes = {
        id: replace(node, origin=stands[id])
        if id in stands and OPS[node.op].norm is not None
        else node
        for id, node in graph.nodes.items()
    }
    try:
        verify(replace(graph, nodes=nodes))
    except SpecError as error:
        return error.diagnostics
    raise AssertionError("what is broken does not depend on places")


def _report_broken(item: Diagnostic, declaration: Declaration, reporter: Reporter) -> None:
    """Report a broken invariant, on the user's own text."""
    span, labels = item.span, item.labels
    if is_library(span.source):
        own = [label.span for label in labels if not is_library(label.span.source)]
        labels = (Label(span, "this is where it fails"),)
        span = own[0] if own else declaration.name_span
    reporter.error(item.code, item.message, span, label=item.label, labels=labels, hint=item.hint)


def _drop_follow_ups(module: Module, reporter: Reporter, syntax: int) -> None:
    """Drop what may follow from syntax errors, which are among the first ``syntax`` of the errors.

    On their lines nothing else is reported, in their declarations nothing but unknown names, and
    elsewhere nothing about kinds, shapes and connections, which are made of several declarations.
    """
    bad = [
        span
        for item in reporter.diagnostics[:syntax]
        if item.code.startswith("E01") or item.code == "E0902"
        for span in (item.span, *(label.span for label in item.labels))
        if span.source is module.source
    ]
    if not bad:
        return
    starts = sorted(item.span.start for item in module.program.items)

    def part(span: Span) -> int:
        return bisect_right(starts, span.start)

    nameless = [item for item in module.program.declarations if not item.name_span.text]
    broken = {part(span) for span in [*bad, *(item.span for item in nameless)]}
    lines = {span.line for span in bad}

    def follows(item: Diagnostic) -> bool:
        spans = [item.span, *(label.span for label in item.labels)]
        own = [span for span in spans if span.source is module.source]
        if any(span.line in lines for span in own) or item.code[:3] in ("E04", "E05", "E06"):
            return True
        return item.code != "E0210" and any(part(span) in broken for span in own)

    later = reporter.diagnostics[syntax:]
    reporter.diagnostics[syntax:] = [item for item in later if not follows(item)]


def graph_of(
    checked: Checked,
    network: str | None = None,
    settings: Settings | None = None,
    passes: tuple[Pass, ...] | None = None,
) -> Graph:
    """The graph of a network with settings changed, after the passes (None: all of ``PIPELINE``).

    ``settings`` maps parameters and settings of the network, or arguments of what a setting is, to
    numbers, booleans, or text that is read as an expression: ``{"neuron": "LIF(tau = 4.0)"}``,
    ``{"neuron.tau": 4.0}``. Raises ``SpecError``.
    """
    from danetc.compiler.passes import run  # late: a check runs none

    graph = lowered_network(checked, network, settings).graph
    return run(graph) if passes is None else run(graph, passes)


def lowered_network(
    checked: Checked, network: str | None = None, settings: Settings | None = None
) -> Lowered:
    """A network with settings changed, as it is written: the graph has seen no pass.

    ``settings`` are those of ``graph_of``. Raises ``SpecError``.
    """
    declaration = checked.declaration(network)
    if not settings:
        return checked.lowered[declaration.name]
    values = read_settings(settings)
    reporter = Reporter(most=MAX_ERRORS)
    made: list[Lowered | None] = []
    with bounded() as work:
        work.allow(len(checked.module.source.text))
        cut = _run_to_bounds(
            lambda: made.append(_lowered(declaration, checked.module, values, reporter)),
            lambda: declaration.name_span,
        )
    _raise_errors(_errors(reporter, cut))
    (lowered,) = made
    assert lowered is not None
    return lowered


def read_settings(settings: Settings) -> dict[str, Expr]:
    """Settings as expressions, whose places are in the text of each. Raises ``SpecError``."""
    reporter = Reporter()
    values = {name: parse_override(name, value, reporter) for name, value in settings.items()}
    reporter.raise_if_errors()
    return {name: value for name, value in values.items() if value is not None}
