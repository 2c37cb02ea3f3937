"""Messages of clients: what is no valid message is answered with an error of the protocol."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Mistyped:
    """A message whose parameters are not of the types that the protocol has for its method."""

    message: Mapping[str, Any]


class Protocol(LanguageServerProtocol):
    """pygls' protocol, which leaves invalid messages without an answer."""

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
            return  # a notification has no answer
        self.refuse(error, fields.get("id"))

    def refuse(self, error: JsonRpcException, id: object = None) -> None:
        """Answer a message with an error; ``id`` is that of the message, None where it has none."""
        known = id if isinstance(id, str | int) and not isinstance(id, bool) else None
        answer = {"code": error.code, "message": error.message}
        self._send_data({"jsonrpc": self.VERSION, "id": known, "error": answer})
