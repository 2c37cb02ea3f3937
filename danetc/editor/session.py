"""The session of a client: its open files, the conversion of positions, and the published problems.

A file is analysed at the first request after a change. Problems are published after a short pause, so
that they do not delay typing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from danetc.dsl.diagnostics.diagnostic import Diagnostic
from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.loading import library_file
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis
from danetc.editor.open_files import OpenFiles
from danetc.editor.outline import TOKEN_TYPES, OutlineSymbol
from danetc.editor.positions import TextLines
from danetc.editor.problems import problems

PAUSE = 0.1
"""Number of seconds without a change after which problems are published."""


def symbol_kind(kind: str) -> lsp.SymbolKind:
    """Return the protocol's kind for a kind of declarations or lines."""
    name = TOKEN_TYPES.get(kind, "variable").replace("parameter", "constant")
    return lsp.SymbolKind[name.capitalize()]


class DanetServer(LanguageServer):
    """A language server with the open files of its client."""

    def __init__(self) -> None:
        sync = lsp.TextDocumentSyncKind.Incremental
        super().__init__("danetc", version("danetc"), text_document_sync_kind=sync)
        self.status = 1
        """Exit status; 0 after the client has requested a shutdown."""
        self.open = OpenFiles()
        self.uris: dict[str, str] = {}  # from the name of an open file to its URI
        self.waiting: set[str] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.lines = lru_cache(maxsize=50)(self._lines)

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

    def _lines(self, source: SourceFile) -> TextLines:
        encoding = str(getattr(self.workspace.position_encoding, "value", "utf-16"))
        return TextLines(source.text, encoding)

    def range(self, span: Span) -> lsp.Range:
        start, end = self.lines(span.source).range(span)
        return lsp.Range(lsp.Position(*start), lsp.Position(*end))

    def location(self, span: Span) -> lsp.Location:
        return lsp.Location(self.uri(span.source), self.range(span))

    def offset(self, analysis: Analysis, position: lsp.Position) -> int:
        return self.lines(analysis.source).offset(position.line, position.character)

    def place(self, params: Any) -> tuple[Analysis, int]:
        """Return the analysis and the offset of a request."""
        analysis = self.analysis(params)
        return analysis, self.offset(analysis, params.position)

    def span(self, analysis: Analysis, range: lsp.Range) -> Span:
        start, end = self.offset(analysis, range.start), self.offset(analysis, range.end)
        return Span(analysis.source, start, end)

    def analysis(self, params: Any) -> Analysis:
        uri = params.text_document.uri
        try:
            return self.open.analysis(self.path(uri))
        except (OSError, ValueError) as error:  # ValueError for NUL in a path and invalid UTF-8
            raise JsonRpcInvalidParams(f"{uri} is not open and cannot be read: {error}") from error

    def edits(self, edits: Sequence[Edit]) -> list[lsp.TextEdit]:
        return [lsp.TextEdit(self.range(edit.span), edit.text) for edit in edits]

    def workspace_edit(self, edits: Sequence[Edit]) -> lsp.WorkspaceEdit:
        """Group edits by file."""
        changes: dict[str, list[lsp.TextEdit]] = {}
        for edit in edits:
            changes.setdefault(self.uri(edit.span.source), []).extend(self.edits([edit]))
        return lsp.WorkspaceEdit(changes=changes)

    def symbol(self, item: OutlineSymbol) -> lsp.DocumentSymbol:
        return lsp.DocumentSymbol(
            item.name or item.kind,
            symbol_kind(item.kind),
            self.range(item.span),
            self.range(item.name_span),
            detail=item.detail,
            children=[self.symbol(child) for child in item.children],
        )

    # -- problems -----------------------------------------------------------------------------------

    def changed(self, uri: str) -> None:
        """Update the text of a file and schedule the publication of problems."""
        name = self.path(uri)
        self.open.change(name, self.workspace.get_text_document(uri).source)
        self.uris[name] = uri
        self.soon(name)

    def soon(self, *names: str) -> None:
        self.waiting.update(names)
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(PAUSE, self.send_problems)

    def send_problems(self) -> None:
        names, self.waiting = self.waiting, set()
        names |= {other for name in names for other in self.open.dependents(name)}
        for name in sorted(names):
            if self.open.is_open(name):
                uri = self.uris[name]
                found = [self.diagnostic(item) for item in problems(self.open.analysis(name))]
                version = self.workspace.get_text_document(uri).version
                self.text_document_publish_diagnostics(
                    lsp.PublishDiagnosticsParams(uri, found, version)
                )

    def diagnostic(self, item: Diagnostic) -> lsp.Diagnostic:
        hint = f"hint: {item.hint}" if item.hint else ""
        error = item.severity == "error"
        return lsp.Diagnostic(
            self.range(item.span),
            "\n".join(filter(None, (item.message, item.label, hint))),
            lsp.DiagnosticSeverity.Error if error else lsp.DiagnosticSeverity.Warning,
            code=item.code,
            source="danetc",
            related_information=[
                lsp.DiagnosticRelatedInformation(self.location(label.span), label.text)
                for label in item.labels
            ],
        )
