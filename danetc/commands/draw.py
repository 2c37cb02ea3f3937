"""``danetc draw``: a network's topology as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from danetc.options import deny_warnings_option, network_option, set_option
from danetc.options.completion import complete_specs
from danetc.output.echo import echo
from danetc.setting import Setting

if TYPE_CHECKING:
    from danetc.compiler.draw.theme import Theme

# Those of danetc.compiler.draw, which `danetc --help` does not import; a test compares them.
LEVELS = ("network", "stage", "block", "op", "neuron")
FORMATS = ("svg", "png", "pdf", "gv")
THEMES = ("auto", "light", "dark")


@click.command("draw")
@click.argument(
    "specs", metavar="FILE|NAME...", nargs=-1, required=True, shell_complete=complete_specs
)
@click.option(
    "-o",
    "--output",
    metavar="OUT.svg",
    type=click.Path(path_type=Path),
    help="Where the picture goes: .svg, .png, .pdf or .gv.  [default: NAME.svg beside the spec, of a "
    "shipped one here]",
)
@click.option(
    "-l",
    "--level",
    type=click.Choice(LEVELS),
    help="What is shown: stages; blocks and what feeds each; how blocks are wired; every "
    "operation; a neuron's equations over time.  [default: stage]",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Show how several specs wire their blocks, side by side.",
)
@click.option(
    "--theme",
    type=click.Choice(THEMES),
    default="auto",
    show_default=True,
    help="Colours. An SVG in auto is light or dark as its viewer prefers.",
)
@deny_warnings_option
@network_option
@set_option
def command(
    specs: tuple[str, ...],
    output: Path | None,
    level: str | None,
    compare: bool,
    theme: Theme,
    network: str | None,
    settings: dict[str, Setting],
) -> None:
    """Draw a network's topology as SVG, PNG, PDF or .gv.

    With --compare: `danetc draw --compare origin_r18 sew_r18 danet_a_r18 -o figure.svg`.
    """
    from danetc.tasks.drawing import beside_spec, draw

    if compare and output is None:
        raise click.UsageError("--compare needs -o: a name for the picture of them all")
    beside = output is None
    output = beside_spec(specs[0]) if output is None else output
    kind = output.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise click.UsageError(
            f"the picture's name ends in .svg, .png, .pdf or .gv, which says its format: {output}"
        )
    if compare and level not in (None, "block"):
        raise click.UsageError(f"--compare shows the level block, not {level}")
    if len(specs) > 1 and not compare:
        raise click.UsageError("one spec is drawn at a time; --compare puts several side by side")
    if compare and len(specs) < 2:
        raise click.UsageError("--compare needs two specs or more")
    draw(*specs, output=output, network=network, set=settings, level=level, theme=theme)
    if beside:
        echo(f"written to {output}")
