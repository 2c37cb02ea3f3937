"""``danetc explain``: the page of a code, or a list of what a spec can name."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.errors import UserError
from danetc.options import json_option
from danetc.output.echo import echo, json_text

LISTS = ("operations", "std", "settings")


@click.command("explain")
@click.argument("code", required=False)
@click.option("--list", "show_list", is_flag=True, help="List all codes with their titles.")
@json_option
def command(code: str | None, show_list: bool, as_json: bool) -> None:
    """Explain the code of an error (E0301) or warning (W0101), with a wrong and a fixed example.

    Instead of a CODE, `operations` lists the operations and functions of specs, `std` the
    standard library, and `settings` the settings of recipes.
    """
    from danetc.dsl.diagnostics.codes import CODES
    from danetc.dsl.diagnostics.explain import page

    if show_list == (code is not None):
        raise click.UsageError("give either a CODE, as in `danetc explain E0301`, or --list")
    if code is None:
        if as_json:
            rows = [
                {"code": row.code, "severity": row.severity, "title": row.title}
                for row in CODES.values()
            ]
            echo(json_text(rows))
        else:
            echo("\n".join(f"{row.code}: {row.title}" for row in CODES.values()))
        return
    if code in LISTS:
        _show_words(code, as_json)
        return
    code = code.upper()
    if code not in CODES:
        close = did_you_mean(code, CODES) or did_you_mean(code, LISTS)
        raise UserError(f"there is no code {code}; {close or '`danetc explain --list` has all'}")
    if as_json:
        echo(json_text({"code": code, "page": page(code)}))
    elif sys.stdout.isatty():
        from rich.markdown import Markdown

        from danetc.output.console import VisibleConsole

        VisibleConsole(sys.stdout).print(Markdown(page(code)))
    else:
        echo(page(code))


def _show_words(topic: str, as_json: bool) -> None:
    from danetc.vocabulary import TOPICS

    words = list(TOPICS[topic]())
    if as_json:
        echo(json_text([asdict(word) for word in words]))
        return
    group = ""
    for word in words:
        if word.group != group:
            group = word.group
            echo(f"{group}:")
        echo(f"  {word.usage}" + (f"\n      {word.meaning}" if word.meaning else ""))
        for name, meaning in word.parameters.items():
            echo(f"        {name}: {meaning}")
