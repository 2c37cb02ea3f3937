"""What forms are, and those of operations of every family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from danetc.compiler.ir.graph import Shape, Value
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import Context, whole
from danetc.dsl.record import record

if TYPE_CHECKING:
    import numpy as np
else:

    class _Numpy:
        """numpy, imported when a form first needs it: checking a spec does without."""

        def __getattr__(self, name: str) -> Any:
            import numpy

            return getattr(numpy, name)

    np = _Numpy()


class OnnxWriter(Protocol):
    """Where the operators of one node go (``compiler.emit.onnx``)."""

    step: str
    """The number of the time step [1], where the network runs one step at a time; else empty."""
    half: bool
    """Numbers are float16."""

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str: ...
    def weight(self, name: str) -> str:
        """What the node has stored under a name."""

    def stored(self, name: str) -> np.ndarray[Any, Any]:
        """The same as an array."""

    def array(self, values: Any) -> str:
        """A constant of the network's type of numbers."""

    def ints(self, *values: int) -> str:
        """A constant of whole numbers, int64."""

    def length(self) -> str:
        """T, [1]."""

    def as_steps(self, x: str, shape: Shape) -> str:
        """[T * N, ...] as [T, N, ...]; ``shape`` is that of a sample."""

    def as_batch(self, x: str, shape: Shape) -> str:
        """The other way round."""

    def like(self, x: str, other: str) -> str:
        """``x`` [1, ...] or [B, ...] with as many samples as ``other``."""

    def before(self, name: str, shape: Shape, steps: int) -> str:
        """What the step before has remembered: [N, ...], or [steps, N, ...] of more steps than one.
        At the start it is 0."""

    def remember(self, name: str, value: str) -> None:
        """Remember a value for the next step."""


@record
class Site:
    """What a form knows of its node."""

    attrs: Attrs
    values: Values
    value: Value
    context: Context

    @property
    def rank(self) -> int:
        return len(self.value.shape)

    @property
    def shape(self) -> Shape:
        """That of a sample of the first operand."""
        return self.values[0].shape


Form: TypeAlias = Callable[[OnnxWriter, Site, Sequence[str]], str]  # ``row.OnnxForm``


def same(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """What it takes: an operation that does nothing in inference."""
    return x[0]


def operator(name: str, **attributes: Any) -> Form:
    """One operator of the operand."""
    return lambda to, at, x: to.node(name, *x, **attributes)


def folded(name: str) -> Form:
    """An operator of two operands, from the left."""
    return lambda to, at, x: reduce(lambda a, b: to.node(name, a, b), x)


def reshaped(to: OnnxWriter, x: str, *shape: int) -> str:
    """``x`` as [B, ...]."""
    return to.node("Reshape", x, to.ints(0, *shape))


def over_steps(to: OnnxWriter, at: Site, x: str, name: str) -> str:
    """[T, N, ...] reduced to [N, ...]."""
    return to.node(name, to.as_steps(x, at.shape), to.ints(0), keepdims=0)


def over_time(name: str) -> Form:
    """A reduction over the time steps; of what does not vary, and of one step, the value itself."""

    def form(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
        if not at.values[0].varies or to.step:
            return x[0]
        return over_steps(to, at, x[0], name)

    return form


def repeat(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """[N, ...] T times."""
    if to.step or at.values[0].varies:
        return x[0]
    ones = to.ints(*[1] * at.rank)
    return to.node("Tile", x[0], to.node("Concat", to.length(), ones, axis=0))


def pair(at: Site, name: str, other: int) -> list[int]:
    """An attribute of rows and of columns; of a layer over one axis ``other`` for the other axis."""
    one = whole(at.attrs, name) if name in at.attrs else other
    match at.attrs.get("axis"):
        case "rows":
            return [one, other]
        case "columns":
            return [other, one]
    return [one, one]


def window(at: Site) -> dict[str, list[int]]:
    """Kernel, stride and padding of windows, as ONNX calls them."""
    return {
        "kernel_shape": pair(at, "kernel", 1),
        "strides": pair(at, "stride", 1),
        "pads": 2 * pair(at, "padding", 0),
    }
