"""Specs around the examples of rows. Each checks without warnings, and is drawn on its page."""

from __future__ import annotations

_SPIKES = "in -> conv(8) -> norm -> spike"


def network(lines: list[str], *, before: str = "", **settings: str) -> str:
    """Return a spec of one network with these lines, after the declarations ``before``."""
    given = {"input": "image(3, 16, 16)", "steps": "4", "neuron": "IF", "surrogate": "atan"}
    lines = [*(f"{name} = {value}" for name, value in (given | settings).items()), *lines]
    return f"use std\n\n{before}network example {{\n{_aligned(lines)}\n}}\n"


def flow(text: str, *, starts: bool, **settings: str) -> str:
    """Return a network whose output is a flow. A flow that does not start with a value gets `a`, spikes of
    8 x 16 x 16; one that does may read `b`, too, other spikes of that size."""
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    lines = [f"a = {_SPIKES}"] if "a" in words or not starts else []
    lines += [f"b = {_SPIKES}"] if "b" in words else []
    return network([*lines, f"out = {text}" if starts else f"out = a -> {text}"], **settings)


def tiny(stages: str = "stage(basic(8), 2) via sew", fires: bool = True, /, **settings: str) -> str:
    """Return a network with a stem, stages and a head; the neuron between is in the stem or the head."""
    lines = [
        "stem = conv(8) -> norm" + " -> spike" * fires,
        f"stages = {stages}",
        "head = " + "spike -> " * (not fires) + "avgpool -> mean_over_time -> linear(10)",
    ]
    return network(lines, **settings)


def recipe(lines: list[str]) -> str:
    """Return a spec of a recipe with these lines and the required settings."""
    given = {line.partition("=")[0].strip() for line in lines}
    must = {"epochs": "epochs = 10", "optimizer": "optimizer = adamw(lr = 0.01)"}
    every = [*(line for key, line in must.items() if key not in given), *lines]
    return f"recipe example {{\n{_aligned(every)}\n}}\n"


def _aligned(lines: list[str]) -> str:
    """Return lines ``name = value`` in the style of the formatter."""
    pairs = [line.partition("=") for line in lines]
    width = max(len(name.strip()) for name, _, _ in pairs)
    return "\n".join(f"  {name.strip():<{width}} = {value.strip()}" for name, _, value in pairs)
