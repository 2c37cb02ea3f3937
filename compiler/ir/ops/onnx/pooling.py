"""Forms of pooling and of upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from danetc.compiler.ir.ops.onnx.general import Form, OnnxWriter, Site, window


def pooling(name: str, **attributes: Any) -> Form:
    def form(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
        return to.node(name, x[0], **window(at), **attributes)

    return form


def resize(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """To the height and width of the result: the nearest pixel from the upper left, or of four."""
    _, height, width = at.value.shape
    ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}  # fmt: skip
    if at.attrs.get("bilinear", "height" not in at.attrs):
        ways = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return to.node("Resize", x[0], "", "", to.ints(height, width), axes=[2, 3], **ways)


def upsample(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    nearest = Site({**at.attrs, "bilinear": False}, at.values, at.value, at.context)
    return resize(to, nearest, x)
