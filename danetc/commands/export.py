"""``danetc export``: a network for other libraries, runtimes and chips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.options import (
    allow_changed_option,
    checkpoint_option,
    init_option,
    json_option,
    network_option,
    seed_option,
    set_option,
)
from danetc.options.completion import complete_specs
from danetc.output.echo import echo, json_text
from danetc.setting import Setting
from danetc.tasks.formats import FORMATS, LISTED

if TYPE_CHECKING:
    from danetc.tasks.exporting import Exported


@click.command("export")
@click.argument("source", metavar="DIR|FILE|NAME", shell_complete=complete_specs)
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
    type=click.Choice(["danetc", "torchvision", "timm", "spikingjelly"]),
    default="danetc",
    show_default=True,
    help="Whose names the weights get, where the library has a network of the same layers.",
)
@click.option(
    "--loop",
    is_flag=True,
    help="ONNX: time steps in a loop, for any number of them, in place of T one behind the other.",
)
@click.option(
    "--streaming",
    is_flag=True,
    help="ONNX: one time step, with what neurons remember as inputs and outputs.",
)
@click.option(
    "--half", is_flag=True, help="ONNX: numbers of float16; membrane potentials stay float32."
)
@click.option(
    "--compiled",
    is_flag=True,
    help="pt2: compiled by AOTInductor, for processors like this machine's; needs a C++ compiler.",
)
@checkpoint_option
@network_option
@set_option
@seed_option
@init_option
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@allow_changed_option
@json_option
def command(
    source: str,
    output: Path,
    names: Any,
    loop: bool,
    streaming: bool,
    half: bool,
    compiled: bool,
    checkpoint: str | None,
    network: str | None,
    settings: dict[str, Setting],
    seed: int,
    init: str | None,
    force: bool,
    allow_changed: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a network for use elsewhere: its weights, or all of it.

    DIR is a directory of `train` or `build`, or pretrained:NAME; a spec (FILE or NAME) is written with
    new weights, or with those of --init. Weights under danetc's own names are those of its model.py, which needs torch alone:
    `model.load("FILE.safetensors")`. A file of a whole network needs no danetc. It is read back and
    compared with the model on random samples before it is kept: what the command prints of it.
    """
    from danetc.tasks.exporting import export

    if loop and streaming:
        raise click.UsageError("--loop and --streaming are two forms: give one of them")
    exported = export(
        source,
        output,
        names,
        checkpoint=checkpoint,
        network=network,
        set=settings,
        seed=seed,
        init=init,
        time="loop" if loop else "step" if streaming else "unrolled",
        half=half,
        compiled=compiled,
        force=force,
        allow_changed=allow_changed,
    )
    if as_json:
        echo(json_text(exported.as_dict()))
    else:
        echo(_told(exported, source))


def _told(exported: Exported, directory: str) -> str:
    use = f"for {exported.counterpart}"
    if exported.counterpart is None:
        place = Path(directory) / "model.py"
        model = place if place.is_file() else "the model.py that `danetc build` writes"
        row = FORMATS[Path(exported.path).suffix]
        text = row.compiled_use if exported.options.compiled else row.use
        use = text.format(file=exported.path, model=model)
    left = [name for name in exported.left_out if not name.endswith("num_batches_tracked")]
    without = f", without {len(left)} that have no place there ({left[0]})" if left else ""
    return (
        f"{exported.network}: {exported.tensors} tensors{without}, {exported.bytes:,} bytes, in "
        f"{exported.path}\n{use}{_comparison(exported)}"
    )


def _comparison(exported: Exported) -> str:
    found = exported.compared
    if found is None:
        reason = exported.uncompared
        return f"\nnot compared with the model: {reason}" if reason else ""
    others = "; in the others, rounding changes a spike" if found.agreeing < found.samples else ""
    warmed = ", after its norms were warmed" if found.warmed else ""
    return (
        f"\nread back: {found.agreeing} of {found.samples} random samples agree within "
        f"{found.largest:.1e}{others} (outputs vary by {found.deviation:.2g}{warmed})"
    )
