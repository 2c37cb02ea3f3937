"""Messages that a language server must survive: each request has an answer, and none a traceback."""

from __future__ import annotations

import asyncio
import io
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pygls")

from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor import analyse
from danetc.editor.preview import answer
from danetc.editor.server import make_server
from tests.editor.marked import network

Message = dict[str, Any]
PARSE_ERROR, INVALID_REQUEST, NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
NOT_INITIALIZED = -32002


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


def written(messages: Sequence[Message | bytes]) -> bytes:
    bodies = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in messages]
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


def answers(*messages: Message | bytes) -> tuple[int, list[Message]]:
    """The exit status of a server in this process, and all that it sends."""
    server, output = make_server(), Output()
    server.start_io(io.BytesIO(written(messages)), output)
    return server.status, read(output.getvalue())


def codes(found: Sequence[Message]) -> dict[object, object]:
    """What requests are answered with: the code of an error, or None."""
    return {each["id"]: each.get("error", {}).get("code") for each in found if "id" in each}


def at(uri: str) -> Message:
    return {"textDocument": {"uri": uri}, "position": {"line": 0, "character": 0}}


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
    class Places:
        def range(self, span: Span) -> str:
            return span.text

        def uri(self, source: SourceFile) -> str:
            return source.name

    text = FIRE.replace("fier", "fire")
    drawn = answer(Places(), analyse(text), text.index("small"), "op", "light", None)
    found: Any = asyncio.run(drawn)
    assert (found["network"], found["level"], found["problem"]) == ("small", "op", "")
    assert [each["name"] for each in found["networks"]] == ["small"]
    assert found["svg"].count("<svg") == 1
    places = [box["place"] for box in found["boxes"].values()]
    assert places[:4] == ["image(3, 32, 32)", "conv(width)", "norm", "spike"]
    assert ["spike", "LIF"] in [box["spans"] for box in found["boxes"].values()]
    wrong: Any = asyncio.run(answer(Places(), analyse("network {"), 0, "op", "neon", None))
    assert "<svg" not in str(wrong["svg"])
    assert wrong["problem"]


def test_a_server_that_has_been_shut_down_ends_well() -> None:
    assert answers(*START, *END)[0] == 0
    assert answers(*START, notification("exit"))[0] == 1
    assert answers(*START)[0] == 1
    status, found = answers(*START, END[0], request(1, "textDocument/hover", at("a")), END[1])
    assert status == 0
    assert codes(found) == {"start": None, "end": None, 1: INVALID_REQUEST}


def test_what_is_asked_before_the_start_is_refused() -> None:
    hover = request(1, "textDocument/hover", at("file:///a.danet"))
    again = {**START[0], "id": 2}
    status, found = answers(hover, notification("textDocument/didSave", {}), *START, again, *END)
    assert status == 0
    assert codes(found) == {1: NOT_INITIALIZED, "start": None, 2: INVALID_REQUEST, "end": None}


@pytest.mark.parametrize(
    ("params", "method"),
    [
        ({}, "textDocument/hover"),
        (None, "textDocument/hover"),
        ({"textDocument": 5, "position": "x"}, "textDocument/hover"),
        ({**at("file:///a.danet"), "position": {"line": "0", "character": None}}, "textDocument/hover"),
        ({"textDocument": {"uri": 7}}, "textDocument/formatting"),
        ([1, 2], "textDocument/completion"),
        (at("file:///a%00b.danet"), "textDocument/hover"),
        (at("file:///there/is/none.danet"), "textDocument/definition"),
        (at("untitled:Untitled-1"), "textDocument/completion"),
        (at("nothing://%ff"), "textDocument/references"),
        (at(""), "textDocument/documentHighlight"),
        (at("file:///"), "textDocument/rename"),
        (None, "danetc/draw"),
        ({"a": 1}, "danetc/draw"),
        ({**at("file:///a%00b"), "level": "blocks", "theme": "auto", "network": None}, "danetc/draw"),
        ({**at("file:///a"), "level": 1, "theme": [], "network": {}}, "danetc/draw"),
    ],
)  # fmt: skip
def test_parameters_that_are_wrong_are_named(params: object, method: str) -> None:
    _, found = answers(*START, request(1, method, params), *END)
    assert codes(found)[1] == INVALID_PARAMS


