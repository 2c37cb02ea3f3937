"""Trained networks in the package, one folder each, as written by ``danetc train``.

``pretrained:NAME`` can replace the directory of a run. A folder has no checkpoints and none of the files
that its spec generates (model.py, the graph, the picture). To add a network, add its folder. Never imports
torch.
"""

from __future__ import annotations

import os
from pathlib import Path

from danetc.errors import UserError

PREFIX = "pretrained:"
_WEIGHTS = "weights.safetensors"


def pretrained_names() -> tuple[str, ...]:
    """Return the names of the networks, without ``pretrained:``, in alphabetical order."""
    return tuple(sorted(each.parent.name for each in Path(__file__).parent.glob(f"*/{_WEIGHTS}")))


def directory_of(source: str | os.PathLike[str]) -> Path:
    """Return the directory of ``pretrained:NAME``, else ``source``. Raises UserError."""
    text = os.fspath(source)
    if not text.startswith(PREFIX):
        return Path(text)
    name, known = text.removeprefix(PREFIX), pretrained_names()
    if name not in known:
        from danetc.dsl.diagnostics.diagnostic import instead

        hint = instead(name, known, "there are")
        raise UserError(f"no network `{name}` comes with danetc; {hint} (`danetc list pretrained`)")
    return Path(__file__).parent / name


def weights_of(source: str | os.PathLike[str]) -> Path:
    """Return the weights of a directory or network, else ``source``. Raises UserError."""
    place = directory_of(source)
    return place / _WEIGHTS if os.path.isdir(place) else place
