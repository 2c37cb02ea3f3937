"""Interface of the forms of operations in ONNX, and forms for several families."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from danetc.compiler.ir.graph import Shape, Value
from danetc.compiler.ir.ops.forms import pair
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.dsl.record import record

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"


class OnnxWriter(Protocol):
    """Writer of the operators of a node (``compiler.emit.onnx``)."""

    step: str
    """Number of the time step [1] if the network runs one step at a time; else empty."""

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str: ...
    def weight(self, name: str) -> str:
        """Return a stored tensor of the node."""

    def stored(self, name: str) -> Array:
        """Return a stored tensor of the node as an array."""

    def array(self, values: Any) -> str:
        """Return a constant of the network's type."""

    def applied(self, name: str, x: Array, *args: Any) -> Array:
        """Return the result of a function of ``runtime.layers`` for a constant."""

    def ints(self, *values: int) -> str:
        """Return an int64 constant."""

    def length(self) -> str:
        """Return T, [1]."""

    def as_steps(self, x: str, shape: Shape) -> str:
        """Return [T * N, ...] as [T, N, ...]; ``shape`` is that of a sample."""

    def as_batch(self, x: str, shape: Shape) -> str:
        """Return [T, N, ...] as [T * N, ...]."""

    def like(self, x: str, other: str) -> str:
        """Return ``x``, [1, ...] or [B, ...], with as many samples as ``other``."""

    def before(self, name: str, shape: Shape, steps: int) -> str:
        """Return the value that the previous step remembered, [N, ...] or [steps, N, ...]; 0 in the
        first step."""

    def remember(self, name: str, value: str) -> None:
        """Remember a value for the next step."""


@record
class Site:
    """Node of a form."""

    attrs: Attrs
    values: Values
    value: Value

    @property
    def rank(self) -> int:
        return len(self.value.shape)

    @property
    def shape(self) -> Shape:
        """Shape of a sample of the first operand."""
        return self.values[0].shape


Form: TypeAlias = Callable[[OnnxWriter, Site, Sequence[str]], str]  # ``row.OnnxForm``


def same(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Return the operand, for an operation without effect in inference."""
    return x[0]


def operator(name: str, **attributes: Any) -> Form:
    """Return the form of a single operator."""
    return lambda to, at, x: to.node(name, *x, **attributes)


def folded(name: str) -> Form:
    """Return the form of an operator of two operands, folded from the left."""
    return lambda to, at, x: reduce(lambda a, b: to.node(name, a, b), x)


def reshaped(to: OnnxWriter, x: str, *shape: int) -> str:
    """Return ``x`` as [B, ...]."""
    return to.node("Reshape", x, to.ints(0, *shape))


def over_time(name: str) -> Form:
    """Return the form of a reduction over time steps, which returns static values themselves."""

    def form(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
        if not at.values[0].varies or to.step:
            return x[0]
        return to.node(name, to.as_steps(x[0], at.shape), to.ints(0), keepdims=0)

    return form


def repeat(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Repeat [N, ...] T times."""
    if to.step or at.values[0].varies:
        return x[0]
    ones = to.ints(*[1] * at.rank)
    return to.node("Tile", x[0], to.node("Concat", to.length(), ones, axis=0))


def window(at: Site) -> dict[str, tuple[int, ...]]:
    """Return kernel, stride and padding of windows under their ONNX names."""
    return {
        "kernel_shape": pair(at.attrs, "kernel", 1),
        "strides": pair(at.attrs, "stride", 1),
        "pads": 2 * pair(at.attrs, "padding", 0),
    }
