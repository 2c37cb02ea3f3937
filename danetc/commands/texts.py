"""Commands on text, without torch: check, fmt, explain, list, new, show, completion, lsp."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import click

from danetc.arguments import SPEC, Option
from danetc.commands.parser import Answer
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, SpecError, did_you_mean
from danetc.dsl.diagnostics.habits import equivalents
from danetc.errors import UserError
from danetc.output.echo import counted, echo, read_standard_input, show_diagnostics

AROUND = 6  # lines before and after the requested one that `show` prints
COMPLETE = "_DANETC_COMPLETE"  # the environment variable in which a shell asks for completions


def check_command(
    specs: Annotated[tuple[str, ...], SPEC], *, deny_warnings: bool = False
) -> Answer:
    """Check specs: all errors and warnings.

    Exits with 1 if there is an error. `-` reads a spec from standard input. Specs without errors are
    also checked for suspicious code; `# allow W0101` at a statement allows a warning there. With
    --json, prints a list of objects with code, severity, message, path, line, column, end, hint and
    labels (empty if there is nothing to report).

    Args:
        deny_warnings: Exit with 1 if there is a warning, too.
    """
    found = [item for spec in specs for item in _diagnostics(spec)]
    # errors of a file are found again by each file that uses it
    found = [*{(x.code, x.span.source.name, x.span.start, x.span.end): x for x in found}.values()]
    failed = any(item.severity == "error" for item in found)
    denied = bool(found) and not failed and deny_warnings

    def print_all() -> None:
        if found:
            show_diagnostics(found)
        if denied:
            echo("danetc: a warning makes the status 1 (--deny-warnings)", err=True)
        elif not failed:
            warnings = f", {counted(found)}" if found else ""
            echo(f"{len(specs)} spec{'s' * (len(specs) != 1)} checked, no errors{warnings}")

    return Answer([item.as_dict() for item in found], print_all, int(failed or denied))


def _diagnostics(spec: str) -> Iterable[Diagnostic]:
    """Return the errors of a spec, or its warnings if there are no errors."""
    from danetc import compiler
    from danetc.compiler.warnings import warnings_of
    from danetc.tasks.networks import check

    try:
        if spec != "-":
            return check(spec)
        source = read_standard_input()
        return warnings_of(compiler.check_text(source.text, name=source.name))
    except SpecError as error:
        return error.diagnostics


def fmt_command(
    files: Annotated[tuple[str, ...], Option("FILE")], *, check: bool = False, diff: bool = False
) -> int:
    """Rewrite specs in the canonical style, in place.

    `-` formats standard input to standard output. A file with a syntax error is left unchanged.

    Args:
        check: Change nothing; exit with 1 if a file would change.
        diff: Change nothing; print the changes.
    """
    from danetc.dsl.reading import read_source
    from danetc.dsl.syntax.parser import parse
    from danetc.dsl.syntax.printer import format_source

    if "-" in files and len(files) > 1:
        raise click.UsageError("`-` cannot be combined with files")
    errors: list[Diagnostic] = []
    changed = False
    for file in files:
        try:
            source = read_standard_input() if file == "-" else read_source(file)
            reporter = Reporter()
            program = parse(source, reporter)
            reporter.raise_if_errors()
            old, new = source.text, format_source(program)
        except SpecError as error:
            errors += error.diagnostics
            continue
        changed |= old != new
        if diff:
            a, b = (text.splitlines(keepends=True) for text in (old, new))
            for line in difflib.unified_diff(a, b, file, f"{file} (formatted)"):
                echo(line.removesuffix("\n"))
        elif file == "-" and not check:
            echo(new, nl=False)
        elif old != new and check:
            echo(f"{file} would be reformatted", err=True)
        elif old != new:
            from danetc.runtime.system.files import replace_file  # late: hashlib takes 5 ms

            replace_file(Path(file), new.encode(), follow=True)
            echo(f"{file} reformatted", err=True)
    if errors:
        raise SpecError(errors)
    return int(check and changed)


def explain_command(name: str) -> Answer:
    """Explain a name or a code, with an example.

    NAME is the code of an error (E0301) or warning (W0101), or any name of the language: an operation,
    a function, a neuron, a connection, a rule, a setting of recipes, a keyword. `danetc list` lists
    the names. Names of PyTorch, SpikingJelly and snnTorch, as in LIFNode, are explained by what to
    write instead.
    """
    from danetc.reference import Entry, by_name, find
    from danetc.reference.entry import page

    found = find(name) or find(name.upper())
    if not found and (known := equivalents(name.rpartition(".")[2])):
        text = "\n".join(f"- {', '.join(places)}: {said}" for said, places in known.items())
        named = map(find, re.findall(r"`(\w+)", " ".join(known)))
        entry = Entry(name, "no name of danetc", name, "What to write instead:", text=text)
        found = (entry, *next(filter(None, named), ()))
    if not found:
        close = did_you_mean(name, by_name()) or did_you_mean(name.upper(), by_name())
        raise UserError(f"nothing is called {name}; {close or '`danetc list` lists all names'}")

    def print_page() -> None:
        if sys.stdout.isatty():
            from rich.markdown import Markdown

            from danetc.output.console import VisibleConsole

            VisibleConsole(sys.stdout).print(Markdown(page(found)))
        else:
            echo(page(found))

    return Answer([asdict(entry) for entry in found], print_page)


def list_command(topic: str | None = None) -> Answer:
    """List the names of a TOPIC, each with its meaning.

    Topics are operations, functions, neurons, connections, rules, settings, networks, data, codes
    and more. Without a topic, lists the topics. `danetc explain NAME` says more about a name.
    """
    from danetc import reference
    from danetc.output.table import print_columns

    if topic is None:
        counts = {name: len(reference.topic(name)) for name in reference.TOPICS}
        rows = [(name, f"{count} names") for name, count in counts.items()]
        return Answer(counts, lambda: print_columns(rows))
    if topic not in reference.TOPICS:
        close = did_you_mean(topic, reference.TOPICS) or "`danetc list` lists all topics"
        raise click.UsageError(f"there is no topic {topic}; {close}")
    found = reference.topic(topic)
    rows = [(entry.name, entry.summary) for entry in found]
    return Answer([asdict(entry) for entry in found], lambda: print_columns(rows))


def new_command(name: str) -> Answer:
    """Write NAME.danet: a small network with comments that explain each line.

    It checks without warnings, and trains in a minute on the digits that come with danetc.
    """
    from danetc.tasks.texts import write_first_spec

    path = Path(name if name.endswith(".danet") else f"{name}.danet")
    write_first_spec(path)
    lines = [f"danetc check {path}", f"danetc draw {path}", f"danetc train {path} --data digits"]
    text = "\n  ".join([f"written to {path}; now", *lines])
    return Answer({"path": str(path)}, lambda: echo(text))


def show_command(place: Annotated[str, Option("FILE|NAME[:LINE]")]) -> Answer:
    """Print a spec, or some lines of it.

    PLACE is a file, a shipped spec (`danet_c_r50`), the directory of a run, `pretrained:NAME`, a file
    of the standard library (`std/neurons.danet`) or a name that it declares (`LIF`). With a line
    number, as errors cite it (`std/neurons.danet:12`), the lines around it are printed.
    """
    from danetc.tasks.texts import find_text

    source, line, text = find_text(place)
    shown = text.rstrip("\n")
    if line is not None:
        lines = enumerate(source.text.splitlines(), 1)
        numbered = [f"{'>' if n == line else ' '} {n:>4} | {each}".rstrip() for n, each in lines]
        shown = "\n".join(numbered[max(0, line - AROUND - 1) : line + AROUND])
    return Answer({"path": source.name, "line": line, "text": text}, lambda: echo(shown))


def completion_command(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the script that makes a shell complete commands and options.

    \b
    bash:  eval "$(danetc completion bash)"            in ~/.bashrc
    zsh:   eval "$(danetc completion zsh)"             in ~/.zshrc
    fish:  danetc completion fish | source             in config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    echo(kind(click.get_current_context().find_root().command, {}, "danetc", COMPLETE).source())


def lsp_command() -> int:
    """Serve an editor: errors, shapes, completion, and more.

    The editor starts the server and talks to it on standard input and output, using the Language
    Server Protocol; docs/editors.md shows how to set up VS Code, Neovim, Emacs and Helix.
    """
    if find_spec("pygls") is None:
        raise UserError("the language server needs pygls: pip install 'danetc[lsp]'")
    if sys.stdin.isatty():
        raise UserError(
            "an editor starts the language server and talks to it on standard input; "
            "docs/editors.md shows how to set one up"
        )
    from danetc.editor.server import serve

    return serve()
