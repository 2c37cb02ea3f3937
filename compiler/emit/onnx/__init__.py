"""A network as ONNX, written from its graph: operators under the names of their nodes."""

from danetc.compiler.emit.onnx.network import TIMES, NotInOnnx, OnnxTime, emit_onnx

__all__ = ["TIMES", "NotInOnnx", "OnnxTime", "emit_onnx"]