def test_what_is_no_message_is_answered() -> None:
    wrong = [b"{]", b"\xff", b"[]", b"5", b"null", json.dumps({"id": 7}).encode(), b"[" * 100_000]
    strange = [request([1], "textDocument/hover", {}), request(8, "nothing/known"), request(9, 5)]  # type: ignore[arg-type]
    status, found = answers(*START, *wrong, *strange, *END)
    errors = [(each["id"], each["error"]["code"]) for each in found if "error" in each]
    assert errors == [
        (None, PARSE_ERROR), (None, PARSE_ERROR), (None, INVALID_REQUEST), (None, INVALID_REQUEST),
        (None, INVALID_REQUEST), (7, INVALID_REQUEST), (None, PARSE_ERROR), (None, INVALID_PARAMS),
        (8, NOT_FOUND), (9, INVALID_REQUEST),
    ]  # fmt: skip
    assert status == 0


def test_documents_that_are_not_there_do_not_stop_the_server() -> None:
    change = {"contentChanges": [{"text": "x"}]}
    document = {"version": 1, "languageId": "danet", "text": SPEC}
    told = [
        notification("textDocument/didChange", {"textDocument": {"uri": uri, "version": 1}, **change})
        for uri in ("file:///a%00b", "file:///none.danet", "x")
    ]  # fmt: skip
    told += [
        notification(
            "textDocument/didOpen", {"textDocument": {"uri": "file:///a%00b", **document}}
        ),
        notification("textDocument/didClose", {"textDocument": {"uri": "file:///never.danet"}}),
        notification("textDocument/didOpen", {"textDocument": {"uri": "untitled:one", **document}}),
    ]
    status, found = answers(
        *START, *told, request(1, "textDocument/hover", at("untitled:one")), *END
    )
    assert status == 0
    assert codes(found)[1] is None


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


# -- the process -----------------------------------------------------------------------------------


def process(folder: Path, *messages: Message | bytes) -> tuple[int, list[Message], str]:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from danetc.main import main; sys.exit(main(['lsp']))"],
        input=written(messages),
        capture_output=True,
        timeout=300,
        cwd=folder,
    )
    return done.returncode, read(done.stdout), done.stderr.decode()


@pytest.mark.thorough
def test_the_process_ends_as_the_protocol_says(tmp_path: Path) -> None:
    assert process(tmp_path, *START, *END)[::2] == (0, "")
    assert process(tmp_path, *START, notification("exit"))[::2] == (1, "")
    assert process(tmp_path, *START, request(1, "textDocument/hover", 5), *END)[::2] == (0, "")


METHODS = [
    "textDocument/hover", "textDocument/definition", "textDocument/references", "textDocument/rename",
    "textDocument/prepareRename", "textDocument/completion", "textDocument/formatting",
    "textDocument/codeAction", "textDocument/inlayHint", "textDocument/documentSymbol",
    "textDocument/foldingRange", "textDocument/semanticTokens/full", "textDocument/documentHighlight",
    "workspace/symbol", "danetc/draw", "workspace/executeCommand", "textDocument/signatureHelp",
    "completionItem/resolve", "initialize", "none",
]  # fmt: skip
NOTICES = [
    "textDocument/didOpen", "textDocument/didChange", "textDocument/didClose", "textDocument/didSave",
    "workspace/didChangeWatchedFiles", "workspace/didChangeWorkspaceFolders", "$/cancelRequest",
    "$/setTrace", "initialized", "window/workDoneProgress/cancel", "notebookDocument/didOpen", "none",
]  # fmt: skip
VALUES = [
    None, True, 0, -1, 3, 2**31, 2**70, 1.5, float("nan"), "", "x", "\0", "\ud800", [], [1], {}, {"a": 1},
    {"jsonrpc": "2.0"}, {"line": 0, "character": 0}, [[]],
]  # fmt: skip


