"""``danetc completion``: completion of commands, options and names in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from danetc.output.echo import echo

VARIABLE = "_DANETC_COMPLETE"
"""The variable that a shell asks for completions with, as click has it."""

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands, options and names.

    \b
    bash:  eval "$(danetc completion bash)"            in ~/.bashrc
    zsh:   eval "$(danetc completion zsh)"             in ~/.zshrc
    fish:  danetc completion fish | source             in config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    echo(kind(context.find_root().command, {}, "danetc", VARIABLE).source())
