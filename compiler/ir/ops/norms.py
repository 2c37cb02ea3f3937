"""Rows of the table: norms and running means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops import forms, kinds, shapes
from danetc.compiler.ir.ops.forms import nothing
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.onnx import forms as onnx
from danetc.compiler.ir.ops.row import (
    Context,
    Op,
    OpError,
    Parameter,
    TorchModule,
    integer,
    shown,
    whole,
    word,
)

_INIT = Parameter("init", float, "initial value of the weights", 1.0, 0.0, 1e3)


def _affine(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    return {"weight": values[0].shape[:1], "bias": values[0].shape[:1]}


def _batch_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    if not attrs["per_step"]:
        return _affine(attrs, values, context)
    each = (context.steps * values[0].shape[0],)
    return {"weight": each, "bias": each}


def _tebn_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    return {**_affine(attrs, values, context), "scale": (context.steps,)}


def _all_steps(attrs: Attrs) -> bool:
    return not attrs["per_step"] and attrs.get("statistics") is None


def _batch_shape(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input."""
    if attrs["per_step"] and attrs.get("statistics") == "step":
        raise OpError(
            "batchnorm: a norm per step already has the statistics of its step",
            "leave `statistics` or `per_step` out",
        )
    return shapes.same(attrs, values)


def _batch_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    channels, rank = value.shape[0], len(value.shape)
    if not (_all_steps(attrs) and value.varies):
        name = "norm.StepBatchNorm2d" if attrs["per_step"] else "norm.StaticBatchNorm2d"
        name = _KINDS.get(str(attrs.get("statistics")), name)
        target = f"danetc.runtime.layers.{name}"
        return TorchModule(target, (channels, context.steps), {"rank": rank}, "seq")
    return TorchModule("torch.nn.BatchNorm2d" if rank == 3 else "torch.nn.BatchNorm1d", (channels,))


_KINDS = {"step": "norm.StepwiseBatchNorm2d", "cumulative": "accumulated.CumulativeBatchNorm2d"}


def _tebn_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    args = (value.shape[0], context.steps)
    kwargs = {"rank": len(value.shape)}
    return TorchModule(
        "danetc.runtime.layers.norm.TemporalEffectiveBatchNorm2d", args, kwargs, "seq"
    )


