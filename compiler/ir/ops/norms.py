"""Rows of the table: norms and running means."""

from __future__ import annotations

from collections.abc import Callable

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops import forms, kinds, shapes
from danetc.compiler.ir.ops.forms import nothing
from danetc.compiler.ir.ops.kinds import Attrs, Values, number
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

_NORM = "danetc.runtime.layers.norm"


def _affine(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    return {"weight": values[0].shape[:1], "bias": values[0].shape[:1]}


def _silent(attrs: Attrs) -> float | None:
    """Return 0 for a norm with an initial weight of 0, else None."""
    return 0.0 if attrs["init"] == 0.0 else None


def _label(name: str) -> Callable[[Attrs], tuple[str, str]]:
    def label(attrs: Attrs) -> tuple[str, str]:
        each = " per step" if attrs.get("per_step") or attrs.get("statistics") else ""
        each = " of steps 0 to t" if attrs.get("statistics") == "cumulative" else each
        start = attrs.get("init", 1.0)
        return name + each, f"×{shown(start)}" * (start != 1.0)

    return label


# -- batch norms ------------------------------------------------------------------------------------


def _checked(attrs: Attrs, threshold: Callable[[], float]) -> tuple[str, Attrs]:
    """Check the arguments of a batch norm; ``per_step`` of the result includes cumulative norms."""
    attrs = {**_DEFAULTS, **attrs}
    changed = attrs["eps"] != 1e-5 or not attrs["bias"] or attrs["pad"]
    if attrs["statistics"] and changed:
        raise OpError(
            "batchnorm: `statistics` cannot be combined with `eps`, `bias` or `pad`",
            "leave out either `statistics` or the other arguments",
        )
    if attrs["per_step"] and attrs["pad"]:
        raise OpError("batchnorm: a norm per step has no border", "leave out `pad` or `per_step`")
    if attrs["per_step"] and attrs["statistics"] == "step":
        raise OpError(
            "batchnorm: a norm per step already uses the statistics of its step",
            "leave `statistics` or `per_step` out",
        )
    return "batchnorm", {
        **attrs,
        "per_step": attrs["per_step"] or attrs["statistics"] == "cumulative",
    }


def _bordered(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input, plus the border."""
    if not attrs["pad"]:
        return values[0].shape
    channels, height, width = shapes.map_of(values, "a border")
    more = 2 * whole(attrs, "pad")
    return channels, height + more, width + more


def _batch_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    each = (values[0].shape[0] * (context.steps if attrs["per_step"] else 1),)
    return forms.with_bias(attrs, each, each[0])


def _batch_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    channels, rank = value.shape[0], len(value.shape)
    kwargs = forms.unusual(attrs, eps=1e-5)
    plain = not attrs["per_step"] and attrs["statistics"] is None and _is_affine(attrs)
    if plain and value.varies:
        return TorchModule(f"torch.nn.BatchNorm{2 if rank == 3 else 1}d", (channels,), kwargs)
    kwargs = {"rank": rank, **kwargs, **forms.unusual(attrs, bias=True, pad=0)}
    target = f"{_NORM}.{'Static' if plain else 'Bordered'}BatchNorm2d"
    if attrs["statistics"] == "cumulative":
        target = "danetc.runtime.layers.norm.CumulativeBatchNorm2d"
    elif attrs["statistics"] or attrs["per_step"]:
        target = f"{_NORM}.Step{'wise' if attrs['statistics'] else ''}BatchNorm2d"
    return TorchModule(target, (channels, context.steps), kwargs, "seq")


def _is_affine(attrs: Attrs) -> bool:
    return bool(attrs["bias"]) and not attrs["pad"] and not attrs["per_step"]


# -- other norms ------------------------------------------------------------------------------------


def _tebn_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    args, kwargs = (value.shape[0], context.steps), {"rank": len(value.shape)}
    return TorchModule(f"{_NORM}.TemporalEffectiveBatchNorm2d", args, kwargs, "seq")


def _group_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    return TorchModule("torch.nn.GroupNorm", (attrs["groups"], value.shape[0]))


def _layer_norm(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    kwargs: dict[str, Attribute] = {"rank": len(value.shape), **forms.unusual(attrs, eps=1e-5)}
    return TorchModule(f"{_NORM}.ChannelLayerNorm", value.shape[:1], kwargs, "any")


def _of_groups(attrs: Attrs, values: Values) -> Shape:
    """One number for each group of channels."""
    shape = shapes.grouped("running_mean")(attrs, values)
    return (whole(attrs, "groups"), *[1] * (len(shape) - 1))


def _running_mean(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    args = (attrs["groups"], attrs["momentum"])
    return TorchModule(f"{_NORM}.RunningMean", args, {"rank": len(value.shape)}, layout="seq")


_INIT = Parameter("init", float, "initial value of the weights", 1.0, 0.0, 1e3)
_EPS = Parameter("eps", float, "constant added to the variance", 1e-5, 1e-12, 1.0)

_BATCH = (
    _INIT,
    Parameter("per_step", bool, "if true, each time step has its own norm", False),
    word(
        "statistics", "`step`: statistics of each time step, with shared weights; `cumulative`: "
        "statistics of steps 0 to t, with weights per step", None, ("step", "cumulative"),
    ),
    _EPS,
    Parameter("bias", bool, "if true, add a learnable bias per channel", True),
    integer(
        "pad", "width of a border around the map, in pixels; filled with the output of the norm for an "
        "input of 0", 0, 0, 4096,
    ),
)  # fmt: skip

_DEFAULTS = {item.name: item.default for item in _BATCH}

ROWS = (
    Op(
        "batchnorm", "batch norm over T and N jointly, or per time step", _bordered, kinds.analog, _batch_module, _BATCH,
        stands_for=_checked, weights=_batch_weights, norm="channel", affine=_is_affine,
        all_steps=lambda attrs: not attrs["per_step"] and attrs["statistics"] is None,
        linear=True, constant=_silent, label=_label("BN"),
        nir="norm", onnx=onnx.batchnorm,
        example="conv(16) -> batchnorm(init = 0.5)", source="Ioffe and Szegedy, ICML 2015",
    ),
    Op(
        "tebn", "batch norm over T and N jointly, scaled by a learnable factor per time step", shapes.same, kinds.analog, _tebn_module, (_INIT,),
        time="per_step", all_steps=lambda attrs: True, norm="channel",
        weights=lambda attrs, values, context: {**_affine(attrs, values, context), "scale": (context.steps,)},
        constant=_silent, label=_label("TEBN"),
        onnx=onnx.tebn,
        example="conv(16) -> tebn", source="Duan et al., NeurIPS 2022",
    ),
    Op(
        "groupnorm", "group norm", shapes.grouped("groupnorm"),
        kinds.analog, _group_module,
        (integer("groups", "number of groups of channels", 32), _INIT),
        weights=_affine, norm="group", constant=_silent, label=lambda attrs: ("GN", str(attrs["groups"])),
        onnx=onnx.groupnorm,
        example="conv(16) -> groupnorm(4)", source="Wu and He, ECCV 2018",
    ),
    Op(
        "layernorm", "layer norm over the channels of each pixel", shapes.same, kinds.analog, _layer_norm,
        (_INIT, _EPS), weights=_affine, norm="group", constant=_silent, label=lambda attrs: ("LN", ""),
        onnx=onnx.layernorm,
        example="conv(16) -> layernorm", source="Ba et al., 2016",
    ),
    Op(
        "tdbn", "batch norm with initial weights alpha * V_th", shapes.same, kinds.analog, nothing,
        (Parameter("alpha", float, "initial weight, as a multiple of the threshold", 1.0, 0.0, 1e3),),
        stands_for=lambda attrs, threshold: ("batchnorm", {"init": number(attrs, "alpha") * threshold()}),
        weights=_affine, norm="channel",
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
