"""Tables of untrained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from results.data import HERE, Cell, read
from results.tables import table


def proposition_four(cells: Sequence[Cell]) -> str:
    """Return the results of `danetc prove` for each stage of ResNet-34."""
    rows = []
    for each in read(HERE / "paper" / "proposition_4.json")["stages"]:
        rows.append(
            [
                each["part"],
                str(each["interblock_neurons"] + 1),
                f"{min(each['bound']):.2g}",
                f"{each['where_block_0_spikes']:.2g}",
                f"{each['where_block_0_spikes_in_a_chain']:.2g}",
                f"{each['where_block_0_is_silent']:.2g}",
                f"{each['where_block_0_is_silent_in_a_chain']:.2g}",
            ]
        )
    head = [
        "",
        "blocks",
        "bound of Prop. 4",
        "block 0 spikes: DANet-C",
        "Origin",
        "block 0 silent: DANet-C",
        "Origin",
    ]
    return table(head, rows)


def inputs(cells: Sequence[Cell]) -> str:
    """Return the inputs of neurons at initialisation, over the layers of the main path (Sec. IV-A)."""
    rows = []
    for network in read(HERE / "paper" / "inputs.json")["networks"]:
        means, deviations = ([layer[k] for layer in network["layers"]] for k in (1, 2))
        row = [f"{min(found):.2f} to {max(found):.2f}" for found in (means, deviations)]
        rows.append([network["name"], str(len(means)), *row])
    return table(["untrained", "layers of neurons", "means", "deviations"], rows)


UNTRAINED: dict[str, Callable[[Sequence[Cell]], str]] = {
    "proposition 4": proposition_four,
    "inputs": inputs,
}
"""Tables by their name in results/README.md."""
