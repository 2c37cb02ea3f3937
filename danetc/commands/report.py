"""``danetc report``: runs as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from danetc.errors import UserError
from danetc.options import allow_changed_option, data_option, json_option
from danetc.output.echo import echo, json_text


@click.command("report")
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE.html",
    type=click.Path(path_type=Path),
    help="Where the page goes.",
)
@click.option(
    "--measures",
    multiple=True,
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="What `danetc measure` wrote elsewhere than in the run's directory. Can be repeated.",
)
@data_option("Measure runs without measures.json on these data.")
@allow_changed_option
@json_option
def command(
    paths: tuple[Path, ...],
    output: Path,
    measures: tuple[Path, ...],
    data: str | None,
    allow_changed: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show runs side by side on one HTML page.

    A RUN is a directory that `train` or `build` wrote, or that of several runs: trials, or the folder
    of `compare`. The page shows the networks on every level, with firing rates or gradient stability
    as colour, curves, tables and specs, and the figures of `compare`. It needs no network connection and no other file.

    Measures are those in RUN/measures.json (`danetc measure RUN --data DATA -o RUN`). With --data,
    missing ones are measured now and saved there.
    """
    from danetc.output.text import note, replace_text
    from danetc.tasks.reporting import grid_figures, make_page, open_runs

    if output.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"the page's name ends in .html: {output}")
    if output.is_dir():
        raise UserError(f"{output} is a folder; name the page in it")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}")
    runs = open_runs(paths, measures, allow_changed)
    if data is not None:
        from danetc.tasks.reporting.runs import measured

        runs = [run if run.measures else measured(run, data, allow_changed) for run in runs]
    page = make_page(runs, note, grid_figures(paths, allow_changed, note))
    replace_text(output, page)
    record = {
        "output": str(output),
        "bytes": len(page.encode("utf-8")),
        "runs": [
            {
                "label": run.label,
                "path": str(run.path),
                "network": run.graph.name,
                "epochs": len(run.epochs),
                "measured": run.measures is not None,
                "notes": list(run.notes),
            }
            for run in runs
        ],
    }
    if as_json:
        echo(json_text(record))
        return
    if bare := sum(run.measures is None for run in runs):
        note(
            f"runs without measures.json, whose pictures have no colours: {bare} of {len(runs)}; "
            "--data measures them"
        )
    for run in runs:
        for message in run.notes:
            note(f"{run.path}: {message}")
    echo(f"wrote {output}: {len(runs)} run{'s' * (len(runs) != 1)}, {len(page) / 1024:,.0f} KB")
