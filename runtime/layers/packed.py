"""Convolutions, poolings and products that save less for the backward pass.

Integers are saved in bits, and pooling saves less than in torch. If torch traces the model, or if no gradient is
needed, they behave like their base classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.torch_internals import has_values, is_traced
from danetc.runtime.layers import pointwise, small_maps, sparse
from danetc.runtime.layers.laid_out import is_laid_out
from danetc.runtime.layers.layouts import is_last, layout_of
from danetc.runtime.layers.leaf import Leaf, refuse_second_order
from danetc.runtime.model.stepping import is_step_under_way


class _Conv(torch.autograd.Function):
    """A convolution that saves its input packed and computes in the dtype of its input. Weights are converted again in
    the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: Any) -> Tensor:
        kind, *ctx.options = options
        ctx.saved = saved = SavedTensor(x, kind)
        ctx.has_bias = bias is not None
        # (F.conv2d saves the input even if the weight needs no gradient.)
        ctx.save_for_backward(saved.save(x) if ctx.needs_input_grad[1] else None, weight)
        stride, padding, dilation, groups = ctx.options
        ctx.is_product = pointwise.is_product(x, weight, stride, padding, groups)
        ctx.last = ctx.is_product and layout_of(x).is_last
        weight = _in(weight, x.dtype)
        if ctx.is_product:
            return pointwise.convolved(x, weight, bias)
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(grads[0])
        stride, padding, dilation, groups = ctx.options
        packed, whole = ctx.saved_tensors
        weight = _in(whole, ctx.saved.dtype)
        if packed is None:
            x = weight.new_empty(1).expand(ctx.saved.shape)  # only its shape counts
        else:
            x = ctx.saved.restore(packed)
        (grad,) = grads
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        dx = dw = db = None
        if ctx.is_product:
            if of_x:
                dx, of_x = pointwise.input_gradient(grad, weight, ctx.last), False
            if of_weight and pointwise.is_gradient_product(x, weight):
                dw, of_weight = pointwise.weight_gradient(x, grad, weight), False
        window = small_maps.Window.of(weight, stride, padding, dilation)
        if of_x and small_maps.is_input_gradient_faster(grad, weight, groups):
            dx, of_x = small_maps.input_gradient(x.shape, grad, weight, window), False
        if of_weight and small_maps.is_gradient_faster(grad, weight, groups):
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
    return x if x.dtype is dtype else x.to(dtype)  # (cheaper than a conversion that does nothing)


