"""``danetc summary``: what follows from a network's topology."""

from __future__ import annotations

import json

import click
from danetc.options import Setting, json_option, network_option, set_option, spec_argument


@click.command("summary")
@spec_argument
@network_option
@set_option
@json_option
def command(spec: str, network: str | None, settings: dict[str, Setting], as_json: bool) -> None:
    """Print what follows from a network's topology.

    Stage by stage: what its values are (spikes, counts, reals), the fewest neurons between the
    stem and its end, parameters, and operations per image.
    """
    from danetc.api import compile_spec

    summary = compile_spec(spec, network=network, settings=settings).summary
    if as_json:
        click.echo(json.dumps(summary.as_dict(), indent=2))
    else:
        from danetc.report import print_summary

        print_summary(summary)
