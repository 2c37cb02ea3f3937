"""ONNX operators of the operations: forms for the field ``onnx`` of a row.

A form gets its operands and gives its value by name. Time and batch are one leading dimension B:
a map is [B, C, H, W], a vector [B, C]; B is N for what does not vary and T * N, step by step, for
what does. What all samples share is [1, ...]. Where a network runs one step at a time
(``OnnxWriter.step``) B is N for all.
"""
