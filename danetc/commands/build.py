"""``danetc build``: a network as a directory with its model, weights, graph and picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from danetc.options import init_option, json_option, memory_option, seed_option, spec_options
from danetc.output.echo import echo, json_text
from danetc.setting import Setting


def _passes(
    context: click.Context, parameter: click.Parameter, names: Sequence[str]
) -> tuple[str, ...]:
    """The names of steps of the compilation; ``all`` means each. Another one is wrong usage."""
    if not names:
        return ()
    from danetc.compiler.passes import LOWERING, PIPELINE  # late: `--help` needs no passes

    steps = (LOWERING, *(item.name for item in PIPELINE))
    for name in names:
        if name not in (*steps, "all"):
            raise click.BadParameter(
                f"there is no pass {name}; there are {', '.join(steps)}, and all",
                context,
                parameter,
            )
    return steps if "all" in names else tuple(name for name in steps if name in names)


@click.command("build")
@spec_options
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to write.  [default: build/NETWORK]",
)
@seed_option
@init_option
@memory_option
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Images in a training step, by which a SIZE of memory is judged.",
)
@click.option(
    "--backend",
    type=click.Choice(["eager", "fused"]),
    default="eager",
    show_default=True,
    help="The backend that a SIZE of memory is judged for.",
)
@click.option(
    "--print-after",
    "wanted",
    multiple=True,
    metavar="PASS|all",
    callback=_passes,
    help="Print the graph as text after a pass of the compiler (or `lowering`), or after all. "
    "Can be repeated.",
)
@json_option
def command(
    spec: str,
    network: str | None,
    output: Path | None,
    settings: dict[str, Setting],
    seed: int,
    init: str | None,
    memory: str | int,
    batch: int | None,
    backend: str,
    wanted: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compile a network into a model directory and print its summary.

    The directory holds model.py (needs torch alone), weights.safetensors, the graph as text,
    topology.svg, summary.json and spec.danet (all that the network is made of, in one file).
    An older model directory of that name is replaced once everything is written. The memory policy
    is the one that danetc.load uses; model.py saves all that its backward pass needs.
    """
    if isinstance(memory, int) and batch is None:
        raise click.UsageError("--memory SIZE needs --batch N, the images of a training step")
    from danetc.output.text import note
    from danetc.tasks.memory import choose
    from danetc.tasks.model_directory import refuse_unless_replaceable, write_model_directory
    from danetc.tasks.networks import compile_spec, initialise

    compiled = compile_spec(spec, network=network, settings=settings)
    directory = output if output is not None else Path("build") / compiled.lowered.graph.name
    refuse_unless_replaceable(directory)
    printed: dict[str, str] = {}
    for name, text in compiled.texts(wanted):  # one by one: the next pass may fail
        printed[name] = text
        if not as_json:
            echo(f"after {name}\n\n{text}")
    chosen = choose(compiled.graph, memory, batch=batch or 1, backend=backend)
    model, matched = initialise(compiled.graph, seed, init)
    noted = None if memory == "none" else chosen.as_dict()
    record = write_model_directory(
        directory, compiled, model, seed=seed, init=matched, memory=noted, note=note
    )
    if as_json:
        echo(json_text({**record, "after": printed} if printed else record))
        return
    from danetc.output.summary import print_summary

    print_summary(compiled.summary)
    if matched is not None:
        echo(f"weights     {matched}")
    if noted is not None:
        echo(f"memory      {chosen}")
    echo(f"written to  {directory}")
