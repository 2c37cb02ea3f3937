"""Rows of the table: norms and running means."""

from __future__ import annotations

from collections.abc import Callable

from danetc.compiler.ir.graph import Attribute, Shape
from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, Values, number
from danetc.compiler.ir.ops.row import (
    Op,
    OpError,
    Parameter,
    Site,
    TorchModule,
    integer,
    module,
    nothing,
    shown,
    whole,
    with_bias,
)

_NORM = "danetc.runtime.layers.norm"


def _affine(at: Site) -> dict[str, Shape]:
    return {"weight": at.shape[:1], "bias": at.shape[:1]}


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


def _batch_weights(at: Site) -> dict[str, Shape]:
    each = at.shape[0] * (at.steps if at["per_step"] else 1)
    return with_bias(at, (each,), each)


def _batch_module(at: Site) -> TorchModule:
    plain = not at["per_step"] and at["statistics"] is None and _is_affine(at.attrs)
    if plain and at.value.varies:
        return module(f"torch.nn.BatchNorm{2 if at.rank == 3 else 1}d", "C", eps=1e-5)(at)
    name = "Static" if plain else "Bordered"
    if at["statistics"] == "cumulative":
        name = "Cumulative"
    elif at["statistics"] or at["per_step"]:
        name = "Stepwise" if at["statistics"] else "Step"
    usual: dict[str, Attribute] = {"rank": None, "eps": 1e-5, "bias": True, "pad": 0}
    return module(f"{_NORM}.{name}BatchNorm2d", "C", "T", layout="seq", **usual)(at)


def _is_affine(attrs: Attrs) -> bool:
    return bool(attrs["bias"]) and not attrs["pad"] and not attrs["per_step"]


# -- other norms ------------------------------------------------------------------------------------


def _of_groups(attrs: Attrs, values: Values) -> Shape:
    """One number for each group of channels."""
    shape = shapes.grouped("running_mean")(attrs, values)
    return (whole(attrs, "groups"), *[1] * (len(shape) - 1))


_INIT = Parameter("init", float, "initial value of the weights", 1.0, 0.0, 1e3)
_EPS = Parameter("eps", float, "constant added to the variance", 1e-5, 1e-12, 1.0)

_BATCH = (
    _INIT,
    Parameter("per_step", bool, "if true, each time step has its own norm", False),
    Parameter(
        "statistics", str, "`step`: statistics of each time step, with shared weights; `cumulative`: "
        "statistics of steps 0 to t, with weights per step", None, words=("step", "cumulative"),
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
        "tebn", "batch norm over T and N jointly, scaled by a learnable factor per time step", shapes.same, kinds.analog,
        module(f"{_NORM}.TemporalEffectiveBatchNorm2d", "C", "T", layout="seq", rank=None), (_INIT,),
        time="per_step", all_steps=lambda attrs: True, norm="channel",
        weights=lambda at: {**_affine(at), "scale": (at.steps,)},
        constant=_silent, label=_label("TEBN"),
        onnx=onnx.tebn,
        example="conv(16) -> tebn", source="Duan et al., NeurIPS 2022",
    ),
    Op(
        "groupnorm", "group norm", shapes.grouped("groupnorm"),
        kinds.analog, module("torch.nn.GroupNorm", "groups", "C"),
        (integer("groups", "number of groups of channels", 32), _INIT),
        weights=_affine, norm="group", constant=_silent, label=lambda attrs: ("GN", str(attrs["groups"])),
        onnx=onnx.groupnorm,
        example="conv(16) -> groupnorm(4)", source="Wu and He, ECCV 2018",
    ),
    Op(
        "layernorm", "layer norm over the channels of each pixel", shapes.same, kinds.analog,
        module(f"{_NORM}.ChannelLayerNorm", "C", layout="any", rank=None, eps=1e-5),
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
        _of_groups, kinds.analog, module(f"{_NORM}.RunningMean", "groups", "momentum", layout="seq", rank=None),
        (
            integer("groups", "number of groups of channels with a separate mean", 1),
            Parameter("momentum", float, "weight of a new pass in the running mean", 0.1, 0.0, 1.0),
        ),
        time="constant", gradient=False,
        label=lambda attrs: ("running mean", f"{attrs['groups']} groups" if attrs["groups"] != 1 else ""),
        onnx=lambda to, at, x: to.array(to.stored("mean").reshape(1, -1, *[1] * (at.rank - 1))),
        example="a - (a -> running_mean)",
    ),
)  # fmt: skip
