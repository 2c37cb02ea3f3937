"""Rows of the table: pooling, and shapes of maps."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import (
    Op,
    OpError,
    Parameter,
    Site,
    TorchFunction,
    TorchModule,
    integer,
    module,
    unusual,
    whole,
)
from danetc.compiler.ir.ops.weighted import windows
from danetc.dsl.kinds import Kind


def _window(padding: str) -> tuple[Parameter, ...]:
    return (
        integer("kernel", "height and width of the window", high=4096),
        integer(
            "stride", "distance between windows, in pixels; by default the kernel", None, high=4096
        ),
        integer(
            "padding", f"pixels added on each side of the map; by default {padding}", None, 0, 4096
        ),
    )


def _one_pixel(attrs: Attrs) -> bool:
    return attrs["kernel"] == 1 and attrs["stride"] in (1, None) and not attrs["padding"]


def _complete(attrs: dict[str, Any]) -> None:
    if attrs["stride"] is None:
        attrs["stride"] = attrs["kernel"]
    if attrs["padding"] is None:
        attrs["padding"] = 0


def _complete_max(attrs: dict[str, Any]) -> None:
    """Pad a window of odd size by half of it, as in the stem of a ResNet."""
    if attrs["padding"] is None and attrs["kernel"] % 2:
        attrs["padding"] = attrs["kernel"] // 2
    _complete(attrs)


def _is_global(attrs: Attrs, values: Values) -> str:
    whole_map = (attrs["kernel"],) * 2 == values[0].shape[1:] and attrs["padding"] == 0
    return "global_avgpool" if whole_map else ""


def _upsample_over(attrs: Attrs, threshold: Callable[[], float]) -> tuple[str, Attrs]:
    mode = {"mode": attrs.get("mode", "nearest")}
    like: Any = attrs.get("like")
    size = (attrs.get("rows"), attrs.get("columns"))
    if like is not None and size == (None, None):
        size = like[1], like[2]
    elif like is not None:
        raise OpError("upsample takes its size from `like` or from `rows` and `columns`, not both")
    if size != (None, None):
        if None in size:
            raise OpError("upsample needs `rows` and `columns` together")
        return "resize", {"height": size[0], "width": size[1], **mode}
    if attrs.get("over") == "channels":
        return "repeat_channels", {"scale": attrs["scale"]}
    return "upsample", {"scale": attrs["scale"], **mode}


def _resized(attrs: Attrs, values: Values) -> Shape:
    channels, _, _ = shapes.map_of(values, "upsample")
    return channels, whole(attrs, "height"), whole(attrs, "width")


def _interpolated(attrs: Attrs, values: Values) -> Kind:
    """Numbers of the input; analog if bilinear."""
    return kinds.kept(attrs, values) if attrs["mode"] == "nearest" else Kind()


def _upsample(at: Site) -> TorchModule:
    scaled = "scale" in at.attrs
    size: dict[str, Any] = {"scale_factor": at["scale"]} if scaled else {"size": at.value.shape[1:]}
    return TorchModule("torch.nn.Upsample", (), size | unusual(at.attrs, mode="nearest"))


_MODE = Parameter("mode", str, "interpolation: nearest pixel or bilinear (corners not aligned)", "nearest", words=("nearest", "bilinear"))  # fmt: skip

ROWS = (
    Op(
        "maxpool", "max pooling", shapes.pooled, kinds.kept, module("torch.nn.MaxPool2d", "kernel", stride=None, padding=0),
        _window("half of a kernel of odd size, else 0"),
        complete=_complete_max,
        window=lambda attrs: whole(attrs, "kernel"), same=_one_pixel, label=lambda attrs: (f"maxpool {attrs['kernel']}×{attrs['kernel']}", windows(attrs)),
        onnx=onnx.pooling("MaxPool"),
        example="maxpool(3, stride = 2)",
    ),
    Op(
        "avgpool", "average pooling; global without a kernel", shapes.pooled, kinds.averaged,
        module("torch.nn.AvgPool2d", "kernel", stride=None, padding=0), _window("0"),
        complete=_complete, bare="global_avgpool",
        window=lambda attrs: whole(attrs, "kernel"), same=_one_pixel, linear=True, alias=_is_global,
        label=lambda attrs: (f"avgpool {attrs['kernel']}×{attrs['kernel']}", windows(attrs)),
        nir="avgpool", onnx=onnx.pooling("AveragePool", count_include_pad=1),
        example="avgpool(2)",
    ),
    Op(
        "global_avgpool", "average over height and width",
        lambda attrs, values: (shapes.map_of(values, "avgpool")[0], 1, 1),
        lambda attrs, values: kinds.mean(values[0].kind.range, prod(values[0].shape[1:])),
        lambda at: TorchModule("torch.nn.AdaptiveAvgPool2d", (1,)),
        public=False, same_shape=True, linear=True, label=lambda attrs: ("avgpool", ""),
        nir="avgpool", onnx=onnx.operator("GlobalAveragePool"),
    ),
    Op(
        "upsample", "upsampling by repetition or bilinear interpolation", shapes.scaled, _interpolated, _upsample,
        (
            integer("scale", "factor of height and width", 2, high=2**12),
            Parameter("over", str, "axis to enlarge: `pixels`, or `channels`, which are repeated", "pixels",
                      words=("channels", "pixels"), sugar=True),
            _MODE,
            Parameter("like", tuple, "value whose height and width to use instead of a scale", None, sugar=True),
            Parameter("rows", int, "number of rows; given with `columns` instead of a scale", None, 1, 2**16, sugar=True),
            Parameter("columns", int, "number of columns", None, 1, 2**16, sugar=True),
        ),
        stands_for=_upsample_over, same=lambda attrs: attrs["scale"] == 1, linear=True,
        label=lambda attrs: (f"bilinear ×{attrs['scale']}" if attrs["mode"] == "bilinear" else "", ""),
        onnx=onnx.resize, example="upsample(2)",
    ),
    Op(
        "resize", "map resized to another height and width", _resized, _interpolated, _upsample,
        (integer("height", "number of rows of the output"), integer("width", "number of columns of the output"), _MODE),
        public=False, same_shape=True, linear=True,
        label=lambda attrs: (f"resize {attrs['height']}×{attrs['width']}", "bilinear" * (attrs["mode"] == "bilinear")),
        onnx=onnx.resize,
    ),
    Op(
        "flatten", "flattens a map into a vector", shapes.vector, kinds.kept,
        lambda at: TorchFunction("torch.flatten", kwargs={"start_dim": -len(at.shape)}, layout="any"),
        same=lambda attrs: True, linear=True, nir="flatten", onnx=onnx.operator("Flatten", axis=1),
        example="flatten",
    ),
)  # fmt: skip
