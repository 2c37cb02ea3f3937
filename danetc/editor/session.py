"""Session of a client: open files, conversion of positions and paths, and published problems.

A text is analysed at the first request after a change. Its problems are published after a short
pause, so that typing does not wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import (
    FeatureNotificationError,
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcParseError,
)
from pygls.lsp.server import LanguageServer

from danetc.dsl.diagnostics.diagnostic import Diagnostic
from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.loading import library_file
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis
from danetc.editor.open_files import OpenFiles
from danetc.editor.outline import OutlineSymbol
from danetc.editor.problems import problems
from danetc.editor.protocol import Protocol, TextLines

PAUSE = 0.1
"""Seconds without a change before problems are published."""

_SYMBOLS = {
    "network": lsp.SymbolKind.Class,
    "backbone": lsp.SymbolKind.Class,
    "block": lsp.SymbolKind.Class,
    "connection": lsp.SymbolKind.Interface,
    "rule": lsp.SymbolKind.Interface,
    "neuron": lsp.SymbolKind.Struct,
    "surrogate": lsp.SymbolKind.Function,
    "recipe": lsp.SymbolKind.Namespace,
    "phase": lsp.SymbolKind.Namespace,
    "parameter": lsp.SymbolKind.Constant,
    "state": lsp.SymbolKind.Field,
}


def symbol_kind(kind: str) -> lsp.SymbolKind:
    """Return the protocol's kind for a kind of declarations or lines."""
    return _SYMBOLS.get(kind, lsp.SymbolKind.Variable)


class DanetServer(LanguageServer):
    """A language server with the open files of its client."""

    protocol: Protocol

    def __init__(self) -> None:
        super().__init__(
            "danetc",
            version("danetc"),
            text_document_sync_kind=lsp.TextDocumentSyncKind.Incremental,
            protocol_cls=Protocol,
        )
        self.status = 1
        """Exit status; 0 after the client has requested a shutdown."""
        self.open = OpenFiles()
        self.uris: dict[str, str] = {}  # URIs of open files by name
        self.waiting: set[str] = set()
        self.timer: asyncio.TimerHandle | None = None
        self._lines: dict[SourceFile, TextLines] = {}

    # -- paths and positions ------------------------------------------------------------------------

    def path(self, uri: str) -> str:
        """Return the path of a file, or the URI of a text without one."""
        path = uris.to_fs_path(uri)
        name = os.path.normpath(path) if path else uri
        if self.open.is_open(name):
            self.uris[name] = uri
        return name

    def uri(self, source: SourceFile) -> str:
        """Return the URI of a source; for the library, its file in the package."""
        if source.name in self.uris:
            return self.uris[source.name]
        file = library_file(source)
        return str(uris.from_fs_path(os.path.abspath(source.name if file is None else str(file))))

    def lines(self, source: SourceFile) -> TextLines:
        """Return the lines of a source, with a cache."""
        found = self._lines.get(source)
        if found is None:
            if len(self._lines) > 50:
                self._lines.clear()
            encoding = str(getattr(self.workspace.position_encoding, "value", "utf-16"))
            found = self._lines[source] = TextLines(source.text, encoding)
        return found

    def range(self, span: Span) -> lsp.Range:
        start, end = self.lines(span.source).range(span)
        return lsp.Range(lsp.Position(*start), lsp.Position(*end))

    def location(self, span: Span) -> lsp.Location:
        return lsp.Location(self.uri(span.source), self.range(span))

    def place(self, params: Any) -> tuple[Analysis, int]:
        """Return the analysis and the offset of a request."""
        analysis = self.analysis(params)
        position = params.position
        return analysis, self.lines(analysis.source).offset(position.line, position.character)

    def analysis(self, params: Any) -> Analysis:
        uri = params.text_document.uri
        try:
            return self.open.analysis(self.path(uri))
        except (OSError, ValueError) as error:  # ValueError for NUL in a path and invalid UTF-8
            raise JsonRpcInvalidParams(f"{uri} is not open and cannot be read: {error}") from error

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Answer invalid JSON with an error; log errors of notifications, which have no answer."""
        if source is JsonRpcException:
            self.protocol.refuse(JsonRpcParseError(f"the message cannot be read: {error}"))
        elif source is FeatureNotificationError:
            self.window_log_message(lsp.LogMessageParams(lsp.MessageType.Error, str(error)))

    def span(self, analysis: Analysis, range: lsp.Range) -> Span:
        lines = self.lines(analysis.source)
        start, end = range.start, range.end
        return Span(
            analysis.source,
            lines.offset(start.line, start.character),
            lines.offset(end.line, end.character),
        )

    def edits(self, edits: Sequence[Edit]) -> list[lsp.TextEdit]:
        return [lsp.TextEdit(self.range(edit.span), edit.text) for edit in edits]

    def workspace_edit(self, edits: Sequence[Edit]) -> lsp.WorkspaceEdit:
        """Group edits by file."""
        changes: dict[str, list[lsp.TextEdit]] = {}
        for edit in edits:
            changes.setdefault(self.uri(edit.span.source), []).extend(self.edits([edit]))
        return lsp.WorkspaceEdit(changes=changes)

    # -- problems -----------------------------------------------------------------------------------

    def changed(self, uri: str) -> None:
        """Update a text, and schedule the problems of affected files."""
        document = self.workspace.get_text_document(uri)
        name = self.path(uri)
        self.open.change(name, document.source)
        self.uris[name] = uri
        self.soon(name)

    def soon(self, *names: str) -> None:
        self.waiting.update(names)
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(PAUSE, self.send_problems)

    def send_problems(self) -> None:
        names, self.waiting = self.waiting, set()
        for name in list(names):
            names.update(self.open.dependents(name))
        for name in sorted(names):
            if self.open.is_open(name):
                self.send(name)

    def send(self, name: str) -> None:
        uri = self.uris[name]
        found = [self.diagnostic(item) for item in problems(self.open.analysis(name))]
        document = self.workspace.get_text_document(uri)
        self.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(uri, found, document.version)
        )

    def diagnostic(self, item: Diagnostic) -> lsp.Diagnostic:
        message = item.message if not item.label else f"{item.message}\n{item.label}"
        if item.hint:
            message += f"\nhint: {item.hint}"
        error = item.severity == "error"
        return lsp.Diagnostic(
            self.range(item.span),
            message,
            lsp.DiagnosticSeverity.Error if error else lsp.DiagnosticSeverity.Warning,
            code=item.code,
            source="danetc",
            related_information=[
                lsp.DiagnosticRelatedInformation(self.location(label.span), label.text)
                for label in item.labels
            ],
        )

    def symbol(self, item: OutlineSymbol) -> lsp.DocumentSymbol:
        return lsp.DocumentSymbol(
            item.name or item.kind,
            symbol_kind(item.kind),
            self.range(item.span),
            self.range(item.name_span),
            detail=item.detail,
            children=[self.symbol(child) for child in item.children],
        )
