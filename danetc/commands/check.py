"""``danetc check``: every error of every file in one run."""

from __future__ import annotations

import click

from danetc.dsl.diagnostics import Diagnostic, SpecError
from danetc.options import json_option
from danetc.output import echo, json_text


@click.command("check")
@click.argument("specs", nargs=-1, required=True, metavar="FILE|NAME...")
@json_option
def command(specs: tuple[str, ...], as_json: bool) -> None:
    """Check specs and report every error in them.

    Exits with 1 if there is one. `-` reads a spec from standard input. With --json, prints a list
    of objects with code, message, path, line, column, end and hint (empty if all is well).
    """
    found: dict[tuple[str, str, int, int], Diagnostic] = {}
    for spec in specs:
        try:
            _check(spec)
        except SpecError as error:
            for diagnostic in error.diagnostics:
                span = diagnostic.span
                # Two files that use a third both report what is wrong in it.
                found.setdefault(
                    (diagnostic.code, span.source.name, span.start, span.end), diagnostic
                )
    if as_json:
        echo(json_text([diagnostic.as_dict() for diagnostic in found.values()], nan=True))
        if found:
            raise click.exceptions.Exit(1)
    elif found:
        raise SpecError(tuple(found.values()))
    else:
        echo(f"{len(specs)} spec{'' if len(specs) == 1 else 's'} checked, no errors")


def _check(spec: str) -> None:
    from danetc import compiler

    if spec == "-":
        from danetc.text import read_standard_input

        source = read_standard_input()
        compiler.check_text(source.text, name=source.name)
    else:
        compiler.check_file(spec)
