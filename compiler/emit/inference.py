"""Folding of a trained model for inference: norms go into convolutions."""

from __future__ import annotations

import copy
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler.analysis.verify import verify
from danetc.compiler.emit.fx import FusedEmitter
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.at_node import weights
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS, TorchFunction, TorchModule
from danetc.compiler.ir.ops.kinds import number
from danetc.compiler.ir.ops.user import user_layers
from danetc.compiler.passes.fold import Folding, plan_folding, source_of
from danetc.compiler.passes.fusion_groups import FusionGroup, add_epilogues, plan_fusion
from danetc.runtime.layers.inference import Folded, FoldedFactors, InferenceModel, suits
from danetc.runtime.layers.time import affine
from danetc.runtime.layers.weight_layer import computed_state
from danetc.runtime.model.built import Model


def fold(model: Model) -> InferenceModel:
    """Return a model for inference that computes the same as ``model.eval()``.

    Norms are folded into the convolutions and linear layers before them where that is exact, also
    across an addition; learnt factors of channels are folded into the layers that read them.
    ``norms`` and ``factors`` of the result list both. Weights keep their names, and convolutions
    with a folded norm have a ``bias``. ``model`` does not change. Raises TypeError if danetc did
    not build it.
    """
    graph = model.topology
    if not isinstance(graph, Graph):
        raise TypeError("only a model that danetc built can be folded: this one has no topology")
    graph = graph.with_plain_weights()
    folding = plan_folding(graph)
    verify(folding.graph, "fold-norms")
    with torch.device("meta"):  # weights come from ``model``
        result = InferenceEmitter(folding.graph).model()
    assert isinstance(result, InferenceModel)
    for node in user_layers(graph):  # which may have state that is no weight
        layer = copy.deepcopy(model.get_submodule(_name(node)))
        result.set_submodule(_name(node), layer)
    with torch.inference_mode(False):  # its weights may be changed in training
        result.load_state_dict(_weights(model, graph, folding, result), assign=True)
    result.requires_grad_(False)
    result.eval()
    result.backend, result.directory = "fused", model.directory
    norms = folding.folded, folding.moved, folding.kept
    result.norms = Folded(*(tuple(_name(graph[id]) for id in ids) for ids in norms))
    taken = (id for ids in folding.factors.into.values() for id in ids)
    result.factors = FoldedFactors(
        tuple(dict.fromkeys(_name(source_of(graph, graph[id])) for id in taken)),
        {_name(source_of(graph, graph[id])): why for id, why in folding.factors.kept.items()},
    )
    return result


class InferenceEmitter(FusedEmitter):
    """Each fusion group is one compiled kernel. Nothing is saved for a backward pass."""

    kind = InferenceModel

    def __init__(self, graph: Graph) -> None:
        plan = add_epilogues(plan_fusion(graph))
        super().__init__(graph, plan=plan)
        self.sums = plan.sums

    def initialise(self) -> None:
        """Modules on the device ``meta`` have no weights."""

    def layer(self, node: Node, call: TorchModule | TorchFunction) -> TorchModule | TorchFunction:
        if call.target != "torch.nn.Conv2d":
            return call
        assert isinstance(call, TorchModule)
        kind = self.whole[node.inputs[0]].value.kind
        _, channels, *kernel = weights(self.whole, node)["weight"]
        if suits(kind, channels, prod(kernel)):
            kwargs = {**call.kwargs, "high": kind.high, "unit": kind.unit}
            target = "danetc.runtime.layers.inference.SpikeConv2d"
            return replace(call, target=target, kwargs=kwargs)
        return replace(call, target="danetc.runtime.layers.inference.InferenceConv2d")

    def options(self, group: FusionGroup) -> dict[str, Any]:
        owned = next((i for i, id in enumerate(group.inputs) if self._owned(id)), None)
        return {"owned": owned, "added": group.neuron in self.sums}

    def _owned(self, id: int) -> bool:
        """True if a value has one reader and its own memory, which may be overwritten."""
        alone = len(self.users[id]) == 1 and id not in self.graph.outputs.values()
        return OPS[self.graph[id].op].weighted and alone


@torch.no_grad()
def _weights(model: Model, graph: Graph, folding: Folding, target: nn.Module) -> dict[str, Tensor]:
    """The state of ``target``: copies of the state of ``model``, multiplied by norms in float64."""
    state = computed_state(model)
    for id in dict.fromkeys((*folding.scalings, *folding.factors.into)):
        name = _name(graph[id])
        dtype = state[f"{name}.weight"].dtype
        weight = state[f"{name}.weight"].double()
        bias = state.get(f"{name}.bias")
        bias = None if bias is None else bias.double()
        for source in folding.factors.into.get(id, ()):
            weight = _multiplied(weight, _factor(model, graph, source), graph[id])
        for scaling in folding.scalings.get(id, ()):
            norm = model.get_submodule(_name(graph[scaling.norm]))
            stats = {key: value.double() for key, value in norm.state_dict().items()}
            factor = stats["weight"] / torch.sqrt(stats["running_var"] + norm.eps)
            weight = weight * factor.view(-1, *[1] * (weight.dim() - 1))
            bias = None if bias is None else bias * factor
            if scaling.shifts:
                offset = stats["bias"] - stats["running_mean"] * factor
                bias = offset if bias is None else bias + offset
        state[f"{name}.weight"] = weight.to(dtype)
        if bias is not None:
            state[f"{name}.bias"] = bias.to(dtype)
    return {name: state[name].detach().clone() for name in target.state_dict()}


def _factor(model: Model, graph: Graph, id: int) -> Tensor:
    """Learnt numbers, [C] or [1], in float64."""
    node = graph[id]
    if node.op == "affine":
        inner = _factor(model, graph, node.inputs[0])
        return affine(inner, number(node.attrs, "factor"), number(node.attrs, "offset"))
    value: Tensor = copy.deepcopy(model.get_submodule(_name(node))).double()()
    return value.flatten()


def _multiplied(weight: Tensor, factor: Tensor, layer: Node) -> Tensor:
    """Multiply weights [out, in / groups, ...] by a factor for each input channel.

    A flattened map has several entries for each channel.
    """
    groups = layer.attrs.get("groups", 1)
    assert isinstance(groups, int)
    channels = weight.shape[1] * groups
    if len(factor) > 1:
        factor = factor.repeat_interleave(channels // len(factor))
    slices = weight.view(groups, -1, *weight.shape[1:])
    each = factor.expand(channels).view(groups, 1, -1, *[1] * (weight.dim() - 2))
    return (slices * each).view(weight.shape)


def _name(node: Node) -> str:
    """Qualified name of the module of a node."""
    return dotted(*node.scope, node.name)
