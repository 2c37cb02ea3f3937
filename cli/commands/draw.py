"""``danetc draw``: a network's topology as a picture."""

from __future__ import annotations

from pathlib import Path

import click
from danetc.options import Setting, network_option, set_option, spec_argument


@click.command("draw")
@spec_argument
@click.option("-o", "--output", required=True, metavar="OUT.svg", type=click.Path(path_type=Path))
@network_option
@set_option
def command(spec: str, output: Path, network: str | None, settings: dict[str, Setting]) -> None:
    """Draw a network's stages and blocks as SVG."""
    from danetc.api import compile_spec, draw
    from danetc.text import replace_text

    if output.suffix.lower() != ".svg":
        raise click.UsageError(f"the picture is SVG, so its name ends in .svg: {output}")
    compiled = compile_spec(spec, network=network, settings=settings)
    replace_text(output, draw(compiled.graph))
