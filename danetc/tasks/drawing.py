"""Pictures of networks: `danetc.draw`, and the steps that commands share. Never imports torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from danetc.arguments import Setting
from danetc.dsl.reading import SUFFIX, shipped_specs
from danetc.errors import UserError
from danetc.tasks.networks import compile_spec

FORMATS = ("svg", "png", "pdf", "gv")
"""Those of ``danetc.compiler.draw``, which a wrong name does without."""

if TYPE_CHECKING:
    from danetc.compiler.draw.theme import Theme
    from danetc.compiler.ir.graph import Graph


def draw(
    *specs: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    text: str | None = None,
    network: str | None = None,
    set: Mapping[str, Setting] | None = None,
    level: str | None = None,
    format: str | None = None,
    theme: Theme = "auto",
) -> bytes:
    """Draw a network's topology, as ``danetc draw`` does. Never imports torch.

    Args:
        specs: a spec file or the name of a shipped spec; several are put side by side, each as the
            block level shows it (``danetc draw --compare``).
        output: where the picture is written too; the ending says its format.
        text: the spec itself, in place of ``specs``.
        network: which network of the file, where it has several.
        set: parameters and settings to change, as in ``danetc.build``.
        level: ``network``, ``stage`` (the default), ``block``, ``op`` or ``neuron``.
        format: ``svg`` (the default), ``png``, ``pdf`` or ``gv``, where ``output`` does not say it.
        theme: ``light``, ``dark``, or ``auto``: an SVG is then as its viewer prefers.

    Returns the picture as it stands in a file. Raises SpecError for what is wrong in a spec,
    UserError where the level shows nothing of the network, where the format, the level or the
    theme is not one of these, where the file cannot be written to, and where Graphviz is missing or
    fails.
    """
    if bool(specs) == (text is not None):
        raise TypeError("give either specs or text=...")
    if len(specs) > 1 and level not in (None, "block"):
        raise UserError(f"several specs are shown side by side on the level block, not {level}")
    place = None if output is None else Path(output)
    kind = format or ("svg" if place is None else place.suffix.lower().removeprefix("."))
    if place is not None:
        check_place(place)
    check_picture(kind)
    sources = specs or (None,)
    graphs = [
        compile_spec(each, text=text, network=network, settings=set).graph for each in sources
    ]
    data = picture(*graphs, level=level or "stage", kind=kind, theme=theme)
    if place is not None:
        from danetc.runtime.system.files import replace_file

        replace_file(place, data, follow=True)
    return data


def beside_spec(spec: str) -> Path:
    """Where a picture goes that has no name of its own: beside a file, of a shipped spec here."""
    name = spec if spec not in shipped_specs() else spec.rpartition("/")[2]
    return Path(name.removesuffix(SUFFIX) + ".svg")


def picture(
    *graphs: Graph, level: str = "stage", kind: str = "svg", theme: Theme = "auto"
) -> bytes:
    """The picture of a graph as a file. Several graphs: how each wires its blocks, side by side.

    ``level``, ``kind`` and ``theme`` are those of ``danetc.compiler.draw``. Raises UserError where
    the level shows nothing of the network, and where Graphviz is missing or fails.
    """
    from danetc.compiler import draw as pictures

    if theme not in pictures.THEMES:
        raise UserError(f"there is no theme {theme}; there are {', '.join(pictures.THEMES)}")
    try:
        if len(graphs) > 1:
            return pictures.compare(graphs, kind, theme)
        return pictures.draw(graphs[0], level, kind, theme)
    except pictures.DrawError as error:
        raise UserError(f"the picture could not be drawn: {error}") from error


def check_place(output: Path) -> None:
    """Raise UserError where no picture can be written, before anything is made for it."""
    if output.is_dir():
        raise UserError(f"{output} is a folder; name the picture in it")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}")


def check_picture(kind: str) -> None:
    """Raise UserError where no picture of this format can be drawn, before anything is made for it."""
    from danetc.compiler import draw as pictures

    if kind not in pictures.FORMATS:
        raise UserError(
            f"there is no format {kind or 'without a name'}; there are {', '.join(pictures.FORMATS)}"
        )
    try:
        pictures.check_engine(kind)
    except pictures.DrawError as error:
        raise UserError(f"the picture could not be drawn: {error}") from error
