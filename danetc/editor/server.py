"""``danetc lsp``: a server of the Language Server Protocol, based on pygls.

Each feature calls a function of this package and converts the result to types of the protocol.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import JsonRpcInvalidParams

from danetc.compiler.draw import LEVELS
from danetc.editor.analysis import Analysis
from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.hover import hover
from danetc.editor.navigation import RenameRefused, definition, references, rename, renameable
from danetc.editor.outline import MODIFIERS, TOKEN_TYPES, TYPES, folds, semantic_tokens, symbols
from danetc.editor.preview import preview
from danetc.editor.problems import code_fixes, format_edits
from danetc.editor.session import DanetServer, symbol_kind

_COMPLETIONS = {"namespace": "Module", "parameter": "Variable", "enumMember": "EnumMember"}


def _completion_kind(kind: str) -> lsp.CompletionItemKind:
    type = "file" if kind == "file" else TOKEN_TYPES.get(kind, "keyword")
    return lsp.CompletionItemKind[_COMPLETIONS.get(type, type.capitalize())]


def make_server() -> DanetServer:
    """Return a server with all features, not started."""
    server = DanetServer()
    for register in (_synchronisation, _reading, _navigating, _writing):
        register(server)
    return server


def _synchronisation(server: DanetServer) -> None:
    @server.feature(lsp.INITIALIZED)
    def initialized(params: lsp.InitializedParams) -> None:
        folders = [uris.to_fs_path(uri) for uri in server.workspace.folders]
        if not folders and server.workspace.root_path:
            folders = [server.workspace.root_path]
        server.open.folders = [os.path.normpath(folder) for folder in folders if folder]

    @server.feature(lsp.SHUTDOWN)
    def shut_down(params: Any) -> None:
        server.status = 0

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: lsp.DidChangeTextDocumentParams) -> None:
        server.changed(params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        name = server.path(uri)
        server.open.close(name)
        server.uris.pop(name, None)
        server.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))
        server.soon(*server.open.names)

    @server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: lsp.DidSaveTextDocumentParams) -> None:
        server.soon(server.path(params.text_document.uri))

    @server.feature(lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def disk_changed(params: lsp.DidChangeWatchedFilesParams) -> None:
        server.open.disk_changed()
        server.soon(*server.open.names)


def _reading(server: DanetServer) -> None:
    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hovered(params: lsp.HoverParams) -> lsp.Hover | None:
        analysis, offset = server.place(params)
        found = hover(analysis, offset, server.open.others(analysis.source.name))
        if found is None:
            return None
        text = lsp.MarkupContent(lsp.MarkupKind.Markdown, found.markdown)
        return lsp.Hover(text, server.range(found.span))

    @server.feature(lsp.TEXT_DOCUMENT_INLAY_HINT)
    def hinted(params: lsp.InlayHintParams) -> list[lsp.InlayHint]:
        analysis = server.analysis(params)
        lines = server.lines(analysis.source)
        within = server.span(analysis, params.range)
        found = inlay_hints(analysis, server.open.others(analysis.source.name), within)
        return [
            lsp.InlayHint(
                lsp.Position(*lines.position(hint.offset)),
                hint.text,
                lsp.InlayHintKind.Type,
                tooltip=hint.tooltip,
                padding_left=True,
            )
            for hint in found
        ]

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def outlined(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        return [server.symbol(item) for item in symbols(server.analysis(params))]

    @server.feature(lsp.TEXT_DOCUMENT_FOLDING_RANGE)
    def folded(params: lsp.FoldingRangeParams) -> list[lsp.FoldingRange]:
        analysis = server.analysis(params)
        lines = server.lines(analysis.source)
        return [
            lsp.FoldingRange(
                lines.position(fold.start)[0],
                lines.position(fold.end)[0],
                kind=lsp.FoldingRangeKind(fold.kind),
            )
            for fold in folds(analysis)
        ]

    @server.feature(
        lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL,
        lsp.SemanticTokensLegend(list(TYPES), list(MODIFIERS)),
    )
    def coloured(params: lsp.SemanticTokensParams) -> lsp.SemanticTokens:
        analysis = server.analysis(params)
        lines = server.lines(analysis.source)
        data: list[int] = []
        line = column = 0
        for token in semantic_tokens(analysis):
            (row, start), (_, end) = lines.range(token.span)
            modifiers = sum(1 << MODIFIERS.index(each) for each in token.modifiers)
            data += [row - line, start - column if row == line else start, end - start]
            data += [TYPES.index(token.type), modifiers]
            line, column = row, start
        return lsp.SemanticTokens(data)

    @server.feature("danetc/draw")
    async def drawn(params: Any) -> Mapping[str, object]:
        uri = lsp.TextDocumentIdentifier(params.textDocument.uri)
        position = lsp.Position(params.position.line, params.position.character)
        analysis, offset = server.place(lsp.TextDocumentPositionParams(uri, position))
        _ = analysis.survey  # compute the cached value before the thread starts
        request = params.level, params.theme, params.network
        found = await asyncio.to_thread(preview, analysis, offset, *request)
        return {
            "networks": [
                {"name": name, "range": server.range(span)} for name, span in found.networks.items()
            ],
            "network": found.network,
            "levels": [*LEVELS],
            "level": found.level,
            "svg": found.svg,
            "boxes": {
                key: {
                    "place": box.place and server.range(box.place),
                    "written": box.written and server.location(box.written),
                    "spans": [server.range(span) for span in box.spans],
                }
                for key, box in found.boxes.items()
            },
            "problem": found.problem,
        }


def _navigating(server: DanetServer) -> None:
    def mentioning(analysis: Analysis, offset: int) -> list[Analysis]:
        """Return the analyses of all files that may contain the name at an offset."""
        found = analysis.meanings.at(offset)
        return [] if found is None else list(server.open.mentioning(found.meaning.name))

    @server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def defined(params: lsp.DefinitionParams) -> lsp.Location | None:
        span = definition(*server.place(params))
        return None if span is None else server.location(span)

    @server.feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def referred(params: lsp.ReferenceParams) -> list[lsp.Location]:
        place = server.place(params)
        own = params.context.include_declaration
        found = references(*place, mentioning(*place), definitions=own)
        return [server.location(span) for span in found]

    @server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
    def marked(params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight]:
        found = references(*server.place(params))
        return [lsp.DocumentHighlight(server.range(span)) for span in found]

    @server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
    def asked_to_rename(params: lsp.PrepareRenameParams) -> lsp.Range:
        try:
            return server.range(renameable(*server.place(params)))
        except RenameRefused as refused:
            raise JsonRpcInvalidParams(str(refused)) from None

    @server.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
    def renamed(params: lsp.RenameParams) -> lsp.WorkspaceEdit:
        place = server.place(params)
        try:
            return server.workspace_edit(rename(*place, params.new_name, mentioning(*place)))
        except RenameRefused as refused:
            raise JsonRpcInvalidParams(str(refused)) from None

    @server.feature(lsp.WORKSPACE_SYMBOL)
    def found(params: lsp.WorkspaceSymbolParams) -> list[lsp.WorkspaceSymbol]:
        return [
            lsp.WorkspaceSymbol(
                server.location(item.name_span),
                item.name,
                symbol_kind(item.kind),
                container_name=os.path.basename(item.span.source.name),
            )
            for item in server.open.workspace_symbols(params.query)
        ]


def _writing(server: DanetServer) -> None:
    @server.feature(
        lsp.TEXT_DOCUMENT_COMPLETION,
        lsp.CompletionOptions(trigger_characters=["(", ",", "=", ">", '"', "/"]),
    )
    def completed(params: lsp.CompletionParams) -> lsp.CompletionList:
        found = complete(*server.place(params))
        return lsp.CompletionList(
            is_incomplete=False,
            items=[
                lsp.CompletionItem(
                    item.name,
                    kind=_completion_kind(item.kind),
                    detail=item.detail,
                    documentation=lsp.MarkupContent(lsp.MarkupKind.Markdown, item.markdown),
                    sort_text=f"{number:04}",
                    text_edit=lsp.TextEdit(server.range(item.span), item.text),
                )
                for number, item in enumerate(found)
            ],
        )

    @server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def formatted(params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
        return server.edits(format_edits(server.analysis(params)))

    @server.feature(
        lsp.TEXT_DOCUMENT_CODE_ACTION,
        lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix]),
    )
    def fixed(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        analysis = server.analysis(params)
        span = server.span(analysis, params.range)
        return [
            lsp.CodeAction(
                fix.title,
                kind=lsp.CodeActionKind.QuickFix,
                diagnostics=[server.diagnostic(fix.problem)],
                is_preferred=fix.preferred,
                edit=server.workspace_edit(fix.edits),
            )
            for fix in code_fixes(analysis, span.start, span.end)
        ]


def serve() -> int:
    """Serve a client on standard input and output until it exits.

    Returns the exit status, 0 if the client requested a shutdown first.
    """
    if os.environ.get("DANETC_DEBUG") != "1":  # the client receives errors as responses
        logging.getLogger("pygls").setLevel(logging.CRITICAL + 1)
    server = make_server()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as output:  # pygls closes it at `exit`
        server.start_io(stdout=output)
    return server.status
