"""Weights of torchvision, SpikingJelly and danetc are read and matched; others leave a model unchanged."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from danetc.compiler import check_text
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.runtime.model.built import Model
from danetc.runtime.model.weights import WeightsError, match, read_weights
from tests.compiler.emit.graphs import resnet
from tests.runtime.data.conftest import Trap

COUNTER = "num_batches_tracked"
RESNET10 = """use std
network net {{
  input = image(3, 32, 32); steps = {steps}; neuron = {neuron}; surrogate = atan
  stem = conv(64, kernel = 7, stride = 2) -> norm -> spike -> maxpool(3, stride = 2)
  stages = (stage(basic(64), 1) -> stage(basic(128), 1, stride = 2)
    -> stage(basic(256), 1, stride = 2) -> stage(basic(512), 1, stride = 2)) via origin
  head = avgpool -> mean_over_time -> linear(7)
}}"""


def resnet10(neuron: str = "ReLU", steps: int = 1) -> Graph:
    """torchvision's ResNet with one basic block in each stage."""
    return check_text(RESNET10.format(neuron=neuron, steps=steps)).graphs["net"]


def shaken(module: nn.Module) -> nn.Module:
    """Add noise, so that parameters and buffers with equal initial values differ."""
    generator = torch.Generator().manual_seed(5)
    for value in (*module.parameters(), *module.buffers()):
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator) * 0.1
            value.data = (value.data + noise.to(value.dtype)).contiguous()
    return module.eval()


def torchvision_resnet10() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return shaken(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7))


@pytest.mark.parametrize("save", [torch.save, save_file])  # the latter sorts by name
def test_torchvision_by_order(tmp_path: Path, save: Any) -> None:
    theirs = torchvision_resnet10()
    path = tmp_path / "weights.pth"
    save(theirs.state_dict(), path)
    weights = read_weights(path)
    model = emit(resnet10()).eval()
    report = match(model, weights)
    assert report.how == "order"
    assert (report.missing, report.unexpected) == ((), ())
    assert report.matched["stages.1.blocks.0.shortcut.norm.running_var"] == (
        "layer2.0.downsample.1.running_var"
    )
    assert report.matched["head.linear.bias"] == "fc.bias"
    assert str(report) == f"matched {len(weights)} tensors by order"
    model.load_state_dict(report.state)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["spiking_resnet", "sew_resnet"])
def test_spikingjelly_by_order(family: str) -> None:
    models = pytest.importorskip("spikingjelly.activation_based.model")
    from importlib import import_module

    from spikingjelly.activation_based import functional, neuron

    module: Any = import_module(f"{models.__name__}.{family}")
    options: Any = {"num_classes": 7, "spiking_neuron": neuron.IFNode}
    if family == "spiking_resnet":
        theirs = module.SpikingResNet(module.BasicBlock, [1, 1, 1, 1], **options)
    else:
        theirs = module.SEWResNet(module.BasicBlock, [1, 1, 1, 1], cnf="ADD", **options)
    weights = {k: v for k, v in shaken(theirs).state_dict().items() if not k.endswith(COUNTER)}
    model = emit(resnet10("IF", steps=3)).eval()
    report = match(model, weights)
    assert report.how == "order"
    assert len(report.matched) == len(weights)
    assert all(name.endswith(COUNTER) for name in report.missing)
    if family == "spiking_resnet":
        functional.set_step_mode(theirs, "m")
        model.load_state_dict(report.state)
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        wanted = theirs(x.expand(3, *x.shape)).mean(0)
        torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)


def test_our_own_by_name_and_an_analog_network_for_one_with_learnt_neurons(tmp_path: Path) -> None:
    analog, spiking = shaken(emit(resnet("ReLU"))).state_dict(), emit(resnet("PLIF"))
    save_file(analog, tmp_path / "w.safetensors")
    report = match(emit(resnet("ReLU"), seed=7), read_weights(tmp_path / "w.safetensors"))
    assert (report.how, report.missing, report.unexpected) == ("name", (), ())
    torch.testing.assert_close({**report.state}, {**analog}, rtol=0, atol=0)
    report = match(spiking, analog)
    assert report.how == "name"
    assert len(report.missing) == 13
    assert all(name.endswith("spike.w") for name in report.missing)
    assert "kept stages.0.blocks.0.branch.spike.w" in str(report)
    assert set(report.state) == set(spiking.state_dict())


