"""Tracing of a model by torch.export into operations of ATen, with the shapes of their values.

Modules of ``MODULES`` and custom autograd functions are leaves: one operation ``danetc::leaf`` each. The
code of other modules can use the shapes of tensors, but not their values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd import Function

from danetc.errors import UserError
from danetc.runtime.system.user_code import where_it_failed

torch.library.define("danetc::leaf", "(Tensor x, str key) -> Tensor")
torch.library.register_fake("danetc::leaf", lambda x, key: torch.empty_like(x))
leaf: Callable[[Any, str], Any] = torch.ops.danetc.leaf
"""Operation of a module or function that is read as one, with its key in ``TracedModel.leaves``."""


@dataclass(frozen=True, eq=False)
class Spike:
    """A call of a custom autograd function: a function of its first argument, and the others."""

    name: str
    function: Callable[[Tensor], Tensor]
    others: tuple[Any, ...]

    def check(self) -> None:
        """Raise UserError unless the function is a step function at 0 of one value."""
        if any(isinstance(item, Tensor) for item in self.others):
            raise UserError(f"{self.name}: a custom autograd function must read one value")
        places = torch.tensor([-2.0, -1e-3, 0.0, 1e-3, 2.0], dtype=torch.float64)
        steps = self.function(places)
        if not torch.equal(steps, (places >= 0).to(steps)):
            raise UserError(f"{self.name}: a custom autograd function must be a step function at 0")


class TracedModel:
    """Graph of a model.

    Attributes:
        leaves: Modules and custom autograd functions that are one operation, by their keys.
        places: Paths of the parameters and buffers that placeholders stand for.
        returned: Function that returns the output of the model from those of the graph.
    """

    def __init__(self, model: nn.Module, example: Tensor, leaves: Mapping[str, nn.Module]) -> None:
        """Trace a model, whose modules in ``leaves`` call ``leaf``. Raises UserError if it cannot be traced."""
        self.leaves: dict[str, nn.Module | Spike] = {**leaves}
        before, apply = logging.root.manager.disable, Function.__dict__["apply"]
        Function.apply = classmethod(partial(self._called, apply.__func__))  # type: ignore[method-assign, assignment]
        logging.disable(logging.CRITICAL)  # torch.export logs the graph at an error
        try:
            program = torch.export.export(model, (example,), strict=False)
        except UserError:
            raise
        except Exception as error:
            if type(error).__name__ == "GuardOnDataDependentSymNode":  # its module is private
                raise UserError(
                    f"the control flow depends on the values of a tensor ({str(error).splitlines()[0]}), but "
                    "danetc reads networks that run the same operations for every input. Move this code out "
                    "of `forward`"
                ) from error
            size = "x".join(map(str, example.shape))
            raise UserError(
                f"the model cannot be traced with an input of {size}: {where_it_failed(error)}"
            ) from error
        finally:
            logging.disable(before)
            Function.apply = apply  # type: ignore[method-assign]
        targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
        self.graph = program.graph
        self.places: Mapping[fx.Node, str] = {
            node: target for node in self.graph.nodes if (target := targets.get(node.name))
        }
        assert program.call_spec.out_spec is not None
        self.returned: Callable[[Sequence[Any]], Any] = program.call_spec.out_spec.unflatten
        for item in self.leaves.values():
            if isinstance(item, Spike):
                item.check()

    def _called(self, apply: Callable[..., Any], kind: type, *given: Any) -> Any:
        """Trace a call of a custom autograd function as one operation."""
        key = f"{kind.__name__} {len(self.leaves)}"
        self.leaves[key] = Spike(kind.__name__, lambda x: apply(kind, x, *given[1:]), given[1:])
        return leaf(given[0], key)


def operation(node: fx.Node) -> str:
    """Return the name of a node's operation, also for one in place; empty for parameters and inputs."""
    target: Any = node.target
    return str(getattr(getattr(target, "overloadpacket", target), "__name__", "")).strip("_")
