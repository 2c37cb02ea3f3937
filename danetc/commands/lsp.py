"""``danetc lsp``: the language server that editors start."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import click

from danetc.errors import UserError

WITHOUT = "the language server needs pygls: pip install 'danetc[lsp]'"


@click.command("lsp")
def command() -> None:
    """Serve an editor: errors, shapes, completion, and more.

    The editor starts it and talks to it on standard input and output, by the Language Server Protocol;
    docs/editors.md shows how to set up VS Code, Neovim, Emacs and Helix.
    """
    if find_spec("pygls") is None:
        raise UserError(WITHOUT)
    if sys.stdin.isatty():
        raise UserError(
            "the language server is started by an editor, which talks to it on standard input; "
            "docs/editors.md says how to set one up"
        )
    from danetc.editor.server import serve

    raise click.exceptions.Exit(serve())
