"""The ``danetc`` command. The file of a subcommand is imported only when the subcommand runs."""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from danetc.dsl.diagnostics.diagnostic import SpecError, did_you_mean
from danetc.dsl.diagnostics.visible import visible
from danetc.errors import SaidElsewhere, UserError
from danetc.output.echo import SpecWarning, echo, show_diagnostics
from danetc.runtime.system.torchrun import is_first

COMMANDS = {
    "check": ("texts", "Check specs: all errors and warnings."),
    "fmt": ("texts", "Rewrite specs in the canonical style."),
    "explain": ("texts", "Explain a name of the language, or a code."),
    "list": ("texts", "List operations, neurons, networks, data, ..."),
    "new": ("texts", "Write a first spec, with comments."),
    "show": ("texts", "Print a spec, or lines of it; also of std."),
    "summary": ("networks", "Print parameters, operations and memory of a network."),
    "build": ("networks", "Compile a network into a model directory."),
    "draw": ("networks", "Draw a network's topology as SVG."),
    "prove": ("networks", "Check the paper's propositions on a network."),
    "equiv": ("networks", "Check whether two specs describe one network."),
    "data": ("trainings", "Describe a data set, and show samples of it."),
    "train": ("trainings", "Train a network on a data set."),
    "eval": ("trainings", "Evaluate a trained network, also at other T."),
    "predict": ("trainings", "Predict the classes of images."),
    "convert": ("trainings", "Convert a trained ANN to a spiking network."),
    "export": ("trainings", "Write a trained network for use elsewhere."),
    "import": ("trainings", "Write a model of another library as a spec."),
    "compare": ("grids", "Train a grid of networks and compare them."),
    "search": ("grids", "Search networks and settings with Optuna."),
    "measure": ("trainings", "Measure firing rates, gradients and energy on data."),
    "record": ("trainings", "Record spikes, potentials and currents over time."),
    "report": ("grids", "Show runs side by side on one HTML page."),
    "bench": ("networks", "Measure time and memory, eager and fused."),
    "lsp": ("texts", "Serve an editor: errors, shapes, completion."),
    "completion": ("texts", "Print the script that completes names in a shell."),
}
"""Subcommands in the order of ``--help``: the file of ``danetc.commands`` and the line of the help."""


class LazyGroup(click.Group):
    """A group that imports its subcommands when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"danetc.commands.{COMMANDS[cmd_name][0]}")
        from danetc.commands.parser import make_command  # late: `--help` needs none

        return make_command(cmd_name, getattr(module, f"{cmd_name}_command"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args == ["help"]:
            echo(ctx.get_help())
            ctx.exit()
        if args[0] == "help":
            args = [args[1], "--help"] if args[1] in COMMANDS else ["explain", *args[1:]]
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = did_you_mean(name, COMMANDS)
            ctx.fail(f"no such command: {name}" + (f"; {close}" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="danetc", message="%(prog)s %(version)s")
def program() -> None:
    """Describe, check, build and train deep spiking neural networks.

    A FILE ends in .danet; a NAME without an ending is one of the shipped specs, as in
    `danetc build danet_c_r50`. `danetc explain NAME` explains an operation, a neuron, a setting
    or a code.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, as ``reported`` does."""
    given = sys.argv[1:] if arguments is None else list(arguments)

    def run() -> int:
        for argument in given:  # a line break could forge a line of output
            if "\n" in argument or argument.encode(errors="ignore").decode() != argument:
                raise UserError(f"`{visible(argument)}` is not one line of UTF-8 text; rename it")
        return int(program.main(given, "danetc", standalone_mode=False) or 0)

    return reported(run)


def reported(action: Callable[[], int]) -> int:
    """Run an action, print the errors it raises, and return the exit status.

    0: done; 1: the spec, a file or the data is wrong (or `--check` says no); 2: wrong usage;
    130: interrupted. A traceback is shown only with ``DANETC_DEBUG=1``.
    """
    _write_any_text()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            status = action()
        sys.stdout.flush()
        return status
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            echo(error.ctx.get_usage(), err=True)
            echo(f"Try '{error.ctx.command_path} --help' for help.\n", err=True)
        echo(f"Error: {error.format_message()}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        echo("\ninterrupted", err=True)
        return 130  # 128 + SIGINT, as shells have it
    except (SpecError, SpecWarning) as error:  # a warning under `python -W error`
        show_diagnostics(error.diagnostics)
        return 1
    except SaidElsewhere:
        return 1
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader (`head`, a pager) has left
        return _no_output()
    except OSError as error:
        from danetc.runtime.system.files import FULL, explain_os_error  # late: hashlib takes 5 ms

        if error.filename is None and error.errno in FULL:
            error.filename = "standard output"
            _no_output()
        return _fail(explain_os_error(error))
    except (Exception, SystemExit) as error:
        name = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if name in ("torch", "torchvision"):
            return _fail(
                f"this needs {name}, which is not installed; `pip install danetc` brings it"
            )
        return _report_bug(error)


def process() -> int:
    """Run the command line as a process and return its exit status.

    Python's cyclic garbage collection takes a fifth of a check and finds nothing, so a short subcommand
    runs without it, also at the end of the process.
    """
    short = sys.argv[1:2] and sys.argv[1] in ("check", "fmt", "explain", "list", "new", "show")
    if short:
        gc.disable()
    status = main()
    if short:
        gc.freeze()
    return status


def _write_any_text() -> None:
    """Make standard output accept every character: as UTF-8 for a file or a program, as an escape on a
    terminal that lacks it. A process without standard output (``>&-``, a program without a console)
    writes to the null device."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            chosen = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(encoding=None if chosen else "utf-8", errors="backslashreplace")


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any
) -> None:
    """Print a warning of danetc without its line of code, and others as Python does."""
    if isinstance(message, SpecWarning):
        if is_first():
            show_diagnostics(message.diagnostics)
    elif category is RuntimeWarning and Path(filename).is_relative_to(Path(__file__).parent):
        echo(f"warning: {message}", err=True)
    else:
        echo(warnings.formatwarning(message, category, filename, lineno), err=True, nl=False)


def _no_output() -> int:
    """Redirect stdout to the null device: Python would report the error again when it flushes at exit."""
    with suppress(OSError, ValueError):  # stdout may not be a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _fail(message: str) -> int:
    echo(f"danetc: {message}", err=True)
    return 1


def _report_bug(error: Exception | SystemExit) -> int:
    """Report an uncaught error: as one of the user's code, or as a bug."""
    from danetc.runtime.system.user_code import failure_of_user  # late: only after an error

    where = failure_of_user(error)
    if where is None and isinstance(error, SystemExit):
        raise error
    if os.environ.get("DANETC_DEBUG") == "1":
        import traceback

        echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if where is not None:
        return _fail(where)
    return _fail(
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a bug in danetc. Please report it with the spec and the output of the same\n"
        "command under DANETC_DEBUG=1."
    )
