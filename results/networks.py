"""Facts of the trained networks that follow from their specs and firing rates, in networks.json.

::

    python -m results.networks
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from statistics import mean
from typing import TYPE_CHECKING, Any

from results.data import HERE, MISSING, read, read_cells

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph

FILE = HERE / "networks.json"
FOLDERS = ("paper", "beyond", "digits")


def network_of(name: str) -> str:
    """Return the name of a cell without its seed."""
    return name.rpartition(",seed=")[0]


@cache
def facts() -> Mapping[str, Mapping[str, Any]]:
    """Return the facts of each network by its name in networks.json.

    ``fewest_neurons`` is the smallest number of neurons on a path from the stem to the last stage's
    end; ``multiplications`` and ``additions`` are those for an image, where the latter replace the
    others if every neuron fires; ``measured_additions`` is their number at the measured firing rates,
    for each seed, or None if a layer reads more than sums of spikes.
    """
    found: Mapping[str, Mapping[str, Any]] = read(FILE)
    return found


def millions(values: Sequence[float | None]) -> str:
    """Return the mean of numbers of operations in millions."""
    known = [value for value in values if value is not None]
    return f"{mean(known) / 1e6:.2f} M" if known and len(known) == len(values) else MISSING


def additions_at(graph: Graph, rates: Mapping[str, float]) -> float | None:
    """Return the number of additions for an image if the layers of neurons fire at these rates.

    A spike costs an addition for each weight that reads it, alone or in a sum of spikes. None if a
    layer of weights reads another function of spikes.
    """
    from danetc.compiler.ir.at_node import products_of

    means: dict[int, float] = {}
    total = 0.0
    for node in graph.nodes.values():
        if node.op == "neuron":
            means[node.id] = rates[node.path]
        elif node.op == "add" and means.keys() >= {*node.inputs}:
            means[node.id] = sum(means[i] for i in node.inputs)
        for product in products_of(graph, node):
            if any(kind.is_integer for kind in product.kinds):
                if node.inputs[0] not in means:
                    return None
                total += product.macs * graph.steps * means[node.inputs[0]]
    return total


def compute() -> dict[str, dict[str, Any]]:
    """Return the facts of all planned networks, compiled from their specs."""
    from danetc.tasks.networks import compile_spec
    from results.run import all_runs, read_groups

    cells = read_cells(*FOLDERS)
    found: dict[str, dict[str, Any]] = {}
    for run in chain.from_iterable(
        all_runs(read_groups(HERE / each / "cells.toml"), HERE / each / "cells") for each in FOLDERS
    ):
        name, request = network_of(run.name), run.request
        if name in found:
            continue
        network = compile_spec(request.spec, network=request.network, settings=request.set)
        summary = network.summary
        measured = [
            additions_at(network.graph, {layer.name: layer.rate for layer in cell.layers})
            for cell in cells
            if network_of(cell.name) == name
        ]
        found[name] = {
            "fewest_neurons": summary.stages[-1].fewest_neurons,
            "parameters": summary.parameters,
            "multiplications": summary.macs - summary.count_macs,
            "additions": summary.additions + summary.count_additions,
            "measured_additions": [None if each is None else round(each) for each in measured],
        }
    return found


def written(found: Mapping[str, Any]) -> str:
    """Return the text of networks.json, with one line per network."""
    lines = (f"{json.dumps(name)}: {json.dumps(each)}" for name, each in found.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(written(compute()), encoding="utf-8")
