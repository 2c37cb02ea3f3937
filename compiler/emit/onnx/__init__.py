"""Export of a network to ONNX, with operators named after the nodes of its graph."""

from danetc.compiler.emit.onnx.network import TIMES, NotInOnnx, OnnxTime, emit_onnx

__all__ = ["TIMES", "NotInOnnx", "OnnxTime", "emit_onnx"]
