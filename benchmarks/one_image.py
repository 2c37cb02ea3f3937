"""Evaluation of few images, and streams: ours against onnxruntime and against our own forward pass.

sew_r18 in eval mode, with running statistics of real activations, as it is and folded: one pass of T steps, and T calls
of `stream`. Beside them torchvision's ResNet-18 on T x N images, by onnxruntime, by torch in one pass, and
by torch frame by frame, which shows what calls of one frame cost where there are no states. One thread, CPU
seconds, in turns.

    python benchmarks/one_image.py [--quick] [--batch N] [--image S]
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Options, Row, options, progress, report, seconds  # before torch

# isort: split
import onnxruntime
import torch
import torchvision
from inference import settle
from timing import ratio, time_interleaved
from torch import Tensor, nn

import danetc

ONNX, STREAM = 1.1, 1.3
FOLDED = 0.9


def exported(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """A pass of onnxruntime, of one thread."""
    with tempfile.TemporaryDirectory(prefix="danetc-bench-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of the way that needs no further package
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (images,), path, dynamo=False)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images.numpy()}
    return partial(session.run, None, feed)


def streamed(model: danetc.Model, x: Tensor, steps: int) -> None:
    states = None
    for _ in range(steps):
        _, states = model.stream(x, states)


def frame_by_frame(model: nn.Module, images: Tensor, steps: int) -> None:
    for frames in images.chunk(steps):
        model(frames)


def passes(at: Options) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    model = danetc.build("sew_r18", set={"steps": at.steps, "image": at.image})
    x = torch.randn(at.batch, 3, at.image, at.image)
    settle(model, x)
    folded = danetc.fold(model)
    ann, images = torchvision.models.resnet18(), torch.randn(at.steps * at.batch, *x.shape[1:])
    settle(ann, images)
    return {
        "danetc": partial(model, x),
        "danetc folded": partial(folded, x),
        "danetc stream": partial(streamed, model, x, at.steps),
        "danetc folded stream": partial(streamed, folded, x, at.steps),
        "onnxruntime": exported(ann, images),
        "torchvision": partial(ann, images),
        "torchvision by frames": partial(frame_by_frame, ann, images, at.steps),
    }


def main() -> int:
    at = options("one_image", __doc__, batch=1, rounds=(21, 5))
    torch.set_num_threads(1)
    runs = passes(at)
    with torch.inference_mode():
        samples = time_interleaved(
            runs, torch.device("cpu"), at.rounds, sample=0.1, on_progress=progress
        )
    pairs: tuple[tuple[str, str, float | None], ...] = (
        ("danetc", "onnxruntime", None),
        ("danetc folded", "onnxruntime", ONNX),
        ("danetc folded", "danetc", FOLDED),
        ("danetc stream", "danetc", STREAM),
        ("danetc folded stream", "danetc", STREAM),
        ("danetc folded stream", "danetc folded", None),
        ("torchvision by frames", "torchvision", None),
    )
    rows = [
        Row(f"{name} / {base}", ratio(samples, name, base), most=most) for name, base, most in pairs
    ]
    return report(at, rows, {"seconds": seconds(samples)})


if __name__ == "__main__":
    sys.exit(main())
