"""``danetc measure``: firing rates, gradients and operations of networks on data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.errors import UserError
from danetc.options import (
    allow_changed_option,
    classes_option,
    data_option,
    deny_warnings_option,
    evaluate_option,
    form_option,
    network_option,
    seed_option,
    set_option,
    split_option,
    subset_seed_option,
)
from danetc.output.echo import echo
from danetc.output.text import note
from danetc.runtime.system.files import save_record, seal_record
from danetc.setting import Setting
from danetc.tasks.measuring.record import MeasuredOn, measure_subject, whole_record
from danetc.tasks.model_directory import MEASURES as FILE

if TYPE_CHECKING:
    from danetc.dsl.recipe.item import Item
    from danetc.runtime.data import Split
    from danetc.runtime.measure import Measures
    from danetc.runtime.measure.plots import PlottedNetwork
    from danetc.tasks.measuring.data import Subject


def _measures(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text else ()


@click.command("measure")
@click.argument("subjects", metavar="RUN|FILE...", nargs=-1, required=True)
@data_option("The data set, as for `train`.", required=True)
@click.option(
    "--batches",
    type=click.IntRange(1),
    default=MeasuredOn.batches,
    show_default=True,
    help="How many batches are measured.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=MeasuredOn.batch,
    show_default=True,
    help="Images per batch.",
)
@split_option
@evaluate_option
@click.option(
    "--only",
    callback=_measures,
    metavar="NAMES",
    help="Comma-separated measures: firing-rate, gradient-stability, potential, input, gradients, "
    "values, operations.  [default: all]",
)
@click.option(
    "--statistics",
    type=click.Choice(["running", "batch"]),
    help="The statistics that norms use.  [default: running; batch for an untrained network]",
)
@click.option(
    "--time",
    type=click.Choice(["sum", "mean"]),
    default="sum",
    show_default=True,
    help="How gradient stability combines the time steps.",
)
@click.option(
    "--layers",
    type=click.Choice(["main", "all"]),
    default="main",
    show_default=True,
    help="The neuron layers whose gradient stability is multiplied: those of the main path, or all.",
)
@click.option(
    "--addition",
    "addition",
    type=click.FloatRange(0),
    default=0.9,
    show_default=True,
    metavar="PJ",
    help="Energy of an addition.",
)
@click.option(
    "--mac",
    "mac",
    type=click.FloatRange(0),
    default=4.6,
    show_default=True,
    metavar="PJ",
    help="Energy of a multiply-accumulate.",
)
@click.option(
    "--counts",
    type=click.Choice(["macs", "additions"]),
    default="macs",
    show_default=True,
    help="How a weight times a sum of spikes is counted: one multiply-accumulate, or one addition a spike.",
)
@classes_option
@subset_seed_option
@network_option
@set_option
@seed_option
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write measures.json and figures (these need danetc[plot]) there.",
)
@deny_warnings_option
@allow_changed_option
@form_option
def command(
    subjects: tuple[str, ...],
    data: str,
    batches: int,
    batch: int,
    split: Split,
    evaluate: tuple[Item, ...] | None,
    only: tuple[str, ...],
    statistics: str | None,
    time: str,
    layers: str,
    addition: float,
    mac: float,
    counts: str,
    classes: int | None,
    subset_seed: int,
    network: str | None,
    settings: dict[str, Setting],
    seed: int,
    output: Path | None,
    allow_changed: tuple[str, ...],
    form: str,
) -> None:
    """Measure networks on a data set.

    A RUN is a directory that `train` or `build` wrote, or pretrained:NAME, whose weights are taken; a
    FILE (or a shipped NAME) is built anew and untrained. Images are prepared as in the tests of the RUN's
    training, or by the recipe that `train` would use for the FILE. With several, the figures show all
    of them, and a last table has a row for each, as in the paper's Tables IV and V; --format prints
    that table alone in another form.

    Measured are firing rates, gradient stability (dO/dV), membrane potentials and inputs of each layer
    of neurons; spatial and temporal parts of gradient norms; the outputs of blocks; operations and
    energy per image. Everything is measured on the eager backend, whatever the network was trained
    on; hooks change no number.
    """
    from danetc.output.table import show
    from danetc.runtime.measure import MEASURES, EnergyModel, MeasureOptions
    from danetc.runtime.measure.energy import HOROWITZ_45NM
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.tables import WHOLE, overall, print_measures

    for name in only:
        if name not in MEASURES:
            from danetc.dsl.diagnostics.diagnostic import instead

            hint = instead(name, MEASURES, "there are")
            raise click.UsageError(f"there is no measure {name}; {hint}")
    whole = not only or bool({*only} & {*WHOLE})
    if not whole and form not in ("table", "json"):
        raise click.UsageError(
            f"--format {form} is a table of whole networks, of which {', '.join(WHOLE)} have figures"
        )
    standard = (addition, mac) == (HOROWITZ_45NM.addition, HOROWITZ_45NM.mac)
    energy = EnergyModel(HOROWITZ_45NM.name if standard else "as given", addition, mac, counts)  # type: ignore[arg-type]
    if output is not None:  # before anything is measured, so that nothing is lost
        output.mkdir(parents=True, exist_ok=True)
    asked = MeasuredOn(
        data=data,
        split=split,
        classes=classes,
        subset_seed=subset_seed,
        evaluate=evaluate,
        batch=batch,
        batches=batches,
        only=only,
    )
    opened = [open_subject(each, network, settings, seed, allow_changed) for each in subjects]
    for subject in opened:
        for notice in subject.notices:
            note(notice)
    entries: list[PlottedNetwork] = []
    records: list[dict[str, Any]] = []
    for label, subject in zip(_labels(opened), opened, strict=True):
        chosen: Any = statistics or subject.statistics
        if chosen == "batch" and batch < 2:
            raise UserError("norms need more than one image for statistics of the batch")
        options = MeasureOptions(chosen, time, layers, energy, seed, subject.output)  # type: ignore[arg-type]
        entry, found = measure_subject(label, subject, asked, options, silent=form == "json")
        entries.append(entry)
        records.append(found)
    record = whole_record(asked, records)
    if form == "json":
        echo(seal_record(record).decode(), nl=False)  # `report --measures` may read it
    elif form != "table":
        show(overall(entries), form, sys.stdout)
    else:
        for entry, measured in zip(entries, records, strict=True):
            steps = measured["evaluate"]
            echo(_headline(entry.label, entry.measures, data, split))
            echo("images as they are" if steps == "none" else f"images through {steps}")
            print_measures(entry.measures, entry.layout)
        if whole and len(entries) > 1:
            echo("all networks")
            show(overall(entries), form, sys.stdout)
    if output is not None:  # what is printed stays, where there is no room for files
        _write(output, record, entries)


def _labels(subjects: list[Subject]) -> list[str]:
    from danetc.compiler.ir.graph import Graph
    from danetc.output.labels import unique_labels

    names = []
    for subject in subjects:
        graph = subject.model.topology
        assert isinstance(graph, Graph)
        names.append(graph.name)
    return unique_labels(names, [subject.source for subject in subjects])


def _headline(label: str, measures: Measures, data: str, split: str) -> str:
    """Of what and on what."""
    return (
        f"{label}: {measures.images} images of {data} ({split}), norms by "
        f"{measures.statistics} statistics"
    )


def _write(output: Path, record: dict[str, object], entries: list[PlottedNetwork]) -> None:
    """measures.json, and the figures where they can be drawn."""
    from danetc.runtime.measure.plots import draw_all
    from danetc.runtime.system.figures import WITHOUT, can_plot

    save_record(record, output / FILE)
    written = [output / FILE]
    if can_plot():
        written += draw_all(entries, output)
    else:
        note(f"there are no figures: {WITHOUT}")
    echo(f"wrote {', '.join(path.name for path in written)} to {output}", err=True)
