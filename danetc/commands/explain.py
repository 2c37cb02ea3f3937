"""``danetc explain``: what a name of the language or a code means."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from danetc.errors import UserError
from danetc.options import json_option
from danetc.options.completion import complete_names
from danetc.output.echo import echo, json_text


@click.command("explain")
@click.argument("name", shell_complete=complete_names)
@json_option
def command(name: str, as_json: bool) -> None:
    """Explain a name or a code, with an example.

    NAME is the code of an error (E0301) or warning (W0101), or whatever a spec can say: an
    operation, a function, a neuron, a connection, a rule, a setting of recipes, a keyword.
    `danetc list` says what there is.
    """
    from danetc.reference import find, names
    from danetc.reference.pages import page

    found = find(name) or find(name.upper())
    if not found:
        from danetc.dsl.diagnostics.diagnostic import did_you_mean

        close = did_you_mean(name, names()) or did_you_mean(name.upper(), names())
        raise UserError(f"nothing is called {name}; {close or '`danetc list` says what there is'}")
    if as_json:
        echo(json_text([asdict(entry) for entry in found]))
    elif sys.stdout.isatty():
        from rich.markdown import Markdown

        from danetc.output.console import VisibleConsole

        VisibleConsole(sys.stdout).print(Markdown(page(found)))
    else:
        echo(page(found))
