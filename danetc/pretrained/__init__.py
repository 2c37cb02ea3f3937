"""Trained networks that come with the package: a folder of the name of each, as a run leaves it.

``pretrained:NAME`` stands wherever the directory of a run does. A folder has what
``danetc train`` wrote, without checkpoints and without what its spec gives again (model.py, the graph, the
picture), which would grow old; one is added by being put here. Never imports torch.
"""

from __future__ import annotations

import os
from pathlib import Path

from danetc.errors import UserError

PREFIX = "pretrained:"
_SUMMARY, _WEIGHTS = (
    "summary.json",
    "weights.safetensors",
)  # as danetc.tasks.model_directory has them


def pretrained_names() -> tuple[str, ...]:
    """The names of the networks, without ``pretrained:``, in alphabetical order."""
    return tuple(sorted(each.parent.name for each in Path(__file__).parent.glob(f"*/{_SUMMARY}")))


def pretrained_sources() -> tuple[str, ...]:
    """Return ``pretrained:NAME`` of each network."""
    return tuple(PREFIX + name for name in pretrained_names())


def directory_of(source: str | os.PathLike[str]) -> Path:
    """The directory that is meant: of the package for ``pretrained:NAME``, else ``source`` itself.

    Raises UserError where no network has this name.
    """
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
    """The file of weights that is meant: of the network of ``pretrained:NAME``, else ``source``.

    Raises UserError as ``directory_of`` does.
    """
    place = directory_of(source)
    return place / _WEIGHTS if os.fspath(source).startswith(PREFIX) else place