class Dice:
    """Messages, drawn at random: most of them right but for one place."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.uris = [
            *[(folder / f"{name}.danet").as_uri() for name in ("a", "b")],
            "untitled:x", "file:///a%00b", "file://host/x", "", "x", "file:///", "http://[", "git:/a?b#c",
            folder.as_uri(), "file:///%ff%fe.danet",
        ]  # fmt: skip

    def position(self) -> Message:
        number = self.random.choice
        sizes = [0, 1, 2, 3, 5, 8, 10**6, -1]
        return {"line": number(sizes), "character": number([*sizes, 13, 20])}

    def range(self) -> Message:
        return {"start": self.position(), "end": self.position()}

    def text(self) -> str:
        start = self.random.randrange(len(SPEC))
        return self.random.choice([SPEC, SPEC[:start], SPEC[start:], "(" * 300, "\ud800", "\0", ""])

    def params(self) -> Message:
        uri = self.random.choice(self.uris[:2] * 6 + self.uris)
        chosen = self.random.choice
        change: Message = {"text": chosen(["", "x", "\n", "conv(", SPEC])}
        if self.random.random() < 0.8:
            change["range"] = self.range()
        return {
            "textDocument": {"uri": uri, "version": 1, "languageId": "danet", "text": self.text()},
            "position": self.position(),
            "range": self.range(),
            "context": {"diagnostics": [], "includeDeclaration": True, "triggerKind": 1},
            "options": {"tabSize": 2, "insertSpaces": True},
            "newName": chosen(["burst", "", "a b", "conv", "\0", "1"]),
            "query": chosen(["", "st", "\0"]),
            "contentChanges": [change],
            "changes": [{"uri": uri, "type": 1}],
            "event": {"added": [], "removed": [{"uri": uri, "name": "x"}]},
            "level": chosen(["blocks", "layers", "x"]),
            "theme": "auto",
            "network": chosen([None, "small", "x"]),
            "id": chosen([1, "x"]),
            "value": "off",
            "token": 1,
            "command": "x",
            "label": "x",
        }

    def damaged(self, value: Any, depth: int = 3) -> Any:
        """The value with another one in some place of it."""
        if not depth or not isinstance(value, dict) or self.random.random() < 0.2:
            return self.random.choice(VALUES)
        key = self.random.choice([*value])
        if self.random.random() < 0.2:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: self.damaged(value[key], depth - 1)}

    def message(self, number: int) -> Message | bytes:
        params: Any = self.params()
        if self.random.random() < 0.5:
            params = self.damaged(params)
        if self.random.random() < 0.4:
            found = notification(self.random.choice(NOTICES + NOTICES[:2] * 6), params)
        else:
            found = request(number, self.random.choice(METHODS), params)
        if self.random.random() < 0.04:
            return bytes(self.random.choices(b'{}[]",:0x', k=20))
        if self.random.random() < 0.04:
            found = self.damaged(found, 1)
        return found


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(4))
def test_messages_at_random_are_all_answered(seed: int, tmp_path: Path) -> None:
    """300 messages to a session: an answer for each request, no internal error, no traceback."""
    dice = Dice(seed, tmp_path)
    messages = [dice.message(number) for number in range(300)]
    status, found, told = process(tmp_path, *START, *messages, *END)
    assert (status, told) == (0, "")
    asked = {
        each["id"]
        for each in messages
        if isinstance(each, dict) and {"jsonrpc", "id", "method"} <= each.keys()
        and type(each["id"]) in (str, int)
    }  # fmt: skip
    assert not asked - {each["id"] for each in found if "result" in each or "error" in each}
    internal = [each for each in found if each.get("error", {}).get("code") == -32603]
    assert not internal, internal[:2]
