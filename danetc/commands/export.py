"""``danetc export``: a trained network for model.py, for other libraries, or as a program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.options import allow_changed_option, checkpoint_option, json_option
from danetc.output.echo import echo, json_text
from danetc.tasks.formats import FORMATS, LISTED

if TYPE_CHECKING:
    from danetc.tasks.exporting import Exported


@click.command("export")
@click.argument("directory", metavar="DIR")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"The file, whose ending says what is written. {LISTED}.",
)
@click.option(
    "--names",
    type=click.Choice(["danetc", "torchvision", "spikingjelly"]),
    default="danetc",
    show_default=True,
    help="Whose names the weights get, where the library has a network of the same layers.",
)
@checkpoint_option
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@allow_changed_option
@json_option
def command(
    directory: str,
    output: Path,
    names: Any,
    checkpoint: str | None,
    force: bool,
    allow_changed: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the weights in a directory for use elsewhere.

    DIR is a directory of `train` or `build`. Weights under danetc's own names are those of its
    model.py, which needs torch alone: `model.load("FILE.safetensors")`. A .pt2 is the whole
    network, for `torch.export.load`, and needs no danetc either.
    """
    from danetc.tasks.exporting import export

    exported = export(
        directory,
        output,
        names,
        checkpoint=checkpoint,
        force=force,
        allow_changed=allow_changed,
    )
    if as_json:
        echo(json_text(exported.as_dict()))
    else:
        echo(_told(exported, directory))


def _told(exported: Exported, directory: str) -> str:
    use = f"for {exported.counterpart}"
    if exported.counterpart is None:
        model = Path(directory) / "model.py"
        use = FORMATS[Path(exported.path).suffix].use.format(file=exported.path, model=model)
    left = [name for name in exported.left_out if not name.endswith("num_batches_tracked")]
    without = f", without {len(left)} that have no place there ({left[0]})" if left else ""
    return (
        f"{exported.network}: {exported.tensors} tensors{without}, {exported.bytes:,} bytes, in "
        f"{exported.path}\n{use}"
    )
