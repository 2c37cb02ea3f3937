"""Convolution, pooling and products that keep less for the backward pass, of the fused backend.

Where torch.compile or torch.export take the whole model, where no gradients are wanted, or where
nothing would be kept, they are their parents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.torch_internals import is_traced
from danetc.runtime.layers import pointwise, small_maps, sparse
from danetc.runtime.layers.first_order import refuse_second_order
from danetc.runtime.layers.layouts import is_dense_last, is_last
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.model.stepping import is_step_under_way


class _Conv(torch.autograd.Function):
    """A convolution that keeps its input in bits, and computes in the dtype of its input: what it makes
    of its weights for that is made again in the backward pass, and not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: Any) -> Tensor:
        kind, *options = options
        ctx.options = options
        ctx.kept = kept = SavedTensor(x, kind)
        ctx.has_bias = bias is not None
        # Torch's own keeps the input even of a frozen layer.
        ctx.save_for_backward(kept.save(x) if ctx.needs_input_grad[1] else None, weight)
        stride, padding, dilation, groups = options
        ctx.is_product = pointwise.is_product(x, weight, stride, padding, groups)
        ctx.last = ctx.is_product and is_dense_last(x)
        weight = _in(weight, x.dtype)
        if ctx.is_product:
            return pointwise.convolved(x, weight, bias)
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(grads[0])
        stride, padding, dilation, groups = ctx.options
        packed, whole = ctx.saved_tensors
        weight = _in(whole, ctx.kept.dtype)
        if packed is None:
            x = weight.new_empty(1).expand(ctx.kept.shape)  # of which the shape alone counts
        else:
            x = ctx.kept.restore(packed)
        (grad,) = grads
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        dx = dw = db = None
        if ctx.is_product:
            if of_x:
                dx, of_x = pointwise.input_gradient(grad, weight, ctx.last), False
            if of_weight and pointwise.is_gradient_product(x, weight):
                dw, of_weight = pointwise.weight_gradient(x, grad, weight), False
        if of_x and small_maps.is_input_gradient_faster(grad, weight, groups):
            window = small_maps.Window.of(weight, stride, padding, dilation)
            dx, of_x = small_maps.input_gradient(x.shape, grad, weight, window), False
        if of_weight and small_maps.is_gradient_faster(grad, weight, groups):
            window = small_maps.Window.of(weight, stride, padding, dilation)
            dw, of_weight = small_maps.weight_gradient(x, grad, weight, window), False
        if of_x or of_weight or of_bias:
            by_torch = torch.ops.aten.convolution_backward.default(
                grad, x, weight, [weight.shape[0]] if ctx.has_bias else None, stride, padding,
                dilation, False, (0, 0), groups, (of_x, of_weight, of_bias),
            )  # fmt: skip
            own = zip((dx, dw, db), by_torch, strict=True)
            dx, dw, db = [theirs if mine is None else mine for mine, theirs in own]
        return dx, None if dw is None else _in(dw, whole.dtype), db, None


