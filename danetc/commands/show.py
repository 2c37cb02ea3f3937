"""``danetc show``: the text of a spec, of a file of std, or of a place that an error cites."""

from __future__ import annotations

import click

from danetc.options import json_option
from danetc.options.completion import complete_texts
from danetc.output.echo import echo, json_text

AROUND = 6
"""Lines before and behind the one that is asked for."""


@click.command("show")
@click.argument("place", metavar="FILE|NAME[:LINE]", shell_complete=complete_texts)
@json_option
def command(place: str, as_json: bool) -> None:
    """Print a spec, or some lines of it.

    PLACE is a file, a shipped spec (`danet_c_r50`), a file of the standard library
    (`std/neurons.danet`) or a name of it (`LIF`). With a line, as errors cite it
    (`std/neurons.danet:12`), the lines around it are printed.
    """
    from danetc.tasks.texts import find_text

    found = find_text(place)
    if as_json:
        echo(json_text({"path": found.source.name, "line": found.line, "text": found.text}))
        return
    if found.line is None:
        echo(found.text.rstrip("\n"))
        return
    lines = found.source.text.splitlines()
    first, last = max(1, found.line - AROUND), min(len(lines), found.line + AROUND)
    width = len(str(last))
    for number in range(first, last + 1):
        mark = ">" if number == found.line else " "
        echo(f"{mark} {number:>{width}} | {lines[number - 1]}".rstrip())
