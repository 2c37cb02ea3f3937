"""``danetc import``: a network of another library as a spec with its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from danetc.options import json_option
from danetc.output.echo import echo, json_text

if TYPE_CHECKING:
    from danetc.tasks.importing.network import ImportedNetwork


def _shape(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) not in (1, 3) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(
            "write channels x height x width, as in 3x32x32, or the length of a vector, as in 64",
            context,
            parameter,
        )
    return tuple(map(int, parts))


@click.command("import")
@click.argument("source", metavar="MODULE:FACTORY|FILE")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE.danet",
    type=click.Path(path_type=Path),
    help="The spec. The weights go into a model directory beside it, FILE.",
)
@click.option(
    "--input",
    "shape",
    metavar="CxHxW",
    callback=_shape,
    help="The shape of a sample, as in 3x224x224, or 64 for vectors. Files of graphs say it themselves.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 4096),
    metavar="T",
    help="Time steps.  [default: 4 with spiking neurons, else 1]",
)
@click.option("--events", is_flag=True, help="The network takes frames, and not one image.")
@click.option("--name", metavar="NAME", help="What the network is called.")
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=100,
    show_default=True,
    help="Samples whose outputs are compared, with each of three seeds.",
)
@click.option("--force", is_flag=True, help="Replace a spec that is there.")
@json_option
def command(
    source: str,
    output: Path,
    shape: tuple[int, ...] | None,
    steps: int | None,
    events: bool,
    name: str | None,
    samples: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write a model of PyTorch or SpikingJelly, or a file of NIR, as a spec with its weights.

    MODULE is a module's name or a .py file, FACTORY a model or what makes one, with arguments by
    name if need be: 'my_nets.py:make(depth=18)'. Its code is run. Stages, blocks and connections are
    found in what it computes, and have a name of the standard library where they mean the same.

    Nothing is written unless the spec is proved to be the same network, and its outputs with these
    weights agree with those of the model.
    """
    from danetc.output.console import VisibleConsole
    from danetc.output.text import note
    from danetc.tasks.importing.network import check_output, import_network, write_imported

    directory = check_output(output, force=force)
    with VisibleConsole(sys.stderr).status("reading") as status:
        found = import_network(
            source,
            shape,
            steps=steps,
            events=events,
            name=name or _name(output),
            samples=samples,
            on_progress=status.update,
        )
    write_imported(found, output, directory, note)
    if as_json:
        echo(json_text({**found.as_dict(), "spec": str(output), "directory": str(directory)}))
        return
    echo(_told(found, output, directory))


def _name(output: Path) -> str:
    return output.stem


def _told(found: ImportedNetwork, output: Path, directory: Path) -> str:
    own = ", ".join(found.found.own)
    lines = [f"{found.found.network}: {found.found.lines} lines"]
    for stage in found.found.stages:
        literal = f"  ({', '.join(stage.own)}: its own)" if stage.own else ""
        rule = "" if stage.rule == "chain" else f" by {stage.rule}"
        lines.append(f"  {stage.text} via {stage.connection}{rule}{literal}")
    if own:
        lines.append(f"not in the standard library: {own}")
    seen = found.agreement
    weights = "its weights" if seen.own_weights else "weights that make its layers vary"
    lines.append(
        f"compared    {seen.samples} samples, {seen.seeds} seeds, with {weights}: logits vary by "
        f"{seen.deviation:.2g}, the greatest difference is {seen.difference:.1e}"
    )
    if seen.flipped:
        share = 100 * seen.flipped / (seen.samples * seen.seeds)
        lines.append(
            f"            {seen.flipped} more ({share:.1f} %) differ, by a spike at its threshold that is "
            "rounded otherwise"
        )
    return "\n".join([*lines, f"written to  {output} and {directory}"])
