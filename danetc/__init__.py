"""danetc: a language and compiler for the topology of deep spiking neural networks.

::

    danetc.check("my_network.danet")                      # warnings; raises danetc.SpecError
    model = danetc.build("danet_c_r50", set={"steps": 2})  # a trainable torch.fx model
    model = danetc.load("build/danet_c_r50")               # one that `danetc build` wrote
    fast = danetc.fold(model)                              # for inference: norms in convolutions
    rates = danetc.measure(model, batches).firing_rate     # and gradients, potentials, energy

Importing this package loads neither the compiler nor torch; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danetc.compiler.emit.inference import fold
    from danetc.dsl.diagnostics.diagnostic import SpecError
    from danetc.errors import UserError
    from danetc.model_directory import load
    from danetc.output.spec_messages import SpecWarning
    from danetc.tasks.measuring.measure import measure
    from danetc.tasks.networks import build, check

    __version__: str

__all__ = [
    "SpecError",
    "SpecWarning",
    "UserError",
    "__version__",
    "build",
    "check",
    "fold",
    "load",
    "measure",
]

_HOMES = {
    "SpecError": "danetc.dsl.diagnostics.diagnostic",
    "SpecWarning": "danetc.output.spec_messages",
    "UserError": "danetc.errors",
    "build": "danetc.tasks.networks",
    "check": "danetc.tasks.networks",
    "fold": "danetc.compiler.emit.inference",
    "load": "danetc.model_directory",
    "measure": "danetc.tasks.measuring.measure",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    import importlib

    if name == "__version__":
        value: Any = importlib.import_module("danetc.version").version()
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
