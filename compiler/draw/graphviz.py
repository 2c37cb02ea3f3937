"""Graphviz's program: which one there is, and a run of it."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from danetc.compiler.draw.errors import GraphvizError

_TIMEOUT = 60.0  # seconds


def run_program(texts: Sequence[str], engine: str, form: str, dpi: int | None = None) -> bytes:
    """What the program writes of graphs; see ``danetc.compiler.draw.engine.Layout``."""
    import subprocess  # late: a browser has neither processes nor this module

    resolution = [] if dpi is None else [f"-Gdpi={dpi}"]
    command = [program(system=form == "pdf"), f"-K{engine}", f"-T{form}", *resolution]
    text = "\n".join(texts).encode("utf-8")
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GraphvizError(f"{command[0]}: {error}") from error
    if done.returncode != 0 or not done.stdout:
        raise GraphvizError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def program(*, system: bool = False) -> str:
    """``dot`` where there is one, else the program that the package graphviz-pure installs.

    ``system`` asks for ``dot`` itself, which alone writes PDF. Raises GraphvizError.
    """
    found = shutil.which("dot")
    if found is None and system:
        raise GraphvizError(
            "PDF needs Graphviz's `dot` on the PATH (Debian: apt install graphviz); "
            "SVG, PNG and .gv do not"
        )
    found = found or shutil.which("graphviz-pure")
    if found is None:
        beside = [Path(sysconfig.get_path("scripts")), Path(sys.executable).parent]
        places = (shutil.which("graphviz-pure", path=str(folder)) for folder in beside)
        found = next((place for place in places if place is not None), None)
    if found is None:
        raise GraphvizError(
            "neither `dot` nor `graphviz-pure` is installed (pip install graphviz-pure)"
        )
    return found