class PackedConv2d(Leaf, nn.Conv2d):
    """A convolution of spikes or counts, ``low`` to ``high`` times ``unit``, which it saves packed."""

    def __init__(self, *args: Any, low: int, high: int, unit: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = Kind(low, high, unit)

    def forward(self, x: Tensor) -> Tensor:
        # Read the weight once: a parametrization such as spectral norm may change with each access.
        if is_traced():
            return super().forward(x)
        if not torch.is_grad_enabled() or not (
            x.requires_grad or any(p.requires_grad for p in self.parameters())
        ):
            return self._without_gradient(x)
        weight, bias, dtype = self.weight, self.bias, autocast_dtype(x)
        if dtype is not None:
            x, bias = x.to(dtype), None if bias is None else bias.to(dtype)
        options = (self.kind, self.stride, self.padding, self.dilation, self.groups)
        out: Tensor = _Conv.apply(x, weight, bias, options)
        return out

    def _without_gradient(self, x: Tensor) -> Tensor:
        weight = self._parameters.get("weight")
        if weight is None:
            return super().forward(x)
        if is_step_under_way() and has_values(x) and is_laid_out(x, self):
            by_spike = sparse.convolved(self, x)
            if by_spike is not None:
                return by_spike
        if pointwise.is_product(x, weight, self.stride, self.padding, self.groups):
            return pointwise.convolved(x, weight, self.bias)
        return super().forward(x)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the dtype that autocast converts ``x`` to for a convolution, or None. Packed values are exact in it."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):
        return None
    if not torch.is_autocast_enabled(device) or x.dtype == torch.float64:
        return None
    return torch.get_autocast_dtype(device)


class _MaxPool(torch.autograd.Function):
    """Max pooling that saves the distance of each maximum from the corner of its window in one or two bytes, in place
    of an int64 index."""

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
    """Convert ``x`` to the layout in which a CPU finds maxima faster: with channels last, of which it takes 16 at once,
    in a ninth of the time, while the conversions take three times as long as that."""
    is_sooner = x.is_cpu and x.dim() == 4 and x.shape[1] >= 16
    return x.contiguous(memory_format=torch.channels_last) if is_sooner else x


def _corners(places: Tensor, rows: int, stride: int, padding: int) -> Tensor:
    """The first index of the window of each output [H, W] in a map with ``rows`` columns; it may lie outside."""
    height, width = places.shape[-2:]
    y = torch.arange(height, device=places.device).unsqueeze(1) * stride - padding
    x = torch.arange(width, device=places.device) * stride - padding
    return y * rows + x


def _window(pool: nn.MaxPool2d | nn.AvgPool2d, x: Tensor) -> tuple[int, int, int] | None:
    """Kernel, stride and padding of a pooling, if it saves for backward in its own way."""
    saves = torch.is_grad_enabled() and x.requires_grad and not is_traced()
    match pool.kernel_size, pool.stride, pool.padding:
        case int(kernel), int(stride), int(padding) if saves:
            return kernel, stride, padding
    return None


class PackedMaxPool2d(Leaf, nn.MaxPool2d):
    """Max pooling that saves one or two bytes per output."""

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
    """Average pooling that saves only the shape and layout of its input."""

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
    """A tensor with the shape and layout of a pooling's input."""
    layout = torch.channels_last if ctx.last else torch.contiguous_format
    return torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=layout)


class PackedAvgPool2d(Leaf, nn.AvgPool2d):
    """Average pooling that does not save the input, of which torch only needs the shape."""

    def forward(self, x: Tensor) -> Tensor:
        window = _window(self, x)
        out: Tensor = super().forward(x) if window is None else _AvgPool.apply(x, window)
        return out


class _Product(torch.autograd.Function):
    """Product that saves its factors packed and is computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, run: Product, kinds: Sequence[Kind], *factors: Tensor) -> Tensor:
        ctx.run = run
        ctx.saved = [SavedTensor(x, kind) for x, kind in zip(factors, kinds, strict=True)]
        ctx.save_for_backward(*(s.save(x) for s, x in zip(ctx.saved, factors, strict=True)))
        return run(*factors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(grads[0])
        needs = ctx.needs_input_grad[2:]
        factors = [
            saved.restore(x).detach().requires_grad_(need)
            for saved, x, need in zip(ctx.saved, ctx.saved_tensors, needs, strict=True)
        ]
        with torch.enable_grad():
            out = ctx.run(*factors)
        wanted = [x for x in factors if x.requires_grad]
        found = iter(torch.autograd.grad(out, wanted, grads[0]))
        return None, None, *[next(found) if need else None for need in needs]


Product = Callable[..., Tensor]


def packed_product(run: Product, kinds: Sequence[Kind], factors: Sequence[Tensor]) -> Tensor:
    """Return ``run(*factors)``, which saves factors of whole numbers in bits for the backward pass."""
    if (
        is_traced(*factors)
        or not torch.is_grad_enabled()
        or not any(kind.bits for kind in kinds)
        or not any(x.requires_grad for x in factors)
    ):
        return run(*factors)
    out: Tensor = _Product.apply(run, kinds, *factors)
    return out


def product(a: Tensor, b: Tensor, *kinds: Any) -> Tensor:
    """Return a * b of equal shapes; ``kinds`` holds the three numbers of both kinds, in which they are saved."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype != b.dtype:
        return a * b
    return packed_product(torch.mul, (Kind(*kinds[:3]), Kind(*kinds[3:])), (a, b))
