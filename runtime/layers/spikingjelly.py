"""Neurons of SpikingJelly 2 in place of equal ones of ours.

SpikingJelly chooses its kernel by device: CUDA or Triton on a GPU, operations of torch on a CPU and in float64. Its
functions take and return the membrane potential, so nothing has to be reset between two passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from danetc.dsl.neuron.reading import read_program
from danetc.dsl.neuron.spikingjelly import match_neuron
from danetc.runtime.kernels.composed_operators import per_step
from danetc.runtime.kernels.neuron import HALF
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.neuron import Neuron

MISSING = (
    "the backend `spikingjelly` needs SpikingJelly 2, which is not installed: "
    "pip install 'danetc[spikingjelly]'"
)


def require() -> None:
    """Raise ImportError if SpikingJelly 2 cannot be imported."""
    try:
        from spikingjelly.activation_based.functional import if_multi_step  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{MISSING} ({error})", name="spikingjelly") from error


class SpikingJellyNeuron(Leaf, Neuron):
    """A layer of SpikingJelly's IF, LIF or PLIF neurons, with the interface of ``Neuron``.

    The membrane potential is reset in every call; it is float32 if the input is of half precision. Streaming uses our
    own neurons. Raises ValueError for a program without an equal in SpikingJelly.
    """

    def __init__(self, program: str, steps: int, rank: int) -> None:
        super().__init__(program, steps, rank)
        found = match_neuron(read_program(program))
        if found is None:
            raise ValueError("SpikingJelly has no neuron with these equations")
        require()
        from spikingjelly.activation_based import functional, surrogate

        self._match, settings = found, found.settings()
        settings.pop("init_tau", None)  # PLIF's parameter is given
        settings["surrogate_function"] = getattr(surrogate, found.surrogate)(**dict(found.shape))
        run = getattr(functional, f"{found.neuron.lower()}_multi_step")
        self._run: Callable[..., tuple[Tensor, ...]] = partial(run, **settings)

    def forward(self, x: Tensor) -> Tensor:
        x = per_step(x, self.steps, self.rank)
        dtype = torch.float32 if x.dtype in HALF else x.dtype
        start = torch.full_like(x[0], self._match.v_reset or 0.0, dtype=dtype)
        out: Tensor = self._run(x, start, *self.params())[0]
        return out

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, spikingjelly={self._match.neuron}"
