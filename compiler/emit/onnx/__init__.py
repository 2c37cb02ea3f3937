"""Export of a network to ONNX, with operators named after the nodes of its graph."""

from danetc.compiler.emit.onnx.network import NotInOnnx, emit_onnx

__all__ = ["NotInOnnx", "emit_onnx"]
