"""Tables of untrained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from results.data import ALL, HERE, RULES, Cell, read
from results.findings import DANET_C, ORIGIN, PA_A
from results.tables import table

PROVED = {
    ORIGIN: "origin_r34",
    DANET_C: "danet_c_r34",
    RULES[ALL]: "listing_1_r34",
    PA_A: "danet_a_r34",
}
"""Files of results/paper/prove, by the names of networks in tables."""


def proved(name: str, proposition: int) -> list[dict[str, Any]]:
    """Return what `danetc prove` found for each stage of ResNet-34."""
    found = read(HERE / "paper" / "prove" / f"{PROVED[name]}.json")["findings"]
    return [each for each in found if each["proposition"] == str(proposition)]


def verdict_on(name: str, proposition: int) -> str:
    (verdict,) = {each["verdict"] for each in proved(name, proposition)}
    return str(verdict)


def propositions(cells: Sequence[Cell]) -> str:
    rows = [[name, *(verdict_on(name, number) for number in (1, 3, 4))] for name in PROVED]
    return table(["ResNet-34, all stages", "Prop. 1", "Prop. 3", "Prop. 4"], rows)


def proposition_four(cells: Sequence[Cell]) -> str:
    """Return the gradients of each stage, where block 0 spikes and where it is silent."""
    columns = [
        f"where_block_0_{state}{of}"
        for state in ("spikes", "is_silent")
        for of in ("_bound", "", "_in_a_chain")
    ]
    rows = [
        [
            f"{name}, {each['part']}",
            str(each["interblock_neurons"] + 1),
            *(f"{each[column]:.2g}" for column in columns),
        ]
        for name in (DANET_C, RULES[ALL])
        for each in proved(name, 4)
    ]
    head = ["", "blocks", "block 0 spikes: bound", "gradient", "in a chain"]
    return table([*head, "block 0 is silent: bound", *head[-2:]], rows)


def inputs(cells: Sequence[Cell]) -> str:
    """Return the inputs of neurons at initialisation, over the layers of the main path (Sec. IV-A)."""
    rows = []
    for network in read(HERE / "paper" / "inputs.json")["networks"]:
        means, deviations = ([layer[k] for layer in network["layers"]] for k in (1, 2))
        row = [f"{min(found):.2f} to {max(found):.2f}" for found in (means, deviations)]
        rows.append([network["name"], str(len(means)), *row])
    return table(["untrained", "layers of neurons", "means", "deviations"], rows)


UNTRAINED: dict[str, Callable[[Sequence[Cell]], str]] = {
    "propositions": propositions,
    "proposition 4": proposition_four,
    "inputs": inputs,
}
"""Tables by their name in results/README.md."""
