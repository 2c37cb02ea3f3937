"""``danetc new``: a first spec to change."""

from __future__ import annotations

from pathlib import Path

import click

from danetc.options import json_option
from danetc.output.echo import echo, json_text


@click.command("new")
@click.argument("name")
@json_option
def command(name: str, as_json: bool) -> None:
    """Write NAME.danet: a small network with comments that say what each line is.

    It checks, and trains in a minute on the digits that come with danetc.
    """
    from danetc.tasks.first_spec import write_first_spec

    path = Path(name if name.endswith(".danet") else f"{name}.danet")
    write_first_spec(path)
    if as_json:
        echo(json_text({"path": str(path)}))
        return
    echo(f"written to {path}; now")
    for line in ("check", "draw", "train {} --data digits"):
        command, _, rest = line.partition(" {}")
        echo(f"  danetc {command} {path}{rest}")
