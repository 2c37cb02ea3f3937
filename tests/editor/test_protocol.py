"""The language server: each feature by messages to one in this process, and a session with a client."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pygls")

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

from danetc.editor.server import make_server
from danetc.main import main
from tests.editor.marked import network

Message = dict[str, Any]
INVALID_PARAMS = -32602


def request(id: object, method: str, params: object = None) -> Message:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def notification(method: str, params: object = None) -> Message:
    return {"jsonrpc": "2.0", "method": method, "params": params}


START = [
    request("start", "initialize", {"processId": None, "rootUri": None, "capabilities": {}}),
    notification("initialized", {}),
]
END = [request("end", "shutdown"), notification("exit")]
SPEC = "use std\n" + network("stem = conv(8) -> norm -> spike", "head = avgpool -> linear(classes)")


def written(messages: Sequence[Message]) -> bytes:
    bodies = [json.dumps(each).encode() for each in messages]
    return b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies)


def read(output: bytes) -> list[Message]:
    found = []
    while output:
        head, _, output = output.partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        found.append(json.loads(output[:length]))
        output = output[length:]
    return found


class Output(io.BytesIO):
    """Standard output, which may be read once the server has closed it."""

    def close(self) -> None:
        pass


def answers(*messages: Message) -> tuple[int, list[Message]]:
    """The exit status of a server in this process, and all that it sends."""
    server, output = make_server(), Output()
    server.start_io(io.BytesIO(written(messages)), output)
    return server.status, read(output.getvalue())


def codes(found: Sequence[Message]) -> dict[object, object]:
    """What requests are answered with: the code of an error, or None."""
    return {each["id"]: each.get("error", {}).get("code") for each in found if "id" in each}


FIRE = """use std

