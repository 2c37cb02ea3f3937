"""``danetc explain``: the page of a code."""

from __future__ import annotations

import sys

import click

from danetc.dsl.diagnostics import did_you_mean
from danetc.errors import UserError
from danetc.output import echo


@click.command("explain")
@click.argument("code", required=False)
@click.option("--list", "show_list", is_flag=True, help="List all codes with their titles.")
def command(code: str | None, show_list: bool) -> None:
    """Explain the code of an error (E0301) or warning (W0101), with a wrong and a mended example."""
    from danetc.dsl.explain import codes, page

    if show_list == (code is not None):
        raise click.UsageError("give either a CODE, as in `danetc explain E0301`, or --list")
    if code is None:
        for known in codes():
            echo(page(known).splitlines()[0].removeprefix("# "))
        return
    code = code.upper()
    if code not in codes():
        close = did_you_mean(code, codes())
        raise UserError(f"there is no code {code}; {close or '`danetc explain --list` has all'}")
    if sys.stdout.isatty():
        from rich.markdown import Markdown

        from danetc.console import VisibleConsole

        VisibleConsole(sys.stdout).print(Markdown(page(code)))
    else:
        echo(page(code))