def _in(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype is dtype else x.to(dtype)  # (to ask costs less than not to convert)


class PackedConv2d(Leaf, nn.Conv2d):
    """A convolution of spikes or counts, ``low`` to ``high`` times ``unit``: for its weights'
    gradient it keeps them in bits."""

    def __init__(self, *args: Any, low: int, high: int, unit: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = Kind(low, high, unit)

    def forward(self, x: Tensor) -> Tensor:
        # (Read once: a parametrization such as spectral norm may change with each reading.)
        if is_traced():
            return super().forward(x)
        weight = self._wanted(x)
        if weight is None:
            return self._without_gradient(x)
        bias = self.bias
        dtype = autocast_dtype(x)
        if dtype is not None:
            x, bias = x.to(dtype), None if bias is None else bias.to(dtype)
        options = (self.kind, self.stride, self.padding, self.dilation, self.groups)
        out: Tensor = _Conv.apply(x, weight, bias, options)
        return out

    def _wanted(self, x: Tensor) -> Tensor | None:
        """The weight, where a gradient is wanted."""
        if not torch.is_grad_enabled():
            return None
        if not (x.requires_grad or any(p.requires_grad for p in self.parameters())):
            return None
        return self.weight

    def _without_gradient(self, x: Tensor) -> Tensor:
        weight = self._parameters.get("weight")
        if weight is None:
            return super().forward(x)
        by_spike = sparse.convolved(self, x) if is_step_under_way() else None
        if by_spike is not None:
            return by_spike
        if pointwise.is_product(x, weight, self.stride, self.padding, self.groups):
            return pointwise.convolved(x, weight, self.bias)
        return super().forward(x)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """What autocast, where it is on, hands to a convolution in place of ``x``'s dtype. What is kept
    in bits is exact in it."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):
        return None
    if not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return None
    return torch.get_autocast_dtype(device)


VECTOR = 16
"""From how many channels on a CPU pools several at once, where they come last."""


class _MaxPool(torch.autograd.Function):
    """Max pooling that keeps for each maximum its distance from the corner of the window, in one
    byte or two, in place of its place in the map as an int64."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: Any) -> Tensor:
        kernel, stride, padding = options
        out, places = F.max_pool2d(as_pooled(x), kernel, stride, padding, return_indices=True)
        places -= _corners(places, x.shape[-1], stride, padding)
        ctx.options, ctx.shape, ctx.last = options, x.shape, is_last(x)
        farthest = (kernel - 1) * (x.shape[-1] + 1)
        distances = places.to(torch.uint8 if farthest < 2**8 else torch.int16)
        ctx.save_for_backward(distances if ctx.last else distances.contiguous())
        return out if ctx.last else out.contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kernel, stride, padding = ctx.options
        (distances,) = ctx.saved_tensors
        places = distances.to(torch.int64)
        places += _corners(places, ctx.shape[-1], stride, padding)
        dx = torch.ops.aten.max_pool2d_with_indices_backward(
            grads[0], _like_input(ctx, grads[0]), [kernel] * 2, [stride] * 2, [padding] * 2, [1, 1],
            False, places,
        )  # fmt: skip
        return dx, None


def as_pooled(x: Tensor) -> Tensor:
    """``x`` as a CPU finds maxima sooner, which with channels last takes a ninth of the time: to lay it out
    so and the result back takes as long as to find them, three times."""
    is_sooner = x.is_cpu and x.dim() == 4 and x.shape[1] >= VECTOR
    return x.contiguous(memory_format=torch.channels_last) if is_sooner else x


def _corners(places: Tensor, rows: int, stride: int, padding: int) -> Tensor:
    """Where the window of each output [H, W] begins, as an index into a map with ``rows``
    columns; it may lie outside."""
    height, width = places.shape[-2:]
    y = torch.arange(height, device=places.device).unsqueeze(1) * stride - padding
    x = torch.arange(width, device=places.device) * stride - padding
    return y * rows + x


def _window(pool: nn.MaxPool2d | nn.AvgPool2d, x: Tensor) -> tuple[int, int, int] | None:
    """Kernel, stride and padding of a pooling that saves for its backward pass in a way of its own."""
    saves = torch.is_grad_enabled() and x.requires_grad and not is_traced()
    match pool.kernel_size, pool.stride, pool.padding:
        case int(kernel), int(stride), int(padding) if saves:
            return kernel, stride, padding
    return None


class PackedMaxPool2d(Leaf, nn.MaxPool2d):
    """Max pooling that keeps a byte or two for each output, whatever the kind of its input."""

    def forward(self, x: Tensor) -> Tensor:
        window = _window(self, x)
        if window is not None and (window[0] - 1) * (x.shape[-1] + 1) < 2**15:
            out: Tensor = _MaxPool.apply(x, window)
            return out
        if is_traced():
            return super().forward(x)  # type: ignore[no-any-return]
        laid_out = as_pooled(x)
        plain: Tensor = super().forward(laid_out)
        return plain if laid_out is x else plain.contiguous()


class _AvgPool(torch.autograd.Function):
    """Average pooling that keeps the shape and the layout of its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: Any) -> Tensor:
        ctx.options, ctx.shape, ctx.last = options, x.shape, is_last(x)
        return F.avg_pool2d(x, *options)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kernel, stride, padding = ctx.options
        dx = torch.ops.aten.avg_pool2d_backward(
            grads[0], _like_input(ctx, grads[0]), [kernel] * 2, [stride] * 2, [padding] * 2, False,
            True, None,
        )  # fmt: skip
        return dx, None


def _like_input(ctx: Any, grad: Tensor) -> Tensor:
    """Of a pooling's input what its backward pass reads: shape and layout."""
    layout = torch.channels_last if ctx.last else torch.contiguous_format
    return torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=layout)


class PackedAvgPool2d(Leaf, nn.AvgPool2d):
    """Average pooling that keeps nothing, where torch's own keeps its input for its shape."""

    def forward(self, x: Tensor) -> Tensor:
        window = _window(self, x)
        out: Tensor = super().forward(x) if window is None else _AvgPool.apply(x, window)
        return out


class _Product(torch.autograd.Function):
    """A product that keeps whole-numbered factors in bits."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, kinds: tuple[Kind, Kind]) -> Tensor:
        ctx.kept = SavedTensor(a, kinds[0]), SavedTensor(b, kinds[1])
        # Each is kept for the other's gradient.
        wanted = ctx.needs_input_grad[1], ctx.needs_input_grad[0]
        ctx.save_for_backward(
            *(k.save(x) if w else None for k, x, w in zip(ctx.kept, (a, b), wanted, strict=True))
        )
        return a * b

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(grads[0])
        a, b = (
            None if x is None else kept.restore(x)
            for kept, x in zip(ctx.kept, ctx.saved_tensors, strict=True)
        )
        (grad,) = grads
        return None if b is None else grad * b, None if a is None else grad * a, None


def product(a: Tensor, b: Tensor, *kinds: float) -> Tensor:
    """a * b of equal shapes, kept in bits where their kinds are, of which ``kinds`` has the three
    numbers each."""
    plain = is_traced() or not torch.is_grad_enabled()
    if plain or isinstance(a, fx.Proxy) or isinstance(b, fx.Proxy) or a.dtype != b.dtype:
        return a * b
    out: Tensor = _Product.apply(a, b, (_kind(*kinds[:3]), _kind(*kinds[3:])))
    return out


def _kind(low: float, high: float, unit: float) -> Kind:
    return Kind(int(low), int(high), unit)
