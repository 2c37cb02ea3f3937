"""``danetc bench``: a network's backends against the same network in other libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError
from danetc.options import json_option, memory_option, spec_options
from danetc.output.echo import echo, json_text
from danetc.setting import Setting

if TYPE_CHECKING:
    from danetc.tasks.benchmark import Conditions, Report
    from danetc.tasks.networks import CompiledNetwork

BACKENDS = "eager,fused,spikingjelly"
NO_SUCH_PARAMETER = "E0309"


def _names(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise click.BadParameter("name backends with commas between them, as in eager,fused")
    return names


@click.command("bench")
@spec_options
@click.option(
    "--batch", type=click.IntRange(1), default=4, show_default=True, help="Images per batch."
)
@click.option(
    "--image", type=click.IntRange(1), metavar="S", help="Images of S x S.  [default: the spec's]"
)
@click.option(
    "--backends",
    default=BACKENDS,
    show_default=True,
    callback=_names,
    metavar="NAMES",
    help="Comma-separated backends to compare.",
)
@memory_option
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=7,
    show_default=True,
    help="How often each is timed; medians are reported.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: torch's]")
@click.option(
    "--plot",
    metavar="OUT.svg|OUT.png",
    type=click.Path(path_type=Path),
    help="Draw the ratios too (needs danetc[plot]).",
)
@json_option
@click.option("--alone", metavar="NAME", hidden=True, help="Measure one candidate's first steps.")
def command(
    spec: str,
    network: str | None,
    settings: dict[str, Setting],
    batch: int,
    image: int | None,
    backends: tuple[str, ...],
    memory: str | int,
    rounds: int,
    threads: int | None,
    plot: Path | None,
    as_json: bool,
    alone: str | None,
) -> None:
    """Compare training steps: time, bytes saved for the backward pass, peak memory, compile time.

    danetc's backends are compared with the networks of torchvision (on T x N images) and SpikingJelly
    of the same layers, where there are such. Steps are timed in interleaved rounds in one
    process (CPU seconds, or the GPU's); peak memory and the first step are measured in a process of
    its own for each, which starts without compiled kernels.
    """
    if plot is not None:
        from danetc.output.plots import check_plot

        check_plot(plot)
    # A thread that waits for others is no CPU time. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from danetc.tasks.benchmark import Conditions, compare, this_program

    if threads is not None:
        torch.set_num_threads(threads)
    compiled = _compiled(spec, network, settings, image)
    conditions = Conditions.of(compiled.graph, batch)
    if alone is not None:
        _measure_alone(compiled, conditions, backends, memory, alone)
        return

    def own_process(name: str, policy: str) -> list[str]:
        """The same command for one candidate."""
        options = ["--batch", str(batch), "--backends", ",".join(backends), "--alone", name]
        options += ["--memory", policy]
        options += ["--network", network] if network is not None else []
        options += ["--image", str(image)] if image is not None else []
        options += ["--threads", str(threads)] if threads is not None else []
        for key, value in settings.items():
            options += ["--set", f"{key}={override_text(value)}"]
        return this_program("bench", *options, "--", spec)

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    from danetc.output.console import terminal_bar
    from danetc.runtime.kernels.announcing import announced_on

    with (
        terminal_bar(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            stream=sys.stderr,
        ) as progress,
        announced_on(progress, silent=as_json),
    ):
        task = progress.add_task("", total=None, start=False)

        def begin(count: int) -> None:
            progress.reset(task, total=count + 1)

        def on_progress(what: str) -> None:
            progress.update(task, advance=1, description=what)

        report = compare(
            compiled.graph,
            conditions,
            backends,
            memory=memory,
            rounds=rounds,
            command=own_process,
            begin=begin,
            on_progress=on_progress,
        )
    if as_json:
        echo(json_text(report.as_dict()))
    else:
        print_report(report)
    if plot is not None:
        from danetc.runtime.measure.plots import save_figure
        from danetc.tasks.benchmark_figure import report_figure

        save_figure(report_figure(report), plot, follow=True)


def _compiled(
    spec: str, network: str | None, settings: dict[str, Setting], image: int | None
) -> CompiledNetwork:
    """The network for images of this size. Raises SpecError, and UserError where it has no parameter
    for that.
    """
    from danetc.dsl.diagnostics.diagnostic import SpecError
    from danetc.tasks.networks import compile_spec

    if image is None:
        return compile_spec(spec, network=network, settings=settings)
    try:
        return compile_spec(spec, network=network, settings={"image": image, **settings})
    except SpecError as error:
        if {item.code for item in error.diagnostics} != {NO_SUCH_PARAMETER}:
            raise
        source, *others = compile_spec(spec, network=network, settings=settings).graph.inputs
        kind = "events" if source.value.varies else "image"
        example = f"--set 'input={kind}({source.value.shape[0]}, {image}, {image})'"
        raise UserError(
            f"{spec} has no parameter `image` for the size of its images: give it one"
            + ("" if others else f", or set its input, as in {example}")
        ) from error


def _measure_alone(
    compiled: CompiledNetwork,
    conditions: Conditions,
    backends: Sequence[str],
    memory: str | int,
    name: str,
) -> None:
    from dataclasses import asdict

    from danetc.runtime.bench.alone import alone
    from danetc.tasks.benchmark import candidates

    found, _ = candidates(compiled.graph, conditions, backends, memory)
    if name not in found:
        raise UserError(f"{name} takes no part; there are {', '.join(found)}")
    echo(json_text(asdict(alone(found[name].make())), indent=None))


def print_report(report: Report) -> None:
    """Print the table of a comparison."""
    from danetc.output.summary import print_table
    from danetc.runtime.bench.timing import medians

    conditions = report.conditions
    size = " x ".join(map(str, conditions.size))
    echo(
        f"{report.network}, T = {report.steps}, N = {conditions.images}, {size}, float32, "
        f"{conditions.device}, {report.threads} thread{'' if report.threads == 1 else 's'}; "
        "a training step"
    )
    echo()
    clock = "gpu s" if conditions.device == "cuda" else "cpu s"
    heads = ("", "images", clock, "wall s", "time", "saved MB", "", "peak MB", "", "compile s")
    rows = []
    for name, result in report.results.items():
        median = medians(result.samples)
        rows.append(
            (
                name,
                str(result.images),
                f"{median.seconds:.3f}",
                f"{median.wall:.3f}",
                f"{report.time(name):.2f}",
                _number(result.saved, 1, 1e6),
                _number(report.saved(name), 2),
                _number(result.peak, 1, 1e6),
                _number(report.peak(name), 2),
                f"{result.compile_seconds:.1f}",
            )
        )
    print_table(heads, rows, right=set(range(1, len(heads))))
    echo(f"ratios to {report.base}; medians of interleaved rounds")
    echo("saved: bytes held from the forward to the backward pass; peak: beyond what is there")
    echo("between steps, in a process of its own; compile: first step there, less the median")
    for note in report.notes:
        echo(note)


def _number(value: float | None, digits: int, unit: float = 1) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
