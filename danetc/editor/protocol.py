"""Messages and positions of the Language Server Protocol."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcServerNotInitialized,
)
from pygls.protocol import LanguageServerProtocol

from danetc.dsl.syntax.source import Span


class TextLines:
    """Lines of a text, to convert offsets in characters (code points) to positions.

    A position is a line and a column, both from 0. Columns count units of the encoding that client
    and server agreed on, by default UTF-16. Lines end with ``\\n``, ``\\r\\n`` or ``\\r``.
    """

    def __init__(self, text: str, encoding: str = "utf-16") -> None:
        self.text = text
        self.encoding = encoding
        self.starts = [0]
        for i, ch in enumerate(text):
            if ch == "\n" or (ch == "\r" and text[i + 1 : i + 2] != "\n"):
                self.starts.append(i + 1)

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, clamped to the text."""
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self.starts, offset) - 1
        return line, self._units(self.text[self.starts[line] : offset])

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position, clamped to its line and the text."""
        if line < 0:
            return 0
        if line >= len(self.starts):
            return len(self.text)
        start = self.starts[line]
        end = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.text)
        here = self.text[start:end].rstrip("\r\n")
        if here.isascii() or self.encoding == "utf-32":
            return start + max(0, min(column, len(here)))
        units = 0
        for i, ch in enumerate(here):
            if units >= column:
                return start + i
            units += self._units(ch)
        return start + len(here)

    def range(self, span: Span) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the start and end positions of a span."""
        return self.position(span.start), self.position(span.end)

    def _units(self, text: str) -> int:
        if text.isascii() or self.encoding == "utf-32":
            return len(text)
        if self.encoding == "utf-8":
            return len(text.encode("utf-8", "surrogatepass"))
        return len(text.encode("utf-16-le", "surrogatepass")) // 2


@dataclass(frozen=True)
class Mistyped:
    """A message whose parameters do not have the types of its method."""

    message: Mapping[str, Any]


class Protocol(LanguageServerProtocol):
    """pygls' protocol, with answers to invalid messages."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        try:
            return super().structure_message(data)
        except JsonRpcException:
            return Mistyped(data)

    def handle_message(self, message: Any) -> None:
        if isinstance(message, Mistyped):
            fields = message.message
            error: JsonRpcException = JsonRpcInvalidParams(
                f"the parameters of {fields.get('method')!r:.60} are not those of the protocol"
            )
        elif not hasattr(message, "jsonrpc"):
            fields = message if isinstance(message, dict) else {}
            error = JsonRpcInvalidRequest("a message is an object with `jsonrpc`")
        else:
            method, id = getattr(message, "method", ""), getattr(message, "id", 0)
            fields = {
                name: value
                for name in ("id", "method")
                if (value := getattr(message, name, None)) is not None
            }
            if (
                message.jsonrpc != self.VERSION
                or not isinstance(method, str)
                or not isinstance(id, str | int)
            ):
                error = JsonRpcInvalidRequest(
                    "`jsonrpc` is 2.0, `method` a name and `id` a name or a whole number"
                )
            elif self._shutdown and method != lsp.EXIT:
                error = JsonRpcInvalidRequest("the server is shutting down")
            elif self._workspace is None and method not in (lsp.INITIALIZE, lsp.EXIT, lsp.SHUTDOWN):
                error = JsonRpcServerNotInitialized("the server is not initialized yet")
            elif self._workspace is not None and method == lsp.INITIALIZE:
                error = JsonRpcInvalidRequest("the server is initialized already")
            else:
                super().handle_message(message)
                return
        if "method" in fields and "id" not in fields:
            return  # notifications have no answer
        self.refuse(error, fields.get("id"))

    def refuse(self, error: JsonRpcException, id: object = None) -> None:
        """Answer a message with an error; ``id`` is that of the message, or None."""
        known = id if isinstance(id, str | int) and not isinstance(id, bool) else None
        answer = {"code": error.code, "message": error.message}
        self._send_data({"jsonrpc": self.VERSION, "id": known, "error": answer})
