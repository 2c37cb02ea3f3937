"""Files of ONNX run by onnxruntime: all time steps at once, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
_TYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
}  # fmt: skip


def session_of(data: bytes, threads: int) -> Any:
    """A session of onnxruntime that warns of nothing."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    quiet.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(data, quiet)


def notes_of(session: Any) -> dict[str, str]:
    """What is noted in a file, its metadata."""
    return dict(session.get_modelmeta().custom_metadata_map)


def run_at_once(session: Any, inputs: Sequence[Array], steps: int) -> dict[str, Array]:
    """All time steps by one call; a file that takes any number of them is told it."""
    takes = [item.name for item in session.get_inputs()]
    given = dict(zip(takes, inputs, strict=False))
    if len(takes) > len(inputs):
        given[takes[-1]] = np.array([steps])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


def run_by_step(
    session: Any, inputs: Sequence[Array], steps: int, varies: Sequence[bool]
) -> dict[str, Array]:
    """T steps, each with what the one before remembers: [T, ...]. ``varies`` says which inputs are
    [T, N, ...]; others are the same [N, ...] at each step."""
    takes, notes = session.get_inputs(), notes_of(session)
    names = [item.name for item in session.get_outputs()]
    samples = inputs[0].shape[int(varies[0])]
    memory = {
        item.name: np.full(
            [part if isinstance(part, int) else samples for part in item.shape],
            float(notes.get(f"start of {item.name}", "0")),
            _TYPES[item.type],
        )
        for item in takes[len(inputs) :]
    }
    found: list[dict[str, Array]] = []
    for t in range(steps):
        frames = {
            item.name: x[t] if each else x
            for item, x, each in zip(takes, inputs, varies, strict=False)
        }
        values = dict(zip(names, session.run(None, frames | memory), strict=True))
        memory = {name: values.pop(f"{name}_next") for name in memory}
        found.append(values)
    return {name: np.stack([values[name] for values in found]) for name in found[0]}
