"""Construction and initialization of modules, as in torchvision's ResNet.

Weights of convolutions are He-normal (He et al. 2015) with mode ``fan_out``. Norms have the initial
weight of their node and bias 0; linear layers and biases of convolutions are initialized as in
torch. With ``init`` in the spec, weights are initialized accordingly and biases are 0. Each layer
has its own generator, so the global random state does not change and layers run in parallel. Learnable
parameters with a random start have one for each, whose seed follows from that of the model and the
path of the parameter: they do not depend on other layers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS, TorchModule
from danetc.compiler.ir.ops.user import require_allowed
from danetc.dsl.first_weights import read
from danetc.dsl.neuron.kernel_text import parameter_names
from danetc.runtime.kernels.torch_internals import has_modes, is_fake
from danetc.runtime.layers.time import Learnt, drawn_numbers
from danetc.runtime.layers.weight_layer import Mask
from danetc.runtime.system.user_code import UserCodeError, found_at, where_it_failed


def construct(module: TorchModule, create: Callable[..., Any], seed: int) -> nn.Module:
    """Construct the module of a node.

    Weights of convolutions and linear layers are left empty for ``initialise``. Other modules draw
    theirs from ``seed``.
    """
    made: nn.Module
    # under a mode such as FakeTensorMode, parameters cannot be moved
    known = (
        not has_modes()
        and isinstance(create, type)
        and issubclass(create, (nn.Conv1d, nn.Conv2d, nn.Linear))
    )
    if known:
        with torch.device("meta"):
            made = create(*module.args, **module.kwargs)
        if next(made.buffers(), None) is None:  # to_empty would discard their values
            return made.to_empty(device=torch.get_default_device())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        made = create(*module.args, **module.kwargs)
    return made


def user_module(place: str, shape: str, spikes: bool, /, **arguments: Any) -> nn.Module:
    """Return a module of the class ``FILE.py:NAME``, made with these arguments.

    It takes frames [B, ...] and must return [B, *shape] (``8x4x4``), which is 0 or 1 for ``spikes``.
    Raises UserError if its code is not allowed, is missing or fails, and if it returns something else.
    """
    require_allowed(place)
    create = found_at(place)
    if not (isinstance(create, type) and issubclass(create, nn.Module)):
        raise UserCodeError(f"{place} is not a class derived from torch.nn.Module")
    try:
        made = create(**arguments)
    except Exception as error:
        raise UserCodeError(f"{place}: {where_it_failed(error)}") from error

    checked = False

    def check(module: nn.Module, given: Any, found: Any) -> None:
        nonlocal checked
        if torch.compiler.is_compiling() or isinstance(found, torch.fx.Proxy):
            return
        real = isinstance(found, torch.Tensor) and found.is_floating_point()
        declared = [given[0].shape[0], *map(int, shape.split("x"))]
        if not real or [*found.shape] != declared:
            what = f"real numbers {[*found.shape]}" if real else f"a {type(found).__name__}"
            raise UserCodeError(f"{place} returns {what}, but the spec declares {declared}")
        # Reading values waits for an accelerator, so there only the first call is checked.
        if spikes and not is_fake(found) and (found.device.type == "cpu" or not checked):
            checked = True
            if not ((found == 0) | (found == 1)).all():
                raise UserCodeError(
                    f"{place} returns other numbers than 0 and 1, but the spec says `gives = spikes`"
                )

    made.register_forward_hook(check)
    return made


def initialise(graph: Graph, modules: Mapping[int, nn.Module], seed: int) -> None:
    """Draw the initial values of all parameters from ``seed``, in the order of the spec.

    Meta tensors and fake tensors are skipped. Products of values have no seed of their own, because
    passes change their number.
    """
    once = (id for id in modules if id not in graph.shares)
    rows = {id: OPS[graph[id].op] for id in once}
    ids = sorted(id for id, row in rows.items() if row.products is None and not row.opaque)
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randint(2**62, (len(ids),), generator=source, device="cpu")
    seeds = range(len(ids)) if is_fake(drawn) else drawn.tolist()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # drawing releases the GIL
        list(pool.map(_first_values, (modules[id] for id in ids), (graph[id] for id in ids), seeds))
    for id in ids:
        _draw_learnables(graph, graph[id], modules[id], seed)


def seed_of(seed: int, path: str) -> int:
    """Return the seed of what is drawn for a path alone, whatever else the model draws."""
    digest = sha256(f"{seed} {path}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**63


@torch.no_grad()
def _draw_learnables(graph: Graph, node: Node, module: nn.Module, seed: int) -> None:
    """Draw masks, and the learnables with a random start, each from ``seed`` and its own path alone."""
    found: dict[str, tuple[str, float | None, float | None]] = {}
    if isinstance(module, Mask) and not is_fake(module.get_buffer("mask")):
        module.draw(torch.Generator().manual_seed(seed_of(seed, f"{node.path}.mask")))
    if node.op == "neuron":
        program = graph.program(node)
        for name, item in zip(parameter_names(program), program.learnables, strict=True):
            if item.random is not None:
                found[name] = item.random.text, item.above, item.below
    elif isinstance(module, Learnt) and isinstance(law := node.attrs["init"], str):
        found[module.name] = law, module.above, module.below
    for name, of in found.items():
        parameter = module.get_parameter(name)
        if not (parameter.is_meta or is_fake(parameter)):
            source = torch.Generator().manual_seed(seed_of(seed, f"{node.path}.{name}"))
            parameter.copy_(drawn_numbers(parameter.shape, *of, source))


@torch.no_grad()
def _first_values(module: nn.Module, node: Node, seed: int) -> None:
    if any(parameter.is_meta or is_fake(parameter) for parameter in module.parameters()):
        return
    match module:
        case Learnt():
            pass
        case _ if isinstance(node.attrs.get("init"), str):
            row, numbers = read(str(node.attrs["init"]))
            weight = module.get_parameter("weight")
            drawn = {"generator": _generator(weight, seed)} if row.random else {}
            getattr(nn.init, row.torch)(weight, **row.kwargs(**numbers), **drawn)
            for name, parameter in module.named_parameters():
                if name == "bias":
                    parameter.zero_()
        case nn.Conv1d(weight=weight) | nn.Conv2d(weight=weight) | nn.Linear(weight=weight):
            source = _generator(weight, seed)
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=source)
            else:
                nn.init.kaiming_normal_(weight, 0, "fan_out", "relu", generator=source)
            if module.bias is not None:
                bound = 1 / math.sqrt(weight[0].numel())  # 1 / sqrt(fan_in), as in torch
                nn.init.uniform_(module.bias, -bound, bound, generator=source)
        case _ if OPS[node.op].norm is not None:
            module.get_parameter("weight").fill_(float(node.attrs["init"] or 0.0))


def _generator(weight: torch.Tensor, seed: int) -> torch.Generator:
    return torch.Generator(weight.device).manual_seed(seed)
