"""Helpers that compile neurons from spec text or the standard library, and run training steps."""

from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.equations import compile_neuron
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import Learn, NeuronProgram
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import Declaration, Number
from danetc.runtime.kernels.torch_internals import notice
from tests.differential.helpers import randn

SIGMOID = "surrogate sigmoid(alpha = 4.0) { y = 1 / (1 + exp(-alpha * x)) }"


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
    """Compile the first neuron of a text or a std neuron; ``arguments`` override the defaults."""
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


def defaults(declaration: Declaration) -> dict[str, float | bool]:
    return {
        param.name: param.default.value
        if isinstance(param.default, Number)
        else getattr(param.default, "id", "") == "true"
        for param in declaration.params
    }


def evaluated(opcode: str, operands: Sequence[Tensor]) -> Tensor:
    """Evaluate the torch expression of an opcode with these operands."""
    names = [f"x{i}" for i in range(len(operands))]
    scope = {"torch": torch, "like": operands[0], **dict(zip(names, operands, strict=True))}
    return eval(OPCODES[opcode].text.format(*names, like="like"), scope)  # type: ignore[no-any-return]


class By(nn.Module):
    """A module that runs the given function and registers ``parts`` as submodules."""

    def __init__(self, forward: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.run, self.parts = forward, nn.ModuleList(parts)

    def forward(self, *args: Any) -> Any:
        return self.run(*args)


def laid(x: Tensor, last: bool = True) -> Tensor:
    """Lay out [..., C, H, W] with the channels last in memory if ``last``, else return it unchanged."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3) if last else x


def step(module: nn.Module, *inputs: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Run a training step on a weighted sum; return output, gradients and buffers by name."""
    module.zero_grad()
    xs = [x.detach().clone().requires_grad_() for x in inputs]
    out = module(*xs)
    weight = randn(*out.shape, seed=2) if weight is None else weight
    (out * weight.to(out.dtype)).sum().backward()
    found = {"output": out.detach(), **{f"input {i}": x.grad for i, x in enumerate(xs)}}
    found |= {f"gradient of {name}": p.grad for name, p in module.named_parameters()}
    found |= {name: value.clone() for name, value in module.named_buffers()}
    return {name: value for name, value in found.items() if value is not None}


@pytest.fixture
def unsaid() -> Iterator[None]:
    """Forget all notices given, before and after the test."""
    notice.cache_clear()
    yield
    notice.cache_clear()
