"""Checks of files, from the text to the graphs of networks, without importing torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from danetc.compiler.analysis.verify import verify
from danetc.compiler.frontend.declarations import check_declarations
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
from danetc.dsl.loading import Module, is_library, load_module
from danetc.dsl.reading import find_spec, read_source
from danetc.dsl.record import record
from danetc.dsl.syntax.overrides import parse_override
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration, Expr
from danetc.dsl.work import PER_CHARACTER, Exhausted, Work, bounded

if TYPE_CHECKING:
    from danetc.compiler.passes import Pass

MAX_ERRORS = 100

Settings = Mapping[str, Constant]
"""Settings from outside of the file; a string is the text of an expression."""
Reused = tuple[Lowered, Trace]
"""A network of an earlier check."""


@record(slots=False)
class Checked:
    """A file without errors, with its module and the lowered networks."""

    module: Module
    lowered: Mapping[str, Lowered] = field(repr=False)

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(self.lowered)

    @cached_property
    def graphs(self) -> Mapping[str, Graph]:
        """Graph of each network before the passes."""
        return {name: item.graph for name, item in self.lowered.items()}

    @cached_property
    def main(self) -> str:
        """The network named after the file, or the only network."""
        stem = self.module.source.name.replace("\\", "/").rpartition("/")[2].removesuffix(".danet")
        if stem in self.graphs:
            return stem
        if len(self.graphs) == 1:
            return next(iter(self.graphs))
        if not self.graphs:
            raise self._error("the file declares no network", "add `network NAME { ... }`")
        hint = f"name one with -n: {', '.join(self.graphs)}"
        raise self._error("the file declares several networks", hint)

    def declaration(self, network: str | None = None) -> Declaration:
        """Return the declaration of a network, by default the main one."""
        name = network or self.main
        if name not in self.graphs:
            hint = did_you_mean(name, self.graphs)
            hint = hint or f"its networks: {', '.join(self.graphs) or 'none'}"
            raise self._error(f"the file declares no network `{name}`", hint)
        found = self.module.network(name)
        assert found is not None
        return found.declaration

    def _error(self, message: str, hint: str) -> SpecError:
        reporter = Reporter()
        reporter.error("E0220", message, Span(self.module.source, 0, 0), hint=hint)
        return SpecError(reporter.diagnostics)


def check_text(text: str, name: str = "<text>") -> Checked:
    """Check the text of a spec. Raises ``SpecError`` with all its errors."""
    return check_source(SourceFile(name, text))


def check_file(path_or_name: str) -> Checked:
    """Check a file, or a shipped spec by its name. Raises ``SpecError``."""
    return check_source(read_source(find_spec(path_or_name)))


def check_source(source: SourceFile) -> Checked:
    """Check a source: every declaration, and every network lowered and verified.

    Raises ``SpecError``. The work is bounded (E0906), and so is the number of errors (E0907).
    """
    checking = Checking(source)
    if errors := checking.errors():
        raise SpecError(errors)
    assert checking.module is not None
    return Checked(checking.module, checking.networks)


@record(slots=False)
class Survey:
    """Result of a check for an editor, with or without errors.

    ``module`` is None if a limit was reached before all files were read, ``checked`` is None if
    there are errors. ``traces`` contains all networks as far as they were lowered, ``lowered``
    those without errors.
    """

    errors: tuple[Diagnostic, ...]
    module: Module | None
    checked: Checked | None
    lowered: Mapping[str, Lowered] = field(repr=False)
    traces: Mapping[str, Trace] = field(repr=False)


class Checking:
    """A check in two steps: read all files, then check their declarations and networks.

    ``texts`` replaces the contents of files, by real path. ``place`` is the current declaration.
    """

    def __init__(self, source: SourceFile, texts: Mapping[str, str] | None = None) -> None:
        self.place = Span(source, 0, 0)
        self.texts = texts
        self.reporter = Reporter(most=MAX_ERRORS)
        self.module: Module | None = None
        self.networks: dict[str, Lowered] = {}
        self.traces: dict[str, Trace] | None = None  # if requested by an editor
        self.reused: Mapping[str, Reused] = {}  # networks that an edit left unchanged
        self.syntax = 0  # number of errors when all files were read
        self.work = Work()
        self.cut: Diagnostic | None = None  # the error if a limit is reached
        self.is_read = False

    def read(self) -> Module | None:
        """Read the file and all files that it uses. Return None if a limit is reached."""
        if not self.is_read:
            self.is_read = True
            with bounded(self.work):
                self.cut = _run_to_bounds(self._read, lambda: self.place)
        return self.module

    def errors(self) -> list[Diagnostic]:
        """Check the file and return its errors."""
        self.read()
        if self.cut is None:
            with bounded(self.work):
                self.cut = _run_to_bounds(self._check, lambda: self.place)
        if self.module is not None:
            _drop_follow_ups(self.module, self.reporter, self.syntax)
        return _errors(self.reporter, self.cut)

    def survey(self, reused: Mapping[str, Reused]) -> Survey:
        """Check for an editor: also record the values at all spans of the text.

        The networks of ``reused`` are not lowered again.
        """
        self.traces, self.reused = {}, reused
        errors = tuple(self.errors())
        module = self.module
        checked = None if module is None or errors else Checked(module, self.networks)
        return Survey(errors, module, checked, self.networks, self.traces)

    def _read(self) -> None:
        self.module = load_module(self.place.source, self.reporter, self.texts)
        self.syntax = len(self.reporter.diagnostics)

    def _check(self) -> None:
        module, shared = self.module, Shared()
        assert module is not None
        check_declarations(module, self.reporter)
        for declaration in module.program.declarations:
            name = declaration.name
            if declaration.kind != "network" or not module.declares(declaration):
                continue
            self.place = declaration.name_span
            if self.traces is not None and name in self.reused:
                self.networks[name], self.traces[name] = self.reused[name]
                self.work.spend(self.traces[name].steps)
                continue
            trace = None if self.traces is None else self.traces.setdefault(name, Trace())
            before = self.work.steps
            lowered = _lowered(declaration, module, {}, self.reporter, shared, trace)
            if lowered is not None:
                self.networks[name] = lowered
            if trace is not None:
                trace.steps = self.work.steps - before


def _run_to_bounds(work: Callable[[], None], place: Callable[[], Span]) -> Diagnostic | None:
    """Run ``work``. Return an error at ``place`` if it reaches a limit, else None."""
    try:
        work()
    except TooManyErrors:
        message = f"there are more than {MAX_ERRORS} errors; the check ends here"
        hint = "fix these first: the rest may follow from them"
        return Diagnostic("E0907", message, place(), hint=hint)
    except Exhausted as end:
        own = end.span is not None and not is_library(end.span.source)
        return Diagnostic(
            "E0906",
            f"the check takes more than {end.limit:,} steps",
            end.span if own and end.span is not None else place(),
            label="the check ends here",
            hint="reduce the number of networks in a file, the length of stages and rules, and the number of names that "
            "refer to others",
        )
    return None


def _errors(reporter: Reporter, cut: Diagnostic | None) -> list[Diagnostic]:
    """Return the errors in order, followed by that of a limit."""
    found = sorted(reporter.diagnostics, key=order)
    return found if cut is None else [*found, cut]


def _lowered(
    declaration: Declaration,
    module: Module,
    settings: Mapping[str, Expr],
    reporter: Reporter,
    shared: Shared | None = None,
    trace: Trace | None = None,
) -> Lowered | None:
    """Lower and verify a network. Return None if errors were reported."""
    lowered = lower(declaration, module, settings, reporter, shared, trace)
    if lowered is None:
        return None
    try:
        verify(lowered.graph)
    except SpecError:
        for item in _broken_in_place(lowered):
            span, labels = item.span, item.labels
            if is_library(span.source):
                own = [label.span for label in labels if not is_library(label.span.source)]
                labels = (Label(span, "the error occurs here"),)
                span = own[0] if own else declaration.name_span
            reporter.add(replace(item, span=span, labels=labels))
        return None
    return lowered


def _broken_in_place(lowered: Lowered) -> Sequence[Diagnostic]:
    """Return the errors of ``verify``; errors of a norm are at the word `norm`, not the setting."""
    graph, written_at = lowered.graph, lowered.written_at
    nodes = {
        id: replace(node, origin=written_at[id])
        if id in written_at and OPS[node.op].norm is not None
        else node
        for id, node in graph.nodes.items()
    }
    try:
        verify(replace(graph, nodes=nodes))
    except SpecError as error:
        return error.diagnostics
    raise AssertionError("invariants do not depend on spans")


def _drop_follow_ups(module: Module, reporter: Reporter, syntax: int) -> None:
    """Drop errors that may result from a syntax error, one of the first ``syntax`` errors.

    These are other errors on its line, errors in its declaration except unknown names, and all
    errors of kinds, shapes and connections, because they depend on several declarations.
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
    """Return the graph of a network with settings, after the passes (default: all).

    ``settings`` maps parameters and settings of the network, or arguments of a setting's value, to
    numbers, booleans, or texts of expressions: ``{"neuron": "LIF(tau = 4.0)"}``,
    ``{"neuron.tau": 4.0}``. Raises ``SpecError``.
    """
    from danetc.compiler.passes import run  # deferred: not needed by a check

    graph = lowered_network(checked, network, settings).graph
    return run(graph) if passes is None else run(graph, passes)


def lowered_network(
    checked: Checked, network: str | None = None, settings: Settings | None = None
) -> Lowered:
    """Return a network with settings (see ``graph_of``), before the passes.

    Raises ``SpecError``.
    """
    declaration = checked.declaration(network)
    if not settings:
        return checked.lowered[declaration.name]
    values = read_settings(settings)
    reporter = Reporter(most=MAX_ERRORS)
    made: list[Lowered | None] = []
    with bounded() as work:
        work.limit += PER_CHARACTER * len(checked.module.source.text)
        cut = _run_to_bounds(
            lambda: made.append(_lowered(declaration, checked.module, values, reporter)),
            lambda: declaration.name_span,
        )
    if errors := _errors(reporter, cut):
        raise SpecError(errors)
    (lowered,) = made
    assert lowered is not None
    return lowered


def read_settings(settings: Settings) -> dict[str, Expr]:
    """Parse settings; spans refer to the text of each setting. Raises ``SpecError``."""
    reporter = Reporter()
    values = {name: parse_override(name, value, reporter) for name, value in settings.items()}
    reporter.raise_if_errors()
    return {name: value for name, value in values.items() if value is not None}
