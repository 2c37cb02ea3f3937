"""``danetc convert``: a trained ANN of ReLU as a spiking network, and its accuracy over T."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from danetc.arguments import MOST_STEPS
from danetc.options import allow_changed_option, data_option, json_option
from danetc.options.completion import complete_pretrained
from danetc.output.echo import echo, json_text
from danetc.output.figures import percent
from danetc.output.text import note

if TYPE_CHECKING:
    from danetc.tasks.converting import Converted


@click.command("convert")
@click.argument("run", metavar="RUN", shell_complete=complete_pretrained)
@data_option("The data set, as for `train`.  [default: what the run was trained on]")
@click.option(
    "--steps",
    type=click.IntRange(1, MOST_STEPS),
    default=32,
    show_default=True,
    metavar="T",
    help="The number of time steps of the spiking network.",
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 100),
    default=99.9,
    show_default=True,
    help="Of the activations in a batch, which the threshold is; 100 takes the greatest.",
)
@click.option("--channels", is_flag=True, help="A threshold for each channel, not for each layer.")
@click.option(
    "--batches",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How many batches of training images thresholds are found on.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=64, show_default=True, help="Images per batch."
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The model directory to write.  [default: build/NETWORK-converted]",
)
@click.option(
    "--figure",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw accuracy against T there, as SVG or PNG (needs danetc[plot]).",
)
@allow_changed_option
@json_option
def command(
    run: str,
    data: str | None,
    steps: int,
    percentile: float,
    channels: bool,
    batches: int,
    batch: int,
    output: Path | None,
    figure: Path | None,
    allow_changed: tuple[str, ...],
    as_json: bool,
) -> None:
    """Convert a trained ANN to a spiking network, and test it at every T up to --steps.

    RUN is a directory of `train`, or pretrained:NAME, of a network with `neuron = ReLU`. Each ReLU
    becomes an integrate-and-fire neuron with a soft reset and the threshold that training images
    give; weights stay. What is written is a model directory, which `eval`, `export`, `measure` and
    `report` take; its conversion.json says from what it was made. What has no spiking counterpart is refused by its path in the network.
    """
    if figure is not None:
        from danetc.output.plots import check_plot

        check_plot(figure)
    from danetc.output.console import image_bar
    from danetc.tasks.converting import convert
    from danetc.tasks.model_directory import open_directory

    if output is None:
        output = Path("build") / f"{open_directory(run, allow_changed).network}-converted"
    found = convert(
        run,
        output,
        data=data,
        steps=steps,
        percentile=percentile,
        channels=channels,
        batches=batches,
        batch=batch,
        allow_changed=allow_changed,
        bar=partial(image_bar, silent=as_json),
        note=note,
    )
    if as_json:
        echo(json_text(found.as_dict()))
    else:
        _print(found)
    if figure is not None:
        _plot(figure, found)


def _print(found: Converted) -> None:
    from danetc.output.summary import print_table

    echo(f"{found.network}: {found.ann.images:,} images of {found.data} (test)")
    rows = [("ReLU", percent(found.ann.top1), f"{found.ann.loss:.4f}")]
    rows += [(str(at.steps), percent(at.top1), f"{at.loss:.4f}") for at in found.over_time]
    print_table(("T", "top-1", "loss"), rows, right={0, 1, 2})
    echo(f"written to {found.directory}")


def _plot(path: Path, found: Converted) -> None:
    from danetc.output.plots import line_figure
    from danetc.runtime.system.figures import save_figure

    save_figure(line_figure([found.panel()]), path, follow=True)
    echo(f"wrote {path}", err=True)
