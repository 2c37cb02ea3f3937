"""Training and every command that runs a model, on a real GPU or a pretended one
(``test_pretended``). On a pretended one, launches and host waits are counted and memory is checked too.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import danetc
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import taken
from danetc.main import main
from danetc.runtime.model.signature import outputs_of, random_input
from danetc.runtime.training.observer import StepReport
from tests.differential.helpers import streamed
from tests.runtime.training.processes import NOISY, TIMES
from tests.zoo.harness import CASES, NAMES, graph

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)
PRETENDED = "tests.gpu.device" in sys.modules
counted = pytest.mark.skipif(not PRETENDED, reason="only a pretended device counts")
SHORT = {"recipe.epochs": 2, "recipe.warmup": 0, "recipe.batch": 200}
DIGITS = {"data": "digits", "recipe": "digits"}


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_a_model_on_two_devices_is_an_error(backend: Any) -> None:
    model = danetc.build("danet_c_small", backend=backend).to("cuda")
    x = torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match="the model's weights are on cuda:0, the input is on cpu"):
        model(x)
    model.get_submodule("stem.conv").to("cpu")
    with pytest.raises((RuntimeError, ValueError), match=r"device|weights are on"):
        model(x.to("cuda"))


VARIANTS: dict[str, dict[str, Any]] = {
    "fused": {},
    "eager": {"backend": "eager"},
    "bf16": {"recipe.precision": "bf16", "channels_last": True},
    "fp16": {"recipe.precision": "fp16", "recipe.clip": 1.0},
    "accumulate": {"recipe.accumulate": 2, "recipe.ema": 0.9, "deterministic": False},
    "recompute": {"memory": "recompute"},
    "mixed": {"recipe.augment": "random_crop(8, padding = 1) -> cutmix"},
    "augmented": {
        "recipe.augment": "random_crop(8, padding = 1) -> horizontal_flip",
        "recipe.augment_on": "device",
    },
    "sgd": {"recipe.optimizer": "sgd(lr = 0.1, momentum = 0.9)", "recipe.clip": 1.0},
    "truncated": {"recipe.gradient": "truncated(steps = 1)", "backend": "eager"},
    "changed": {"recipe.change": "surrogate(alpha = linear(4, 8))"},
}
THOROUGH = [
    name if name in ("bf16", "fp16") else pytest.param(name, marks=pytest.mark.thorough)
    for name in VARIANTS
]


def options_of(name: str) -> dict[str, Any]:
    """Keywords of ``danetc.train`` for a network with a dropout and a variant of its recipe."""
    settings = {key: value for key, value in VARIANTS[name].items() if "." in key}
    rest = {key: value for key, value in VARIANTS[name].items() if "." not in key}
    return {"text": NOISY, **DIGITS, **rest, "set": SHORT | settings}


@counted
@pytest.mark.parametrize("name", THOROUGH)
def test_the_host_does_not_wait_in_a_step(name: str) -> None:
    from tests.gpu.steps import counted

    found = counted(**options_of(name))
    steps = found.of_steps()
    assert len(steps) > 8
    assert {(each["reads"], each["writes"]) for each in steps} == {(0, 0)}
    (launches,) = {each["launches"] for each in steps}
    assert 50 < launches < (350 if name in ("eager", "truncated", "accumulate") else 120)
    assert all(0 < each["reads"] < 10 for each in found.of_epochs())


class Stop(danetc.Callback):
    """Stops a training after the third step of an epoch."""

    def on_step_end(self, report: StepReport) -> None:
        if report.step == 3:
            raise danetc.StopTraining


@pytest.mark.parametrize("name", THOROUGH)
def test_a_stopped_training_resumes_bit_identically(name: str, tmp_path: Path) -> None:
    options = options_of(name)
    whole = danetc.train(**options, output=tmp_path / "whole")
    for _ in range(2):
        assert danetc.train(**options, output=tmp_path / "parts", callbacks=[Stop()]).stopped
    parts = danetc.train(**options, output=tmp_path / "parts")
    for one, two in zip(whole.record["epochs"], parts.record["epochs"], strict=True):
        assert {key: two[key] for key in one.keys() - {*TIMES}} == {
            key: one[key] for key in two.keys() - {*TIMES}
        }
    weights = [(run.directory / "weights.safetensors").read_bytes() for run in (whole, parts)]
    assert weights[0] == weights[1]


@pytest.mark.thorough
def test_a_run_moves_to_another_device(tmp_path: Path) -> None:
    """From a GPU to the CPU and back, in the middle of epochs; ``NOISY`` draws on the device."""
    for device in (f"cuda:{torch.cuda.device_count() - 1}", "cpu", "cuda"):
        callbacks = [] if device == "cuda" else [Stop()]
        run = danetc.train(
            **options_of("fused"), output=tmp_path, device=device, callbacks=callbacks
        )
        assert run.stopped == (device != "cuda")
        moved = [text for text in run.notes if "the device is" in text]
        assert len(moved) == (run.directory / "checkpoints").is_dir() - (":" in device)
    assert len(run.record["epochs"]) == 2


DANET, ANN = "pretrained:danet_c_small_digits", "pretrained:ann_c_small_digits"


@pytest.mark.parametrize("device", ["cuda", pytest.param("cuda:1", marks=pytest.mark.thorough)])
def test_commands_run_to_their_ends(
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Accuracies agree with those of the CPU on which the shipped networks were trained."""
    if device == "cuda:1" and torch.cuda.device_count() < 2:
        pytest.skip("there is one device")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    before = torch.cuda.memory_allocated(0)
    torch.cuda.reset_peak_memory_stats(0)

    def run(command: str) -> Any:
        options = [] if command.startswith("import") else ["--device", device]
        status = main([*command.split(), *options, "--json"])
        out, err = capsys.readouterr()
        assert status == 0, err
        return json.loads(out)

    waits = sum(torch.ops.pretended.counts()[1:]) if PRETENDED else 0
    (found,) = run(f"eval {DANET} --batch 16")["evaluated"]
    if PRETENDED:  # a write for each tensor of the model, and one read
        assert sum(torch.ops.pretended.counts()[1:]) - waits < 135
    stated = json.loads((Path(found["directory"]) / "training.json").read_text())["test_accuracy"]
    assert found["results"][0]["top1"] == pytest.approx(stated, abs=2.01 / 360)
    assert found["conditions"]["device"] == torch.cuda.get_device_name()
    (measured,) = run(f"measure {DANET} --data digits --batches 1")["measured"]
    assert all(0 < layer["rate"] < 1 for layer in measured["firing_rate"]["layers"])
    converted = run(f"convert {ANN} --steps 8 --batches 1 -o snn")
    assert converted["ann"]["top1"] > 0.97
    assert run("eval snn")["evaluated"][0]["results"][0]["top1"] == pytest.approx(
        converted["over_time"][-1]["top1"], abs=2.01 / 360
    )
    for name in ("net.safetensors", "net.onnx", "net.nir"):
        assert run(f"export {DANET} -o {name}")["bytes"] == Path(name).stat().st_size
    assert run("import net.nir --samples 2 -o again.danet")["compared"]["samples"] == 2
    (one, two) = run("bench danet_c_small --batch 2 --rounds 1")["backends"]
    assert one["peak"] > 1_000_000 < two["peak"]
    assert (torch.cuda.max_memory_allocated(0) > before) == (device == "cuda")


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_a_stream_gives_what_the_whole_sequence_gives(backend: Any) -> None:
    model = danetc.build(text=NOISY, backend=backend).to("cuda").eval()
    x = torch.rand(3, 1, 8, 8, device="cuda")
    outputs = streamed(model, [x] * model.signature.steps)
    torch.testing.assert_close(torch.stack(outputs).mean(0), model(x))


