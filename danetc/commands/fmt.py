"""``danetc fmt``: one style for all specs."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.output.echo import echo
from danetc.output.text import read_standard_input, replace_text


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Change nothing; print what would change.")
def command(files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Rewrite specs in the canonical style, in place.

    `-` formats standard input to standard output. A file with a syntax error is left as it is.
    """
    from danetc.dsl.reading import read_source
    from danetc.dsl.syntax.parser import parse
    from danetc.dsl.syntax.printer import format_source

    if "-" in files and len(files) > 1:
        raise click.UsageError("`-` cannot stand beside files")
    wrong: list[SpecError] = []
    changed: list[str] = []
    for file in files:
        try:
            source = read_standard_input() if file == "-" else read_source(file)
            reporter = Reporter()
            program = parse(source, reporter)
            reporter.raise_if_errors()
            new = format_source(program)
        except SpecError as error:
            wrong.append(error)
            continue
        old = source.text
        if old != new:
            changed.append(file)
        if diff:
            echo(_diff(file, old, new), nl=False)
        elif check:
            if old != new:
                echo(f"{file} would be reformatted", err=True)
        elif file == "-":
            echo(new, nl=False)
        elif old != new:
            replace_text(Path(file), new)
            echo(f"{file} reformatted", err=True)
    if wrong:
        raise SpecError([diagnostic for error in wrong for diagnostic in error.diagnostics])
    if check and changed:
        raise click.exceptions.Exit(1)


def _diff(file: str, old: str, new: str) -> str:
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), file, f"{file} (formatted)"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
