"""A trained model as one for inference: norms in the convolutions, nothing kept for gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from danetc.compiler.analysis.verify import verify
from danetc.compiler.emit.fx import FusedEmitter
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.at_node import weights
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS, TorchFunction, TorchModule
from danetc.compiler.ir.ops.kinds import number
from danetc.compiler.passes.epilogues import add_epilogues
from danetc.compiler.passes.factors import source_of
from danetc.compiler.passes.fold import Folding, plan_folding
from danetc.compiler.passes.fusion_groups import FusionGroup, plan_fusion
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.inference import Folded, FoldedFactors, InferenceModel
from danetc.runtime.layers.spike_conv import suits
from danetc.runtime.layers.time import affine
from danetc.runtime.model.built import Model


def fold(model: Model) -> InferenceModel:
    """A model that computes what ``model.eval()`` does, for inference alone.

    Norms are folded into the convolutions and linear layers before them where that is exact, also
    across an addition, and learnt factors of channels into the layers that read them; ``norms`` and
    ``factors`` of the result say what became of each. Weights have the names
    that they had, convolutions a ``bias`` where a norm went in. ``model`` is left as it is.
    Raises TypeError for what is no model of this compiler.
    """
    graph = model.topology
    if not isinstance(graph, Graph):
        raise TypeError("only a model that danetc built can be folded: this one has no topology")
    folding = plan_folding(graph)
    verify(folding.graph, "fold-norms")
    with torch.device("meta"):  # all weights come from ``model``
        result = InferenceEmitter(folding.graph).model()
    assert isinstance(result, InferenceModel)
    with torch.inference_mode(False):  # its weights may be changed where gradients are recorded
        result.load_state_dict(_weights(model, graph, folding, result), assign=True)
    result.requires_grad_(False)
    result.eval()
    result.spec = model.spec
    result.norms = Folded(
        *(_names(graph, ids) for ids in (folding.folded, folding.moved, folding.kept))
    )
    taken = (id for ids in folding.factors.into.values() for id in ids)
    result.factors = FoldedFactors(
        tuple(dict.fromkeys(_name(source_of(graph, graph[id])) for id in taken)),
        {_name(source_of(graph, graph[id])): why for id, why in folding.factors.kept.items()},
    )
    return result


class InferenceEmitter(FusedEmitter):
    """Fusion groups as one compiled kernel each; nothing that is there for a backward pass."""

    kind = InferenceModel

    def __init__(self, graph: Graph) -> None:
        summed = add_epilogues(plan_fusion(graph))
        super().__init__(graph, plan=summed.plan)
        self.sums = summed.sums

    def initialise(self) -> None:
        """Nothing: the modules have no memory yet."""

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        if call.target != "torch.nn.Conv2d":
            return call
        assert isinstance(call, TorchModule)
        kind = self.whole[node.inputs[0]].value.kind
        _, channels, *kernel = weights(self.whole, node)["weight"]
        if suits(kind, channels, prod(kernel)):
            kwargs = {**call.kwargs, "high": kind.high, "unit": kind.unit}
            return replace(
                call, target="danetc.runtime.layers.spike_conv.SpikeConv2d", kwargs=kwargs
            )
        return replace(call, target="danetc.runtime.layers.inference.InferenceConv2d")

    def neuron(self, group: FusionGroup, call: TorchModule | TorchFunction) -> nn.Module:
        assert isinstance(call, TorchModule)
        norms = [self.modules[id] if id is not None else None for id in group.norms]
        owned = next((i for i, id in enumerate(group.inputs) if self._owned(id)), None)
        added = group.neuron in self.sums
        program, steps, rank, *size = call.args
        return FusedNeuron(program, steps, rank, norms, size=size, owned=owned, added=added)  # type: ignore[arg-type]

    def _owned(self, id: int) -> bool:
        """Whether a value is made for one reader, in memory of its own: it may be written over."""
        alone = len(self.users[id]) == 1 and id not in self.graph.outputs.values()
        return OPS[self.graph[id].op].weighted and alone


@torch.no_grad()
def _weights(model: Model, graph: Graph, folding: Folding, target: nn.Module) -> dict[str, Tensor]:
    """The state of ``target``: copies of what ``model`` has, norms multiplied in.

    That is worked out in float64, and rounded once.
    """
    state = dict(model.state_dict())
    for id in dict.fromkeys((*folding.scalings, *folding.factors.into)):
        scalings, name = folding.scalings.get(id, ()), _name(graph[id])
        dtype = state[f"{name}.weight"].dtype
        weight, bias = (
            None if value is None else value.double()
            for value in (state[f"{name}.weight"], state.get(f"{name}.bias"))
        )
        assert weight is not None
        for source in folding.factors.into.get(id, ()):
            weight = _multiplied(weight, _factor(model, graph, source), graph[id])
        for scaling in scalings:
            factor, offset = _affine(model.get_submodule(_name(graph[scaling.norm])))
            weight = weight * factor.view(-1, *[1] * (weight.dim() - 1))
            bias = None if bias is None else bias * factor
            if scaling.shifts:
                bias = offset if bias is None else bias + offset
        state[f"{name}.weight"] = weight.to(dtype)
        if bias is not None:
            state[f"{name}.bias"] = bias.to(dtype)
    return {name: state[name].detach().clone() for name in target.state_dict()}


def _factor(model: Model, graph: Graph, id: int) -> Tensor:
    """Learnt numbers, [C] or [1], in float64."""
    node = graph[id]
    if node.op == "affine":
        return affine(
            _factor(model, graph, node.inputs[0]),
            number(node.attrs, "factor"),
            number(node.attrs, "offset"),
        )
    learnt = model.get_submodule(_name(node))
    value: Tensor = copy.deepcopy(learnt).double()()
    return value.flatten()


def _multiplied(weight: Tensor, factor: Tensor, layer: Node) -> Tensor:
    """Weights [out, in / groups, ...] times a factor of each channel of the layer's input; of a map
    that was flattened each channel has several entries in a row."""
    groups = layer.attrs.get("groups", 1)
    assert isinstance(groups, int)
    channels = weight.shape[1] * groups
    each = (
        factor.expand(channels)
        if len(factor) == 1
        else factor.repeat_interleave(channels // len(factor))
    )
    parts = weight.view(groups, -1, *weight.shape[1:])
    parts = parts * each.view(groups, 1, -1, *[1] * (weight.dim() - 2))
    return parts.view(weight.shape)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Factor and offset [C] of a norm in inference, in float64."""
    state = {name: value.double() for name, value in norm.state_dict().items()}
    factor = state["weight"] / torch.sqrt(state["running_var"] + norm.eps)
    return factor, state["bias"] - state["running_mean"] * factor


def _name(node: Node) -> str:
    """The qualified name of a node's module."""
    return dotted(*node.scope, node.name)


def _names(graph: Graph, ids: Iterable[int]) -> tuple[str, ...]:
    return tuple(_name(graph[id]) for id in ids)
