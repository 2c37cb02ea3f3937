"""``danetc check``: every error and warning of every file in one run."""

from __future__ import annotations

import click

from danetc.dsl.diagnostics.diagnostic import Diagnostic, SpecError
from danetc.options import json_option
from danetc.options.completion import complete_specs
from danetc.output.echo import echo, json_text


@click.command("check")
@click.argument(
    "specs", nargs=-1, required=True, metavar="FILE|NAME...", shell_complete=complete_specs
)
@click.option("--deny-warnings", is_flag=True, help="Exit with 1 if there is a warning too.")
@json_option
def command(specs: tuple[str, ...], deny_warnings: bool, as_json: bool) -> None:
    """Check specs: all errors and warnings.

    Exits with 1 if there is an error. `-` reads a spec from standard input. What looks suspicious
    is looked for where there is no error; `# allow W0101` at a statement allows one there. With
    --json, prints a list of objects with code, severity, message, path, line, column, end, hint and
    labels (empty if all is well).
    """
    from danetc.output.spec_messages import DENIED, counted, fitting, show

    found: dict[tuple[str, str, int, int], Diagnostic] = {}
    for spec in specs:
        try:
            diagnostics = _check(spec)
        except SpecError as error:
            diagnostics = error.diagnostics
        for diagnostic in diagnostics:
            span = diagnostic.span
            # Two files that use a third both report what is wrong in it.
            found.setdefault((diagnostic.code, span.source.name, span.start, span.end), diagnostic)
    errors = [item for item in found.values() if item.severity == "error"]
    denied = bool(found) and not errors and deny_warnings
    if as_json:
        shown = fitting(tuple(found.values()), lambda item: len(json_text([item.as_dict()])))
        echo(json_text([diagnostic.as_dict() for diagnostic in shown]))
    elif found:
        show(tuple(found.values()))
    if denied and not as_json:
        echo(f"danetc: {DENIED}", err=True)
    if errors or denied:
        raise click.exceptions.Exit(1)
    if not as_json:
        warnings = f", {counted(tuple(found.values()))}" if found else ""
        echo(f"{len(specs)} spec{'' if len(specs) == 1 else 's'} checked, no errors{warnings}")


def _check(spec: str) -> tuple[Diagnostic, ...]:
    """The warnings of a spec. Raises SpecError."""
    from danetc import compiler
    from danetc.compiler.warnings import warnings_of

    if spec == "-":
        from danetc.output.text import read_standard_input

        source = read_standard_input()
        return warnings_of(compiler.check_text(source.text, name=source.name))
    return warnings_of(compiler.check_file(spec))
