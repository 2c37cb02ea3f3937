"""Networks with new weights whose outputs vary over samples, so that a comparison is meaningful."""

import torch

from danetc.compiler.ir.graph import Graph
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from danetc.tasks.exporting import BATCH, VARIED, inputs_of, outputs_of_all


@torch.no_grad()
def make_vary(model: Model, graph: Graph, samples: int = BATCH) -> None:
    """Warm norms and enlarge weights until the outputs vary twice as much as required.

    Only weights of norms and linear layers, and biases, are changed, in up to five attempts.
    """
    generator = torch.Generator().manual_seed(0)
    for attempt in range(5):
        for parameter in model.parameters():
            if attempt and parameter.dim() == 1:
                parameter.add_(0.4 * torch.rand(parameter.shape, generator=generator))
            elif attempt and parameter.dim() == 2:
                parameter.mul_(2.0)
        for seed in range(3):
            model.train()(*inputs_of(graph, samples, 1000 + seed))
        model.eval()
        outputs = outputs_of_all(
            graph, lambda *x: outputs_of(model(*x)), [inputs_of(graph, samples, 0)]
        )
        if max(float(y.std(0).mean()) for y in outputs) >= 2 * VARIED:
            return
