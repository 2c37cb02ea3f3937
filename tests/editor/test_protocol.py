"""The language server: each feature by messages to a server in this process, and a client's session."""

import asyncio
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any
from unittest.mock import Mock

import pytest

pytest.importorskip("pygls")

from lsprotocol import types as lsp

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


def opened(uri: str, text: str) -> Message:
    item = {"uri": uri, "languageId": "danet", "version": 1, "text": text}
    return notification("textDocument/didOpen", {"textDocument": item})


SPEC = "use std\n" + network("stem = conv(8) -> norm -> spike", "head = avgpool -> linear(classes)")


def written(messages: Sequence[Message]) -> bytes:
    bodies = [json.dumps(each).encode() for each in messages]
    return b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies)


def received(stream: IO[bytes]) -> Iterator[Message]:
    while head := stream.readline():
        while stream.readline().strip():
            pass
        yield json.loads(stream.read(int(head.removeprefix(b"Content-Length: "))))


class Output(io.BytesIO):
    """Standard output that can be read after the server has closed it."""

    def close(self) -> None:
        pass


def answers(*messages: Message) -> tuple[int, list[Message]]:
    """The exit status of a server in this process, and all messages that it sends."""
    server, output = make_server(), Output()
    server.start_io(io.BytesIO(written(messages)), output)
    return server.status, [*received(io.BytesIO(output.getvalue()))]


def codes(found: Sequence[Message]) -> dict[object, object]:
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

    def place(line: int, word: str) -> Message:
        start = lines[line].index(word)
        return {"start": {"line": line, "character": start},
                "end": {"line": line, "character": start + len(word)}}  # fmt: skip

    misspelt = place(8, "fier")

    def asked(method: str, **params: object) -> Message:
        return request(method, f"textDocument/{method}", {"textDocument": document, **params})

    def on(word: str, line: int) -> dict[str, object]:
        return {"position": {"line": line, "character": lines[line].index(word) + 1}}

    _, found = answers(
        *START,
        opened(uri, FIRE),
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
    hints = {(hint["position"]["line"], hint["label"]) for hint in results["inlayHint"]}
    shapes = [(2, "16 x 32 x 32 analog (1st of 2)"), (8, "16 x 32 x 32 spike")]
    assert {*shapes, (8, "8 x 32 x 32 spike")} <= hints
    assert [each["name"] for each in results["documentSymbol"]] == ["fire", "small"]
    assert {"startLine": 3, "endLine": 9, "kind": "region"} in results["foldingRange"]
    tokens = results["semanticTokens/full"]["data"]
    assert tokens[:3] == [0, 0, len("use")]
    assert sum(tokens[0::5]) == 8  # the last one is on the network's last line with words

    uses, head = [misspelt, place(8, "fire")], place(2, "fire")
    assert results["definition"] == {"uri": uri, "range": head}
    assert results["references"] == [{"uri": uri, "range": use} for use in uses]
    assert results["prepareRename"] == uses[1]
    edits = results["rename"]["changes"][uri]
    assert [each["newText"] for each in edits] == ["burst"] * 3
    assert sorted(map(str, (each["range"] for each in edits))) == sorted(map(str, (head, *uses)))
    assert len(results["documentHighlight"]) == 2
    assert codes(found)["refused"] == INVALID_PARAMS
    (symbol,) = results["symbol"]
    assert (symbol["name"], symbol["location"]["range"]) == ("small", place(3, "small"))


def test_a_picture_says_where_its_boxes_are_written() -> None:
    uri, text = "file:///nets/fire.danet", FIRE.replace("fier", "fire")
    server = make_server()
    server.start_io(io.BytesIO(written([*START, opened(uri, text)])), Output())
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
    told = [opened(first, SPEC), opened(second, SPEC)]
    told.append(notification("textDocument/didClose", {"textDocument": {"uri": second}}))
    asked = {"textDocument": {"uri": first}, "options": {"tabSize": 2, "insertSpaces": True}}
    _, found = answers(*START, *told, request(1, "textDocument/formatting", asked), *END)
    assert codes(found)[1] is None


# -- over standard input and output ----------------------------------------------------------------


BLOCKS = "use std\n\n# Fires.\nblock fire(width) { out = in -> conv(width) -> norm -> spike }\n"
USER = 'use "blocks.danet"\n' + network(
    "# \U0001f600 a comment", "stem = fire(8) -> fire(16)", "head = avgpool -> mean_over_time -> linear(classes)"
)  # fmt: skip


def position(text: str, end: str) -> Message:
    """The position in a text after its first ``end``."""
    *before, line = (text.partition(end)[0] + end).split("\n")
    return {"line": len(before), "character": len(line.encode("utf-16-le")) // 2}


@pytest.mark.thorough
def test_a_client_is_answered(tmp_path: Path) -> None:
    library, spec = tmp_path / "blocks.danet", tmp_path / "net.danet"
    library.write_text("block fire(width) = (", encoding="utf-8")
    document = {"uri": spec.as_uri()}
    command = [sys.executable, "-c", "from danetc.main import main; main(['lsp'])"]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as server:
        threading.Timer(180, server.kill).start()
        came = received(server.stdout)  # type: ignore[arg-type]

        def send(*messages: Message) -> None:
            server.stdin.write(written(messages))  # type: ignore[union-attr]
            server.stdin.flush()  # type: ignore[union-attr]

        def problems() -> list[Message]:
            """The next problems of the network's file."""
            published = (each["params"] for each in came if "Diagnostics" in each.get("method", ""))
            return next(each["diagnostics"] for each in published if each["uri"] == spec.as_uri())

        # the library has an error on disk, but none in the open text
        send(*START, opened(spec.as_uri(), USER))
        (found,) = {item["code"]: item for item in problems()}.values()
        assert found["message"].startswith("in blocks.danet: ")
        assert found["relatedInformation"][0]["location"]["uri"] == library.as_uri()
        send(opened(library.as_uri(), BLOCKS))
        assert problems() == []

        # an edit of one place, as an editor sends it
        place = {"start": position(USER, "fire(8) -> "), "end": position(USER, "fire(16)")}
        edit = {"range": place, "text": "fire(16)  -> "}
        changed = {"textDocument": {**document, "version": 2}, "contentChanges": [edit]}
        send(notification("textDocument/didChange", changed))
        assert [item["code"] for item in problems()]
        at = position(USER.replace("fire(16)", "fire(16)  -> "), "fire(16)  -> ")
        asked = {"textDocument": document, "position": at}
        send(request(1, "textDocument/completion", asked))
        proposals = next(each["result"]["items"] for each in came if each.get("id") == 1)
        assert {"fire", "conv", "spike", "LIF"} <= {item["label"] for item in proposals}

        # a closed file is read from disk again
        closed = {"textDocument": {"uri": library.as_uri()}}
        send(notification("textDocument/didClose", closed))
        while not any(item["message"].startswith("in ") for item in problems()):
            pass
        send(*END)
        assert server.wait() == 0


def test_it_says_what_to_install_and_who_starts_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Mock(isatty=lambda: True))
    assert main(["lsp"]) == 1
    assert "an editor starts the language server" in capsys.readouterr().err
    monkeypatch.setattr("danetc.commands.texts.find_spec", lambda name: None)
    assert main(["lsp"]) == 1
    assert "pip install 'danetc[lsp]'" in capsys.readouterr().err
