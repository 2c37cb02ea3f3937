"""The language server over standard input and output: one client, one session, every feature once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pygls")

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException

from danetc.commands.texts import WITHOUT_PYGLS
from danetc.main import main
from tests.editor.client import PATIENCE, Client, started
from tests.editor.marked import network

BLOCKS = "use std\n\n# Fires.\nblock fire(width) { out = in -> conv(width) -> norm -> spike }\n"
SPEC = 'use "blocks.danet"\n' + network(
    "# \U0001f600 a comment", "stem = fire(8) -> fire(16)", "head = avgpool -> mean_over_time -> linear(classes)"
)  # fmt: skip


def position(text: str, word: str, inside: int = 0) -> lsp.Position:
    """Where a word stands first."""
    before = text[: text.index(word) + inside]
    line = before.rpartition("\n")[2]
    return lsp.Position(before.count("\n"), len(line.encode("utf-16-le")) // 2)


async def session(folder: Path) -> None:
    async with started(folder) as (client, there):
        await asyncio.wait_for(conversation(client, there, folder), 3 * PATIENCE)


async def conversation(client: Client, there: lsp.InitializeResult, folder: Path) -> None:
    library, spec = folder / "blocks.danet", folder / "net.danet"
    offered = there.capabilities
    assert there.server_info is not None
    assert there.server_info.name == "danetc"
    for feature in (
        "hover_provider", "inlay_hint_provider", "completion_provider", "definition_provider",
        "references_provider", "rename_provider", "document_symbol_provider", "semantic_tokens_provider",
        "workspace_symbol_provider", "document_formatting_provider", "folding_range_provider",
        "code_action_provider", "document_highlight_provider",
    ):  # fmt: skip
        assert getattr(offered, feature), feature

    uri, text = spec.as_uri(), SPEC
    document = lsp.TextDocumentIdentifier(uri)

    def opened(uri: str, text: str) -> None:
        item = lsp.TextDocumentItem(uri, "danet", 1, text)
        client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))

    def at(word: str, inside: int = 0) -> dict[str, Any]:
        return {"text_document": document, "position": position(text, word, inside)}

    version = 1

    def change(old: str, new: str) -> None:
        """An edit of one place, as an editor sends it."""
        nonlocal text, version
        version += 1
        start = position(text, old)
        end = position(text, old, len(old))
        part = lsp.TextDocumentContentChangePartial(lsp.Range(start, end), new)
        client.text_document_did_change(
            lsp.DidChangeTextDocumentParams(
                lsp.VersionedTextDocumentIdentifier(version, uri), [part]
            )
        )
        text = text.replace(old, new, 1)

    # the library has an error on disk, and none as it is open
    opened(uri, text)
    (found,) = {item.code: item for item in await client.problems(uri)}.values()
    assert found.message.startswith("in blocks.danet: ")
    assert found.related_information
    assert found.related_information[0].location.uri == library.as_uri()
    opened(library.as_uri(), BLOCKS)
    assert await client.problems(uri) == []

    # hover, hints, definitions
    hovered = await client.text_document_hover_async(lsp.HoverParams(**at("fire(16)", 1)))
    assert hovered is not None
    assert isinstance(hovered.contents, lsp.MarkupContent)
    assert "16 x 32 x 32 spike" in hovered.contents.value
    assert "Fires." in hovered.contents.value
    whole = lsp.Range(lsp.Position(0, 0), lsp.Position(99, 0))
    hints = await client.text_document_inlay_hint_async(lsp.InlayHintParams(document, whole))
    assert [hint.label for hint in hints or ()] == [
        "3 x 32 x 32 analog", "8 x 32 x 32 spike", "16 x 32 x 32 spike", "16 x 1 x 1 in 0 .. 1024 of 1/1024",
        "16 x 1 x 1 analog", "10 analog",
    ]  # fmt: skip
    place = await client.text_document_definition_async(lsp.DefinitionParams(**at("fire(8)", 1)))
    assert isinstance(place, lsp.Location)
    assert (place.uri, place.range.start) == (library.as_uri(), position(BLOCKS, "fire(width)"))
    place = await client.text_document_definition_async(lsp.DefinitionParams(**at("LIF", 1)))
    assert isinstance(place, lsp.Location)
    assert place.uri.endswith("std/neurons.danet")

    # references and renaming, over both files
    context = lsp.ReferenceContext(include_declaration=True)
    places = await client.text_document_references_async(
        lsp.ReferenceParams(context=context, **at("fire(8)"))
    )
    assert sorted(item.uri for item in places or ()) == [library.as_uri(), uri, uri]
    changes = await client.text_document_rename_async(
        lsp.RenameParams(new_name="burst", **at("fire(8)"))
    )
    assert changes is not None
    assert changes.changes is not None
    assert {key: len(edits) for key, edits in changes.changes.items()} == {
        uri: 2,
        library.as_uri(): 1,
    }
    with pytest.raises(JsonRpcException, match="resnet18"):
        await client.text_document_rename_async(
            lsp.RenameParams(new_name="resnet18", **at("fire(8)"))
        )
    with pytest.raises(JsonRpcException, match="name of the language"):
        await client.text_document_prepare_rename_async(lsp.PrepareRenameParams(**at("avgpool")))

    # an error while typing, its completion, its code action, formatting
    change("fire(16)", "fier(16)")
    (found,) = await client.problems(uri)
    assert (found.code, found.range.start) == ("E0210", position(text, "fier"))
    actions = await client.text_document_code_action_async(
        lsp.CodeActionParams(document, found.range, lsp.CodeActionContext([found]))
    )
    assert [item.title for item in actions or ()] == ["write `fire`"]
    change("fier(16)", "fire(16)  ->   ")
    proposals = await client.text_document_completion_async(
        lsp.CompletionParams(**at("fire(16)  ->   ", 15))
    )
    assert isinstance(proposals, lsp.CompletionList)
    labels = [item.label for item in proposals.items]
    assert {"fire", "conv", "spike", "LIF"} <= set(labels)
    change("->   \n", "->   spike\n")
    formatting = await client.text_document_formatting_async(
        lsp.DocumentFormattingParams(document, lsp.FormattingOptions(2, True))
    )
    assert any("fire(16) -> spike" in edit.new_text for edit in formatting or ())

    # outlines, folding, colours, highlights
    outline = await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
    (symbol,) = outline or ()
    assert symbol.name == "small"
    folding = await client.text_document_folding_range_async(lsp.FoldingRangeParams(document))
    assert [fold.kind for fold in folding or ()] == ["imports", "region"]
    tokens = await client.text_document_semantic_tokens_full_async(
        lsp.SemanticTokensParams(document)
    )
    assert tokens is not None
    assert len(tokens.data) % 5 == 0
    assert len(tokens.data) > 100
    marks = await client.text_document_document_highlight_async(
        lsp.DocumentHighlightParams(**at("fire(8)"))
    )
    assert len(marks or ()) == 2
    known = await client.workspace_symbol_async(lsp.WorkspaceSymbolParams("fre"))
    assert [(item.name, item.location.uri) for item in known or ()] == [("fire", library.as_uri())]

    # a file that closes is the one on disk again
    client.text_document_did_close(
        lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(library.as_uri()))
    )
    while not any(item.message.startswith("in ") for item in await client.problems(uri)):
        pass


@pytest.mark.thorough
def test_a_client_is_answered(tmp_path: Path) -> None:
    (tmp_path / "blocks.danet").write_text("block fire(width) = (", encoding="utf-8")
    asyncio.run(session(tmp_path))


def test_without_pygls_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("danetc.commands.texts.find_spec", lambda name: None)
    assert main(["lsp"]) == 1
    assert WITHOUT_PYGLS in capsys.readouterr().err


def test_on_a_terminal_it_says_who_starts_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main(["lsp"]) == 1
    assert "an editor starts the language server" in capsys.readouterr().err