@pytest.mark.parametrize("file", ["torchvision", "own", "own without a head"])
def test_a_part_is_left_out(file: str) -> None:
    """The rest matches by order or by name if the head has other classes or is missing."""
    text = RESNET10.format(neuron="ReLU", steps=1)
    model = emit(check_text(text.replace("linear(7)", "linear(3)")).graphs["net"])
    weights = shaken(emit(resnet10())).state_dict()
    if file == "torchvision":
        weights = torchvision_resnet10().state_dict()
    elif file == "own without a head":
        weights = {name: value for name, value in weights.items() if not name.startswith("head.")}
    report = match(model, weights, ["head"])
    before = model.state_dict()
    for name, value in report.state.items():
        own = name.startswith("head.")
        assert torch.equal(value, before[name] if own else weights[report.matched[name]]), name
    assert "kept head.linear.bias, head.linear.weight as initialised" in str(report)
    if file != "own without a head":
        with pytest.raises(WeightsError, match=r"should be 3x512.* has 7x512; --init-skip head"):
            match(model, weights)
    with pytest.raises(WeightsError, match=r"no weights in stages\.4"):
        match(model, weights, ["stages.4"])


# -- weights that do not fit ----------------------------------------------------------------------


def untouched(model: Model, weights: dict[str, Tensor], message: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        match(model, weights)
    torch.testing.assert_close({**model.state_dict()}, before, rtol=0, atol=0)


def test_another_depth_is_refused() -> None:
    renamed = {f"net.{name}": value for name, value in emit(resnet(blocks=2)).state_dict().items()}
    untouched(emit(resnet(blocks=3)), renamed, r"neither names nor order.*blocks\.2\.branch\.conv1")
    fewer = {name: value for name, value in renamed.items() if "head" not in name}
    untouched(emit(resnet(blocks=2)), fewer, "21 layers.* file has 20")
    more = {**renamed, "extra.weight": torch.zeros(3)}
    untouched(emit(resnet(blocks=2)), more, "file has 22")


def test_the_first_mismatch_is_named() -> None:
    model = emit(resnet())
    state = emit(resnet()).state_dict()
    other = {**state, "head.linear.weight": torch.zeros(10, 6)}
    untouched(model, other, r"head\.linear\.weight should be 5x6, but the file has 10x6")
    other = {**state, "stem.conv.weight": torch.zeros(4, 3, 3, 3, dtype=torch.int64)}
    untouched(model, other, r"stem\.conv\.weight should be torch.float32")
    other = {f"net.{name}": value for name, value in state.items()}
    other["net.stages.0.blocks.1.branch.conv2.weight"] = torch.zeros(4, 4, 1, 1)
    untouched(model, other, r"conv2\.weight \(the file's net\.stages\S+\) should be 4x4x3x3")
    del state["stem.norm.bias"]
    untouched(model, state, r"lacks stem\.norm\.bias")
    state["stem.norm.offset"] = torch.zeros(4)
    untouched(model, state, r"has stem\.norm\.offset, which the model does not have")


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["torch", "legacy", "pickle"])
def test_a_pickle_is_refused_and_not_run(way: str, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = tmp_path / "weights.pt"
    content = {"weight": Trap(trap)}
    if way == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(WeightsError):
        read_weights(path)
    assert not trap.exists()
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(WeightsError, match="could run code"):
        read_weights(tmp_path / "module.pt")


JUNK = (b"network a { }\n", b"\x00" * 100, b"\x80\x02junk", b"PK\x03\x04junk", b"{}")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("content", [0, 5, 40, 300, -100, *JUNK])
def test_truncated_or_junk_is_refused(suffix: str, content: int | bytes, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)({"a": torch.zeros(500)}, path)
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(UserError):
        read_weights(path)


def test_what_is_no_file_or_no_state_dict_is_refused(tmp_path: Path) -> None:
    for place, message in ((tmp_path / "none.pt", "No such file"), (tmp_path, "directory")):
        with pytest.raises(WeightsError, match=message):
            read_weights(place)
    with pytest.raises(WeightsError, match="not a regular file"):
        read_weights(os.devnull)
    for content, message in (
        ([torch.zeros(2)], "a list, not a state dict"),
        ({"a": 3}, "entry 'a' is a int, not a tensor"),
    ):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=message):
            read_weights(tmp_path / "w.pt")
