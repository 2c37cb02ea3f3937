"""danetc: a language for the topology of deep spiking neural networks, and its compiler.

::

    danetc.check("my_network.danet")                      # returns warnings; raises danetc.SpecError
    danetc.draw("danet_c_r50", output="topology.svg")      # writes and returns a picture
    model = danetc.build("danet_c_r50", set={"steps": 2})  # a trainable torch.fx.GraphModule
    danetc.data("digits").picture()                        # samples of a data set
    run = danetc.train("danet_c_small", data="digits")     # trains by the recipe; data may be (x, y)
    danetc.evaluate(run.directory, steps=[1, 2, 4])        # evaluates at several numbers of time steps
    danetc.predict(run.directory, ["a.png"]).classes       # classes of images
    danetc.compare("net.danet", grid={"steps": [1, 4]})    # trains a grid of networks
    danetc.search("net.danet", grid={"width": "8..64"})    # searches with Optuna
    danetc.convert("pretrained:ann_c_small_digits", "snn")  # converts an ANN to an SNN
    danetc.export(run.directory, "weights.safetensors")    # or .pt2, .onnx, .nir, ...
    model = danetc.load(run.directory)                     # loads a trained or built network
    fast = danetc.fold(model)                              # folds norms into convolutions for inference
    danetc.measure(run.directory, "digits").frame()        # firing rates, gradients, energy
    danetc.record(model, images).raster()                  # spikes, potentials and currents over time

Importing this package loads neither the compiler nor torch; the first use of a name does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from danetc.compiler.emit.inference import fold as fold
    from danetc.compiler.ir.ops.user import allow_code as allow_code
    from danetc.dsl.diagnostics.diagnostic import SpecError as SpecError
    from danetc.errors import UserError as UserError
    from danetc.output.echo import SpecWarning as SpecWarning
    from danetc.runtime.training.observer import Callback as Callback
    from danetc.runtime.training.observer import StopTraining as StopTraining
    from danetc.tasks.converting import convert as convert
    from danetc.tasks.data_report import data as data
    from danetc.tasks.drawing import draw as draw
    from danetc.tasks.evaluate import evaluate as evaluate
    from danetc.tasks.evaluate import predict as predict
    from danetc.tasks.exporting import export as export
    from danetc.tasks.grid.comparison import compare as compare
    from danetc.tasks.importing.network import import_network as import_network
    from danetc.tasks.measuring.measure import measure as measure
    from danetc.tasks.measuring.recording import record as record
    from danetc.tasks.model_directory import load as load
    from danetc.tasks.networks import build as build
    from danetc.tasks.networks import check as check
    from danetc.tasks.searching.search import search as search
    from danetc.tasks.training.train import train as train

    __version__: str

_HOMES = {
    "Callback": "danetc.runtime.training.observer",
    "StopTraining": "danetc.runtime.training.observer",
    "SpecError": "danetc.dsl.diagnostics.diagnostic",
    "SpecWarning": "danetc.output.echo",
    "UserError": "danetc.errors",
    "allow_code": "danetc.compiler.ir.ops.user",
    "build": "danetc.tasks.networks",
    "check": "danetc.tasks.networks",
    "compare": "danetc.tasks.grid.comparison",
    "convert": "danetc.tasks.converting",
    "data": "danetc.tasks.data_report",
    "draw": "danetc.tasks.drawing",
    "evaluate": "danetc.tasks.evaluate",
    "export": "danetc.tasks.exporting",
    "fold": "danetc.compiler.emit.inference",
    "import_network": "danetc.tasks.importing.network",
    "load": "danetc.tasks.model_directory",
    "measure": "danetc.tasks.measuring.measure",
    "predict": "danetc.tasks.evaluate",
    "record": "danetc.tasks.measuring.recording",
    "search": "danetc.tasks.searching.search",
    "train": "danetc.tasks.training.train",
}


__all__ = sorted({"__version__", *_HOMES})


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562)."""
    import importlib

    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("danetc")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, without modules of the package."""
    return list(__all__)
