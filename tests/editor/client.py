"""A client of the language server, over its standard input and output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient

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
