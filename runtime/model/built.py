"""The model: nested torch.fx GraphModules that can be indexed, copied and streamed.

Every scope of a network's graph is a ``ScopeModule``: ``model.stages[2].blocks[5].branch`` is a module with readable
``.code``. A model has no hidden state: a forward pass starts from the initial states of the neurons, and
``Model.stream`` takes and returns the states.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.fx.graph import PythonCode

from danetc.runtime.kernels.prefetch import call_of
from danetc.runtime.layers.laid_out import forget_layouts
from danetc.runtime.model.signature import Signature
from danetc.runtime.model.stepping import STEP, States, frame, step_code, step_under_way

if TYPE_CHECKING:
    _Base = nn.Module
else:
    _Base = object


class Indexed(_Base):
    """Indexes a module whose children are called "0", "1", ..., such as the blocks of a stage."""

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for {size} numbered children")
        return self._modules[str(index % size)]

    def __len__(self) -> int:
        return sum(name.isdecimal() for name in self._modules)

    def __bool__(self) -> bool:
        return True  # even without numbered children

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. Raises RuntimeError in place of replacing the neuron of a fusion group."""
        layer = self.__dict__.get("_modules", {}).get(name)
        if getattr(layer, "_is_group", False) and value is not layer:
            raise RuntimeError(
                f"`{name}` also computes the norms and the sum before it; to replace it, build the "
                'model with backend="eager"'
            )
        super().__setattr__(name, value)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        setattr(self, name, module)


class ModuleGroup(Indexed, nn.Module):
    """A scope whose modules are called by the scope around it."""


class ScopeModule(Indexed, torch.fx.GraphModule):
    """A scope of the network: its modules in the order of the spec, and its graph as ``forward``.

    ``root`` holds the children; their order need not be that of the calls in ``graph``.
    """

    def __init__(self, root: nn.Module, graph: torch.fx.Graph, class_name: str = "Scope") -> None:
        super().__init__(nn.Module(), torch.fx.Graph(), class_name)
        self.graph.owning_module = None
        self._take(graph)  # before the children, which would be compiled again
        for name, child in root.named_children():
            self.add_module(name, child)

    def recompile(self) -> PythonCode:
        """Compile the graph, unless it is the empty one of a new GraphModule."""
        if not len(self.graph.nodes):
            return PythonCode("", {}, None)
        code = super().recompile()
        own = type(self)
        if "__call__" in vars(own):  # a slow wrapper that prints the line of an error
            del own.__call__
        return code

    def __deepcopy__(self, memo: dict[int, Any]) -> ScopeModule:
        """Return a copy of the same class. (That of GraphModule has no indexing, and other children first.)"""
        # GraphModule creates a subclass for each object.
        own: Any = next(x for x in type(self).__mro__ if "GraphModuleImpl" not in x.__qualname__)
        result: ScopeModule = own.__new__(own)
        memo[id(self)] = result
        type(result).__name__ = type(self).__name__
        state = copy.deepcopy(self.__dict__, memo)
        graph, children = state.pop("_graph"), state.pop("_modules")
        result.__dict__.update(state, _modules={})
        result._take(graph)
        result._modules.update(children)
        return result

    def __reduce__(self) -> Any:
        raise TypeError(
            "a model of danetc cannot be pickled: save model.state_dict(), and load it into danetc.build(spec)"
        )

    def _take(self, graph: torch.fx.Graph) -> None:
        """Compile a graph. (Its reference to the module is weak, so that a model's weights are freed with the last
        reference to it.)"""
        self.graph = graph
        graph.owning_module = weakref.proxy(self)  # type: ignore[assignment]

    def __prepare_scriptable__(self) -> None:
        """Raise RuntimeError for torch.jit.script, which calls this first."""
        raise RuntimeError(
            "torch.jit.script cannot compile a model of danetc, whose layers call operators from Python: "
            "use torch.jit.trace(model, x) or torch.export.export(model, (x,))"
        )

    def __str__(self) -> str:
        return repr(self)  # not the code, which is in ``code``


class Model(ScopeModule):
    """A network.

    Takes [N, C, H, W] (static) or [T, N, C, H, W] (a sequence of frames); several inputs by position or name, or as
    one tensor with the channels of all. Their dtype is that of the weights. Returns [N, classes], or [T, N, classes]
    if the head does not average over time; a tuple for several outputs.

    ``topology`` is the compiler's graph that the model was emitted from, which ``show`` draws in a notebook. ``backend``
    runs it. ``directory`` is that of a run that it was loaded from. A forward pass uses none of them.
    """

    def __init__(
        self,
        root: nn.Module,
        graph: torch.fx.Graph,
        signature: Signature,
        topology: Any,
        show: Callable[[Any], str],
        describe: Callable[[Any], Any],
    ) -> None:
        super().__init__(root, graph, "Model")
        self.signature = signature
        self.topology = topology
        self.backend = "eager"
        self.directory: Path | None = None
        self.show, self.describe = show, describe

    def __deepcopy__(self, memo: dict[int, Any]) -> ScopeModule:
        for shared in (self.topology, self.signature):
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)

    def train(self, mode: bool = True) -> Self:
        """See ``nn.Module.train``. Weights are laid out for inference again when needed."""
        forget_layouts(self)
        return super().train(mode)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        if self.signature.inputs:
            args, kwargs = self.signature.check_all(args, kwargs, self), {}
        elif len(given) == 1:  # Python refuses other calls
            x = self.signature.check(given[0], self)
            args, kwargs = ((x,), kwargs) if args else (args, dict.fromkeys(kwargs, x))
        # (Only real tensors compile kernels, not proxies of fx or symbolic values of dynamo.)
        if args and type(args[0]) is Tensor and not torch.compiler.is_compiling():
            with call_of(self, args):
                return super().__call__(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def _repr_html_(self) -> str:
        """The topology, for notebooks."""
        return self.show(self.topology)

    def summary(self) -> Any:
        """Return stages, parameters, neurons and operations, as ``danetc summary`` prints them."""
        return self.describe(self.topology)

    def stream(
        self, x: Tensor | Sequence[Tensor], states: States | None = None
    ) -> tuple[Any, States]:
        """Run one time step: take a frame [N, C, H, W] and states, return the output [N, ...] and states.

        Several inputs are a tuple of frames, or one frame with the channels of all. Start with ``states=None``.

        In eval mode, the mean of T outputs equals the result of ``forward`` for the T frames if the head is linear
        after its mean over time; an operation that averages over time inside the network sees one step only.
        Raises ValueError if an operation needs later steps (``signature.whole``).
        """
        if self.signature.whole:
            raise ValueError(f"the model cannot run step by step: {self.signature.whole}")
        if self.signature.inputs:
            given = x if isinstance(x, tuple | list) else (x,)
            frames = self.signature.check_all(given, {}, self, frame=True)
        else:
            frames = (self.signature.check(x, self, frame=True),)
        before = states or {}
        after: States = {STEP: before.get(STEP, 0) + 1}
        run = step_code(self, first=not before)
        with step_under_way(first=not before):
            result = run(self, before, after, *(x.unsqueeze(0) for x in frames))
        ranks = [len(shape) for shape in self.signature.outputs.values()]
        if len(ranks) == 1:
            return frame(result, ranks[0]), after
        return tuple(map(frame, result, ranks)), after


def to_channels_last(model: nn.Module) -> None:
    """Convert the weights of convolutions to channels last; outputs follow."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
