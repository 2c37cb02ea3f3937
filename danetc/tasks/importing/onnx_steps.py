"""Time steps as PyTorch's exporter writes those of a model that runs them itself, as SpikingJelly's do:
made what is read of a file of danetc's.

A sequence [T, N, ...] is taken apart by one slice a step and put together by one more dimension a step;
a linear layer of it is a product and a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from danetc.tasks.importing.equations import POINTWISE
from danetc.tasks.importing.onnx_neurons import attributes

Array: TypeAlias = "np.ndarray[Any, Any]"


class TorchSteps:
    """The operators of a graph with those of time steps in the form that is read elsewhere.

    ``stored`` are its numbers, where one that is spread over the samples stands for itself; ``stacked``
    are the values [T, N, ...] that are put together. A file of a fixed number of ``samples`` has
    numbers for each of them.
    """

    def __init__(self, nodes: Iterable[Any], stored: Mapping[str, Array], samples: int) -> None:
        self._nodes = [*nodes]
        self._makers = {name: node for node in self._nodes for name in node.output}
        self.stacked: set[str] = set()
        self.stored = dict(stored)
        read = {
            name for node in self._nodes if node.op_type not in POINTWISE for name in node.input
        }
        for name, array in stored.items():
            spread = samples > 0 and array.shape[:1] == (samples,) and array.size > 1
            if spread and name not in read and (array == array.reshape(-1)[0]).all():
                self.stored[name] = array.reshape(-1)[:1]
        self.nodes = [*self._rewritten()]

    def _rewritten(self) -> Iterable[Any]:
        from onnx import helper  # late: it is an extra

        steps = self._taken_apart()
        given = {name: whole for whole, parts in steps.items() for names in parts for name in names}
        same = {name: names[0] for parts in steps.values() for names in parts for name in names}
        begun: set[str] = set()
        for node in self._nodes:
            (result, *_) = node.output
            if (whole := given.get(result)) is not None:
                if whole not in begun:
                    begun.add(whole)
                    parts = [names[0] for names in steps[whole]]
                    yield helper.make_node("Split", [whole], parts, axis=0)
                continue
            if (joined := self._put_together(node)) is not None:
                self.stacked.add(result)
                node = helper.make_node("Concat", joined, [result], axis=0)
            elif (layer := self._linear(node)) is not None:
                node = helper.make_node("MatMul", layer, [result], node.name)
            if not same.keys().isdisjoint(node.input):
                read = [same.get(name, name) for name in node.input]
                node = type(node).FromString(node.SerializeToString())
                node.input[:] = read
            yield node

    def _taken_apart(self) -> dict[str, Sequence[Sequence[str]]]:
        """By sequences that are taken apart whole: the names of each step."""
        found: dict[str, dict[int, list[str]]] = {}
        for node in self._nodes:
            step = self._step(node)
            if step is not None:
                found.setdefault(step[0], {}).setdefault(step[1], []).append(node.output[0])
        return {
            whole: [steps[t] for t in range(len(steps))]
            for whole, steps in found.items()
            if len(steps) > 1 and steps.keys() == {*range(len(steps))}
        }

    def _step(self, node: Any) -> tuple[str, int] | None:
        """The sequence of which an operator takes one step, and which."""
        match node.op_type:
            case "Gather" if node.input[1] in self.stored and not attributes(node).get("axis", 0):
                index = self.stored[node.input[1]]
                return (node.input[0], int(index)) if index.ndim == 0 else None
            case "Squeeze" if self._numbers(node, 1) == [0]:
                part = self._makers.get(node.input[0])
                if part is None or part.op_type != "Slice" or self._numbers(part, 3) != [0]:
                    return None
                first, last = self._numbers(part, 1), self._numbers(part, 2)
                if first is None or last is None or last[0] != first[0] + 1:
                    return None
                return part.input[0], first[0]
        return None

    def _put_together(self, node: Any) -> list[str] | None:
        """The steps that an operator makes a sequence of."""
        if node.op_type != "Concat" or attributes(node).get("axis") != 0:
            return None
        parts = [self._makers.get(name) for name in node.input]
        if any(item is None or item.op_type != "Unsqueeze" or self._numbers(item, 1) != [0] for item in parts):  # fmt: skip
            return None
        return [item.input[0] for item in parts if item is not None]

    def _linear(self, node: Any) -> list[str] | None:
        """The value, weight and bias of a sum that stands behind a product."""
        if node.op_type != "Add":
            return None
        for product, bias in (node.input, reversed(node.input)):
            maker, numbers = self._makers.get(product), self.stored.get(bias)
            if maker is None or maker.op_type != "MatMul" or numbers is None:
                continue
            weight = self.stored.get(maker.input[1])
            if weight is not None and weight.ndim == 2 and numbers.shape == weight.shape[1:]:
                return [*maker.input, bias]
        return None

    def _numbers(self, node: Any, place: int) -> list[int] | None:
        """An operand that is a row of whole numbers that are stored."""
        found = self.stored.get(node.input[place]) if len(node.input) > place else None
        return None if found is None else [int(item) for item in found.reshape(-1)]