def _grouped(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input."""
    return shapes.in_groups(attrs, values, "groupnorm")


def _group_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    return TorchModule("torch.nn.GroupNorm", (attrs["groups"], value.shape[0]))


def _scaled_by_threshold(attrs: Attrs, threshold: Callable[[], float]) -> tuple[str, Attrs]:
    alpha = attrs["alpha"]
    assert isinstance(alpha, (int, float))
    return "batchnorm", {"init": float(alpha) * threshold()}


def _silent(attrs: Attrs) -> float | None:
    """Return 0 for a norm whose weight starts at 0."""
    return 0.0 if attrs["init"] == 0.0 else None


def _label(name: str) -> Callable[[Attrs], tuple[str, str]]:
    def label(attrs: Attrs) -> tuple[str, str]:
        start = attrs.get("init", 1.0)
        each = bool(attrs.get("per_step") or attrs.get("statistics"))
        so_far = attrs.get("statistics") == "cumulative"
        return name + (" of steps 0 to t" if so_far else " per step" * each), f"×{shown(start)}" * (
            start != 1.0
        )

    return label


_PER_STEP = Parameter("per_step", bool, "if true, each time step has its own norm", False)
_STATISTICS = word(
    "statistics",
    "`step`: statistics of each time step, with shared weights; `cumulative`: statistics of steps 0 to "
    "t, with weights per step",
    None,
    ("step", "cumulative"),
)
_EPS = Parameter("eps", float, "constant added to the variance", 1e-5, 1e-12, 1.0)


_WITH = (
    _EPS,
    Parameter("bias", bool, "if true, add a learnable bias per channel", True),
    integer(
        "pad",
        "width of a border around the map, in pixels; filled with the output of the norm for an input of 0",
        0,
        0,
        4096,
    ),
)


def _with_more(attrs: Attrs, threshold: Callable[[], float]) -> tuple[str, Attrs]:
    given = {"init": attrs.get("init", 1.0), "per_step": attrs.get("per_step", False)}
    more = {item.name: attrs.get(item.name, item.default) for item in _WITH}
    plain = all(more[item.name] == item.default for item in _WITH)
    if plain:
        found = attrs.get("statistics")
        each = given["per_step"] or found == "cumulative"
        return "batchnorm", {**given, "per_step": each, "statistics": found}
    if attrs.get("statistics"):
        raise OpError(
            "a batch norm with statistics of steps has a bias, no border and 1e-5 as its eps",
            "leave out `eps`, `bias` and `pad`, or `statistics`",
        )
    if given["per_step"] and more["pad"]:
        raise OpError("a batch norm per step has no border", "leave out `pad` or `per_step`")
    return "batchnorm_with", {**given, **more}


def _is_plain(attrs: Attrs) -> bool:
    """Return True for a batch norm that differs in its eps alone."""
    return bool(attrs["bias"]) and not attrs["pad"] and not attrs["per_step"]


def _weights_with(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    found = _batch_weights(attrs, values, context)
    return found if attrs["bias"] else {"weight": found["weight"]}


def _bordered(attrs: Attrs, values: Values) -> Shape:
    pad = whole(attrs, "pad")
    if not pad:
        return values[0].shape
    channels, height, width = shapes.map_of(values, "a border")
    return channels, height + 2 * pad, width + 2 * pad


def _zero_inside(attrs: Attrs, x: float) -> float | None:
    return forms.zero(attrs, x) if not attrs["pad"] else None


def _batch_with(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    channels, rank = value.shape[0], len(value.shape)
    eps = forms.unusual(attrs, eps=1e-5)
    if _is_plain(attrs):
        if value.varies:
            name = "BatchNorm2d" if rank == 3 else "BatchNorm1d"
            return TorchModule(f"torch.nn.{name}", (channels,), eps)
        target = "danetc.runtime.layers.norm.StaticBatchNorm2d"
        return TorchModule(target, (channels, context.steps), {"rank": rank, **eps}, "seq")
    kwargs = {"rank": rank, **eps, **forms.unusual(attrs, bias=True, pad=0)}
    name = "StepBatchNorm2d" if attrs["per_step"] else "BorderedBatchNorm2d"
    target = f"danetc.runtime.layers.norm.{name}"
    return TorchModule(target, (channels, context.steps), kwargs, "seq")


def _layer_norm(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    kwargs: dict[str, Attribute] = {"rank": len(value.shape), **forms.unusual(attrs, eps=1e-5)}
    return TorchModule(
        "danetc.runtime.layers.norm.ChannelLayerNorm", value.shape[:1], kwargs, "any"
    )


def _of_groups(attrs: Attrs, values: Values) -> Shape:
    """One number for each group of channels."""
    shape = shapes.in_groups(attrs, values, "running_mean")
    return (whole(attrs, "groups"), *[1] * (len(shape) - 1))


def _running_mean(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    args = (attrs["groups"], attrs["momentum"])
    target = "danetc.runtime.layers.norm.RunningMean"
    return TorchModule(target, args, {"rank": len(value.shape)}, layout="seq")


ROWS = (
    Op(
        "batchnorm", "batch norm over T and N jointly, or per time step", _batch_shape, kinds.analog, _batch_module,
        (_INIT, _PER_STEP, _STATISTICS, *(replace(item, sugar=True) for item in _WITH)),
        stands_for=_with_more, weights=_batch_weights, norm="channel", affine=lambda attrs: not attrs["per_step"],
        all_steps=_all_steps,
        linear=True, constant=_silent, start=forms.zero, label=_label("BN"),
        nir="norm", onnx=onnx.batchnorm,
        example="conv(16) -> batchnorm(init = 0.5)", source="Ioffe and Szegedy, ICML 2015",
    ),
    Op(
        "batchnorm_with", "batch norm with another eps, without a bias or with a border",
        _bordered, kinds.analog, _batch_with, (_INIT, _PER_STEP, *_WITH),
        public=False, weights=_weights_with, norm="channel", affine=_is_plain, all_steps=_all_steps,
        linear=True, constant=_silent, start=_zero_inside, label=_label("BN"),
        nir="norm", onnx=onnx.batchnorm_with,
    ),
    Op(
        "tebn", "batch norm over T and N jointly, scaled by a learnable factor per time step", shapes.same, kinds.analog, _tebn_module, (_INIT,),
        time="per_step", all_steps=lambda attrs: True, weights=_tebn_weights, norm="channel",
        constant=_silent, start=forms.zero,
        label=_label("TEBN"),
        onnx=onnx.tebn,
        example="conv(16) -> tebn", source="Duan et al., NeurIPS 2022",
    ),
    Op(
        "groupnorm", "group norm", _grouped, kinds.analog, _group_module,
        (integer("groups", "number of groups of channels", 32), _INIT),
        weights=_affine, norm="group", constant=_silent, start=forms.zero,
        label=lambda attrs: ("GN", str(attrs["groups"])),
        onnx=onnx.groupnorm,
        example="conv(16) -> groupnorm(4)", source="Wu and He, ECCV 2018",
    ),
    Op(
        "layernorm", "layer norm over the channels of each pixel", shapes.same, kinds.analog, _layer_norm,
        (_INIT, _EPS), weights=_affine, norm="group", constant=_silent, start=forms.zero,
        label=lambda attrs: ("LN", ""),
        onnx=onnx.layernorm,
        example="conv(16) -> layernorm", source="Ba et al., 2016",
    ),
    Op(
        "tdbn", "batch norm whose weights start at alpha * V_th", shapes.same, kinds.analog, nothing,
        (Parameter("alpha", float, "initial weight, as a multiple of the threshold", 1.0, 0.0, 1e3),),
        stands_for=_scaled_by_threshold, weights=_affine, norm="channel",
        example="conv(16) -> tdbn", source="Zheng et al., AAAI 2021",
    ),
    Op(
        "running_mean", "running mean of each group of channels over training passes, without a gradient",
        _of_groups, kinds.analog, _running_mean,
        (
            integer("groups", "number of groups of channels with a separate mean", 1),
            Parameter("momentum", float, "weight of a new pass in the running mean", 0.1, 0.0, 1.0),
        ),
        time="constant", gradient=False,
        label=lambda attrs: ("running mean", f"{attrs['groups']} groups" if attrs["groups"] != 1 else ""),
        onnx=onnx.running_mean,
        example="a - (a -> running_mean)",
    ),
)  # fmt: skip
