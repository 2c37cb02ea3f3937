"""The language server over standard input and output: one client, one session."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

pytest.importorskip("pygls")

from lsprotocol import types as lsp

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
    async with started(folder) as (client, _):
        await asyncio.wait_for(conversation(client, folder), 3 * PATIENCE)


async def conversation(client: Client, folder: Path) -> None:
    library, spec = folder / "blocks.danet", folder / "net.danet"
    uri, text = spec.as_uri(), SPEC
    document = lsp.TextDocumentIdentifier(uri)

    def opened(uri: str, text: str) -> None:
        item = lsp.TextDocumentItem(uri, "danet", 1, text)
        client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))

    # the library has an error on disk, and none as it is open
    opened(uri, text)
    (found,) = {item.code: item for item in await client.problems(uri)}.values()
    assert found.message.startswith("in blocks.danet: ")
    assert found.related_information
    assert found.related_information[0].location.uri == library.as_uri()
    opened(library.as_uri(), BLOCKS)
    assert await client.problems(uri) == []

    # an edit of one place, as an editor sends it
    start, end = position(text, "fire(16)"), position(text, "fire(16)", len("fire(16)"))
    part = lsp.TextDocumentContentChangePartial(lsp.Range(start, end), "fire(16)  -> ")
    version = lsp.VersionedTextDocumentIdentifier(2, uri)
    client.text_document_did_change(lsp.DidChangeTextDocumentParams(version, [part]))
    text = text.replace("fire(16)", "fire(16)  -> ")
    assert [item.code for item in await client.problems(uri)]
    asked = lsp.CompletionParams(document, position(text, "fire(16)  -> ", 13))
    proposals = await client.text_document_completion_async(asked)
    assert isinstance(proposals, lsp.CompletionList)
    assert {"fire", "conv", "spike", "LIF"} <= {item.label for item in proposals.items}

    # a file that closes is the one on disk again
    closed = lsp.TextDocumentIdentifier(library.as_uri())
    client.text_document_did_close(lsp.DidCloseTextDocumentParams(closed))
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