@counted
@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["fused", "eager"])
@pytest.mark.parametrize("name", NAMES)
def test_a_published_network_is_that_of_a_cpu(name: str, backend: Any) -> None:
    """Outputs and gradients in float64; both devices draw the same random numbers."""
    if (name, backend) == ("spiking_pointnet", "fused"):
        pytest.skip("of equal maxima, roundings decide which one has the gradient")
    network = graph(name, CASES[name])
    value = taken(network)
    shape = (*((network.steps,) if value.varies else ()), 2, *value.shape)
    x = random_input(value.kind, shape, torch.Generator().manual_seed(0), torch.float64)
    found: list[list[torch.Tensor]] = []
    for device, kind in (("cpu", "eager"), ("cuda", backend)):
        model = emit(network, 0, kind).double().to(device)
        torch.manual_seed(1)
        outputs = outputs_of(model(x.to(device)))
        sum(output.square().mean() for output in outputs).backward()
        gradients = (p.grad for p in model.parameters() if p.grad is not None)
        found.append([each.detach().cpu() for each in (*outputs, *gradients)])
    # gradients of biases before norms are only rounding; dsr_if's other gradients reach 3e16
    atol = max(1e-7, 1e-16 * max(float(each.nan_to_num().abs().max()) for each in found[0]))
    torch.testing.assert_close(  # a silent network divides by 0
        found[1], found[0], rtol=1e-7, atol=atol, equal_nan=True
    )


@counted
@pytest.mark.thorough
def test_a_gpu_has_every_kernel_that_ran(tmp_path: Path) -> None:
    """All kernels of this file, which ends here, are looked up in torch's own table of operations."""
    table = Path(torch.__file__).parents[1] / "torchgen/packaged/ATen/native/native_functions.yaml"
    on_gpu, structured = set(), {}
    for row in yaml.safe_load(table.read_text()):
        name = row["func"].partition("(")[0]
        if "CUDA" in " ".join(row.get("dispatch", {"CUDA": ""})):
            on_gpu.add(name)
        structured[name] = row.get("structured_delegate")
    on_gpu |= {name for name, other in structured.items() if other in on_gpu}
    names = {name.partition(".")[0] for name in on_gpu}
    ran = {name.removeprefix("aten::") for name in torch.ops.pretended.kernels()}
    assert len(ran) > 50
    assert not ran - names - {"convolution", "convolution_backward"}
