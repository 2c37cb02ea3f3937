"""Files of ONNX: PyTorch's ResNets come back, and what is no network of samples is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.emit.onnx import emit_onnx
from danetc.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
torchvision = pytest.importorskip("torchvision")


SPEC = """
use std
network drawn {{
  input = image(2, 12, 12)
  steps = 1
  neuron = ReLU
  stem = conv(4) -> norm -> spike
  stages = stage({stage}
  head = avgpool -> linear(5) -> mean_over_time
}}
"""


def exported(model: nn.Module, path: Path, size: tuple[int, ...]) -> Path:
    torch.onnx.export(model.eval(), (torch.rand(2, *size),), str(path), dynamo=True, verbose=False)
    return path


def narrow() -> nn.Module:
    """A ResNet-18 of a quarter of the width, whose norms and logits vary."""
    torch.manual_seed(0)
    model = torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=5
    )
    small = partial(torch.rand, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(0.5 + small(module.weight.shape))
                module.running_mean.copy_(0.1 * small(module.weight.shape))
    return model  # type: ignore[no-any-return]


def test_a_resnet_of_pytorch_comes_back(tmp_path: Path) -> None:
    """torch folds norms into convolutions, so that its connection has none."""
    path = exported(narrow(), tmp_path / "net.onnx", (3, 32, 32))
    found = danetc.import_network(path, samples=20)
    assert " = resnet18(block = layers) via residual\n" in found.text
    assert "norm" not in found.text
    assert found.agreement.deviation > 0.01
    assert len(found.found.own) == 2


@pytest.mark.parametrize("stage", ["basic(4), 2) via origin", "bottleneck(4), 2) via pa_a"])
def test_what_is_exported_comes_back(tmp_path: Path, stage: str) -> None:
    text = SPEC.format(stage=stage)
    model = danetc.build(text=text, backend="eager")
    small = partial(torch.rand, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * small(value.shape))
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "drawn.onnx"
    onnx.save(emit_onnx(graph_of(check_text(text)), arrays), str(path))
    found = danetc.import_network(path, samples=20)
    again = check_text(found.text).graphs["drawn"]
    assert isinstance(compare_graphs(check_text(text).graphs["drawn"], again), Same)


def test_other_operators_are_refused_by_name(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 1)

    path = exported(Odd(), tmp_path / "odd.onnx", (2, 4, 4))
    with pytest.raises(UserError, match="the operator CumSum is not read"):
        danetc.import_network(path, samples=4)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(UserError, match="no file"):
        danetc.import_network(path)
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be read as ONNX"):
        danetc.import_network(path)
