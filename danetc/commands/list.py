"""``danetc list``: the names of the language, of networks, of data and of codes."""

from __future__ import annotations

from dataclasses import asdict

import click

from danetc.options import json_option
from danetc.options.completion import complete_topics
from danetc.output.columns import print_columns
from danetc.output.echo import echo, json_text


@click.command("list")
@click.argument("topic", required=False, shell_complete=complete_topics)
@json_option
def command(topic: str | None, as_json: bool) -> None:
    """List the names that there are of a TOPIC, each with what it is.

    Topics are operations, functions, neurons, connections, rules, settings, networks, data, codes
    and more; without one they are listed themselves. `danetc explain NAME` tells more of a name.
    """
    from danetc import reference

    if topic is None:
        counts = {name: len(reference.topic(name)) for name in reference.TOPICS}
        if as_json:
            echo(json_text(counts))
        else:
            print_columns([(name, f"{count} names") for name, count in counts.items()])
        return
    if topic not in reference.TOPICS:
        from danetc.dsl.diagnostics.diagnostic import did_you_mean

        close = did_you_mean(topic, reference.TOPICS) or "`danetc list` has them all"
        raise click.UsageError(f"there is no topic {topic}; {close}")
    found = reference.topic(topic)
    if as_json:
        echo(json_text([asdict(entry) for entry in found]))
        return
    print_columns([(entry.name, entry.summary) for entry in found])