block fire(width) { out = in -> conv(width) -> norm -> spike }
network small(classes = 10) {
  input = image(3, 32, 32)
  steps = 4
  neuron = LIF
  surrogate = atan
  out = in -> fier(16) -> fire(8) -> avgpool -> mean_over_time -> linear(classes)
}
"""


def test_each_feature_answers_about_the_text_as_it_was_changed() -> None:
    uri = "file:///nets/fire.danet"
    document = {"uri": uri}
    lines = FIRE.splitlines()
    misspelt = {"start": {"line": 8, "character": lines[8].index("fier")},
                "end": {"line": 8, "character": lines[8].index("fier") + 4}}  # fmt: skip

    def asked(method: str, **params: object) -> Message:
        return request(method, f"textDocument/{method}", {"textDocument": document, **params})

    def on(word: str, line: int) -> dict[str, object]:
        return {"position": {"line": line, "character": lines[line].index(word) + 1}}

    _, found = answers(
        *START,
        notification("textDocument/didOpen",
                     {"textDocument": {**document, "languageId": "danet", "version": 1, "text": FIRE}}),
        asked("codeAction", range=misspelt, context={"diagnostics": []}),
        notification("textDocument/didChange",
                     {"textDocument": {**document, "version": 2},
                      "contentChanges": [{"range": misspelt, "text": "fire"}]}),
        notification("textDocument/didSave", {"textDocument": document}),
        notification("workspace/didChangeWatchedFiles", {"changes": []}),
        asked("inlayHint", range={"start": {"line": 0, "character": 0},
                                  "end": {"line": 9, "character": 0}}),
        asked("documentSymbol"),
        asked("foldingRange"),
        asked("semanticTokens/full"),
        asked("definition", **on("fire", 8)),
        asked("references", **on("fire", 8), context={"includeDeclaration": False}),
        asked("documentHighlight", **on("width", 2)),
        asked("prepareRename", **on("fire", 8)),
        asked("rename", **on("fire", 8), newName="burst"),
        request("refused", "textDocument/rename",
                {"textDocument": document, **on("fire", 8), "newName": "conv"}),
        request("symbol", "workspace/symbol", {"query": "smll"}),
        *END,
    )  # fmt: skip
    results = {each["id"]: each.get("result") for each in found if "id" in each}
    (action,) = results["codeAction"]
    (edit,) = action["edit"]["changes"][uri]
    assert (action["title"], edit) == ("write `fire`", {"range": misspelt, "newText": "fire"})
    hints = [(hint["position"]["line"], hint["label"]) for hint in results["inlayHint"]]
    assert (2, "16 x 32 x 32 analog (1st of 2)") in hints
    assert (8, "16 x 32 x 32 spike") in hints
    assert (8, "8 x 32 x 32 spike") in hints
    assert [each["name"] for each in results["documentSymbol"]] == ["fire", "small"]
    assert {"startLine": 3, "endLine": 9, "kind": "region"} in results["foldingRange"]
    tokens = results["semanticTokens/full"]["data"]
    assert tokens[:3] == [0, 0, len("use")]
    assert sum(tokens[0::5]) == 8  # the last one stands on the network's last line with words

    def place(line: int, start: int, word: str) -> Message:
        return {"start": {"line": line, "character": start},
                "end": {"line": line, "character": start + len(word)}}  # fmt: skip

    uses = [place(8, lines[8].index("fier"), "fire"), place(8, lines[8].index("fire"), "fire")]
    head = place(2, lines[2].index("fire"), "fire")
    assert results["definition"] == {"uri": uri, "range": head}
    assert results["references"] == [{"uri": uri, "range": use} for use in uses]
    assert results["prepareRename"] == uses[1]
    edits = results["rename"]["changes"][uri]
    assert [each["newText"] for each in edits] == ["burst"] * 3
    assert sorted(map(str, (each["range"] for each in edits))) == sorted(map(str, (head, *uses)))
    assert len(results["documentHighlight"]) == 2
    assert codes(found)["refused"] == INVALID_PARAMS
    assert [(each["name"], each["location"]["range"]) for each in results["symbol"]] == [
        ("small", place(3, lines[3].index("small"), "small"))
    ]


def test_a_picture_says_where_its_boxes_are_written() -> None:
    uri, text = "file:///nets/fire.danet", FIRE.replace("fier", "fire")
    item = {"uri": uri, "languageId": "danet", "version": 1, "text": text}
    server = make_server()
    opened = notification("textDocument/didOpen", {"textDocument": item})
    server.start_io(io.BytesIO(written([*START, opened])), Output())
    params = SimpleNamespace(
        textDocument=SimpleNamespace(uri=uri), position=SimpleNamespace(line=5, character=0),
        level="op", theme="light", network=None,
    )  # fmt: skip
    drawn: Any = asyncio.run(server.protocol.fm.features["danetc/draw"](params))
    assert (drawn["network"], drawn["level"], drawn["problem"]) == ("small", "op", "")
    assert [each["name"] for each in drawn["networks"]] == ["small"]
    assert drawn["svg"].count("<svg") == 1
    lines = text.splitlines()

    def words(place: lsp.Range) -> str:
        return lines[place.start.line][place.start.character : place.end.character]

    boxes = [*drawn["boxes"].values()]
    places = [words(box["place"]) for box in boxes]
    assert places[:4] == ["image(3, 32, 32)", "conv(width)", "norm", "spike"]
    assert ["spike", "LIF"] in [[words(span) for span in box["spans"]] for box in boxes]


def test_a_server_that_has_been_shut_down_ends_well() -> None:
    assert answers(*START, *END)[0] == 0
    assert answers(*START, notification("exit"))[0] == 1
    assert answers(*START)[0] == 1


def test_a_file_that_cannot_be_read_is_named() -> None:
    uri = "file:///there/is/none.danet"
    place = {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}}
    status, found = answers(*START, request(1, "textDocument/hover", place), *END)
    assert (status, codes(found)[1]) == (0, INVALID_PARAMS)
    assert any(uri in each["error"]["message"] for each in found if "error" in each)


def test_a_file_that_is_open_by_two_names_stays_open_when_one_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text("")
    (tmp_path / "b.danet").symlink_to("a.danet")
    first, second = ((tmp_path / name).as_uri() for name in ("a.danet", "b.danet"))
    document = {"version": 1, "languageId": "danet", "text": SPEC}
    told = [
        notification("textDocument/didOpen", {"textDocument": {"uri": uri, **document}})
        for uri in (first, second)
    ]
    told.append(notification("textDocument/didClose", {"textDocument": {"uri": second}}))
    _, found = answers(*START, *told, request(1, "textDocument/formatting", {
        "textDocument": {"uri": first}, "options": {"tabSize": 2, "insertSpaces": True},
    }), *END)  # fmt: skip
    assert codes(found)[1] is None


# -- over standard input and output: one client, one session ---------------------------------------


PATIENCE = 60
"""Seconds that an answer may take on a machine that is busy with other tests."""


class Client(LanguageClient):
    def __init__(self) -> None:
        super().__init__("tests", "1")
        self.published: asyncio.Queue[lsp.PublishDiagnosticsParams] = asyncio.Queue()

        @self.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def took(params: lsp.PublishDiagnosticsParams) -> None:
            self.published.put_nowait(params)

    async def problems(self, uri: str) -> list[lsp.Diagnostic]:
        """The next problems of a file."""
        while True:
            params = await asyncio.wait_for(self.published.get(), PATIENCE)
            if params.uri == uri:
                return list(params.diagnostics)


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[Client, lsp.InitializeResult]]:
    """A client of a server that works in a folder, and what that offers."""
    client = Client()
    await client.start_io(sys.executable, "-c", "from danetc.main import main; main(['lsp'])")
    try:
        offered = await asyncio.wait_for(
            client.initialize_async(
                lsp.InitializeParams(
                    lsp.ClientCapabilities(),
                    root_uri=folder.as_uri(),
                    workspace_folders=[lsp.WorkspaceFolder(folder.as_uri(), "nets")],
                )
            ),
            PATIENCE,
        )
        client.initialized(lsp.InitializedParams())
        yield client, offered
        await client.shutdown_async(None)
        client.exit(None)
    finally:
        await client.stop()


BLOCKS = "use std\n\n# Fires.\nblock fire(width) { out = in -> conv(width) -> norm -> spike }\n"
USER = 'use "blocks.danet"\n' + network(
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
    uri, text = spec.as_uri(), USER
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
    assert "pip install 'danetc[lsp]'" in capsys.readouterr().err


def test_on_a_terminal_it_says_who_starts_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main(["lsp"]) == 1
    assert "an editor starts the language server" in capsys.readouterr().err
