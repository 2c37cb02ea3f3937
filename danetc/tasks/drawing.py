"""Pictures of networks: `danetc.draw`. Never imports torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from danetc.arguments import Setting, check_choice
from danetc.compiler import draw as pictures
from danetc.dsl.reading import SUFFIX, shipped_specs
from danetc.errors import UserError
from danetc.pretrained import PREFIX
from danetc.runtime.system.files import replace_file
from danetc.tasks.networks import compile_spec

if TYPE_CHECKING:
    from danetc.compiler.draw.theme import Theme


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
            block level shows it.
        output: file of the picture, whose ending selects the format.
        text: the spec itself, in place of ``specs``.
        network: name of the network if the file has several.
        set: parameters and settings to change, as in ``danetc.build``.
        level: ``network``, ``stage`` (the default), ``block``, ``op`` or ``neuron``.
        format: ``svg`` (the default), ``png``, ``pdf`` or ``gv``, without ``output``.
        theme: ``light``, ``dark``, or ``auto``: an SVG is then as its viewer prefers.

    Return the picture as bytes of a file. Raises SpecError for errors in a spec, UserError if the
    level shows nothing of the network, for an unknown format, level or theme, if the file cannot be
    written to, if Graphviz is missing or fails, and if a PDF has no matplotlib.
    """
    if len(specs) > 1 and level not in (None, "block"):
        raise UserError(f"several specs are shown side by side on the level block, not {level}")
    check_choice("theme", theme, pictures.THEMES)
    place = None if output is None else Path(output)
    kind = format or ("svg" if place is None else place.suffix.lower().removeprefix("."))
    if place is not None and not place.parent.is_dir():
        raise UserError(f"{place}: there is no folder {place.parent}")
    pictures.check_engine(kind)  # before the networks are built
    graphs = [
        compile_spec(each, text=text, network=network, settings=set).graph
        for each in specs or (None,)
    ]
    if len(graphs) > 1:
        data = pictures.compare(graphs, kind, theme)
    else:
        data = pictures.draw(graphs[0], level or pictures.DEFAULT_LEVEL, kind, theme)
    if place is not None:
        replace_file(place, data, follow=True)
    return data


def beside_spec(spec: str) -> Path:
    """Return the default place of a picture: next to a file, in this folder for a shipped spec."""
    name = spec if spec not in shipped_specs() else spec.rpartition("/")[2]
    return Path(str(Path(name.removeprefix(PREFIX))).removesuffix(SUFFIX) + ".svg")
