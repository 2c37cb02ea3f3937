"""Neuron programs for tests, from spec text or from the standard library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files

import pytest
import torch

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.equations import compile_neuron
from danetc.dsl.neuron.program import Learn, NeuronProgram
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import Declaration, Number

SIGMOID = "surrogate sigmoid(alpha = 4.0) { y = 1 / (1 + exp(-alpha * x)) }"
Compile = Callable[..., NeuronProgram]


def declarations(text: str) -> dict[str, Declaration]:
    reporter = Reporter()
    program = parse(SourceFile("test", text), reporter)
    reporter.raise_if_errors()
    return {item.name: item for item in program.declarations}


def std(file: str) -> str:
    return files("danetc.dsl.std").joinpath(file).read_text("utf-8")


def surrogate_text(name: str) -> str:
    text = std("surrogates.danet")
    start = text.index(f"surrogate {name}(")
    return text[start : text.index("}", start) + 1]


def compile_text(
    neuron: str, surrogate: str = SIGMOID, **arguments: float | bool | Learn
) -> NeuronProgram:
    """The first neuron of a text, or one of the standard library by name. Arguments that are not
    given have their literal defaults."""
    if "{" in neuron:
        declaration = next(iter(declarations(neuron).values()))
    else:
        declaration = declarations(std("neurons.danet"))[neuron]
    stand_in = next(iter(declarations(surrogate).values()))
    reporter = Reporter()
    given = {**defaults(declaration), **arguments}
    program = compile_neuron(declaration, given, stand_in, defaults(stand_in), reporter)
    reporter.raise_if_errors()
    assert program is not None
    return program


@pytest.fixture
def compiled() -> Compile:
    return compile_text


def defaults(declaration: Declaration) -> dict[str, float | bool]:
    values: dict[str, float | bool] = {}
    for param in declaration.params:
        if isinstance(param.default, Number):
            values[param.name] = param.default.value
        else:
            values[param.name] = getattr(param.default, "id", "") == "true"
    return values


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
