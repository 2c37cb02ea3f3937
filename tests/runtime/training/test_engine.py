"""The training loop in one process: precision, guards, and validation images."""

import json
import math
import os
import signal
import time
import warnings
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.system.devices import arithmetic
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.training.checkpoints import LAST, Checkpoints, Position, read_checkpoint
from danetc.runtime.training.guards import first_not_finite, is_out_of_memory
from danetc.runtime.training.observer import PARTS, Callback, Epoch
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.runtime.training.state import determinism
from danetc.runtime.training.totals import Totals
from danetc.runtime.training.training_batches import TrainingBatches
from tests.fuzzing.compare import compiling
from tests.runtime.training.common import ADAM, RELU, STILL, Trained, phase, run, small, told
from tests.runtime.training.test_losses import NET


def test_training_learns_reports_and_gives_weights_each_epoch(few: DataSet) -> None:
    done = run(small(), few, phase("epochs = 12; batch = 50; optimizer = adamw(lr = 0.02)"))
    epochs, steps = done.epochs, done.reports
    assert [epoch.as_dict() for epoch in epochs] == done.history
    assert [(step.global_step, step.epoch, step.step) for step in steps] == [
        (4 * epoch + step + 1, epoch + 1, step + 1) for epoch in range(12) for step in range(4)
    ]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert epochs[-1].train_accuracy > 0.4  # chance is 0.1
    state = done.kept.cpu().state_dict()
    assert len(done.saved) == 12
    assert all(torch.equal(value, done.saved[-1][name]) for name, value in state.items())
    assert any(not torch.equal(done.saved[0][name], done.saved[1][name]) for name in state)
    (plan,) = told(done.observer, "phase_start")
    assert (plan.steps, plan.epoch, plan.step) == (4, 0, 0)
    assert done.observer.on_phase_end.call_count == 1
    shares = epochs[0].shares
    assert tuple(shares) == PARTS
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares[part] for part in ("data", "forward", "backward", "optimizer")) > 0


def test_top5_is_counted_from_ten_classes_on() -> None:
    labels = torch.arange(8)
    for classes in (9, 10):
        totals = Totals(torch.device("cpu"), "classes", classes)
        totals.add(-torch.arange(classes).float().expand(8, -1), labels, torch.tensor(0.0))
        found = totals.read()
        assert (found.top1, found.top5) == (1 / 8, None if classes == 9 else 5 / 8)


def test_resumes_at_the_same_share_of_an_epoch_of_more_steps(few: DataSet, tmp_path: Path) -> None:
    body = "epochs = 2; batch = %d; optimizer = sgd(lr = 0.1); schedule = cosine"
    checkpoints = Checkpoints(tmp_path, print, print)
    run(small(), few, phase(body % 50), checkpoints=checkpoints)
    found = checkpoints.latest()
    assert found is not None
    halfway = replace(found, position=Position(0, 1, 2))
    resumed = run(small(), few, phase(body % 25), resume=halfway)
    assert told(resumed.observer, "notice") == [
        "an epoch has 8 steps now, not 4; it resumes at step 4"
    ]
    whole = run(small(), few, phase(body % 25)).reports[12:]
    for one, other in zip(resumed.reports, whole, strict=True):
        assert (one.step, one.global_step) == (other.step, other.global_step)
        assert one.learning_rate == pytest.approx(other.learning_rate)


def test_checkpoints_within_an_epoch_are_saved_when_they_are_due(
    few: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, saved = Checkpoints(tmp_path, print, print), list[tuple[int, ...]]()
    monkeypatch.setattr(
        checkpoints, "write_later", lambda found, *names: saved.append(found.position[1:])
    )
    chosen = phase("epochs = 2; batch = 50; optimizer = sgd(lr = 0.1)")
    run(small(), few, chosen, checkpoints=checkpoints, checkpoint_steps=3)
    assert saved == [(0, 3), (1, 0), (1, 3), (2, 0)]


def test_the_same_seed_gives_the_same_training(few: DataSet) -> None:
    chosen = phase(ADAM + "; augment = random_crop(8, padding = 1)")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = run(small(), few, chosen)
    assert torch.equal(torch.get_rng_state(), state), "the global random state has changed"
    torch.manual_seed(6)
    two = run(small(), few, chosen)
    other = run(small(), few, chosen, seed=4)
    assert one.figures == two.figures != other.figures
    torch.testing.assert_close(one.weights, two.weights, rtol=0, atol=0)


def test_what_does_not_fit_is_refused_before_training(few: DataSet) -> None:
    """A network with several outputs needs the name of the output to train."""
    text = STILL.replace("image(1, 8, 8)", "image(1, 16, 16)")
    with pytest.raises(DataError, match=r"image\(1, 8, 8\)"):
        run(danetc.build(text=text), few, phase(ADAM))
    with pytest.raises(TrainingError, match="into 7 equal parts"):
        run(small(), few, replace(phase(ADAM), accumulate=7))
    model = danetc.build(text=NET, seed=1)
    with pytest.raises(TrainingError, match=r"`early`, `late`.*--train-output"):
        run(model, few, phase(ADAM))
    with pytest.raises(TrainingError, match="no output `lat`"):
        run(model, few, phase(ADAM), train_output="lat")
    epochs = run(model, few, phase(ADAM), train_output="late").epochs
    assert epochs[-1].train_loss < epochs[0].train_loss


CPU, GPU = torch.device("cpu"), torch.device("cuda")
IEEE, TF32 = (("ieee", "ieee"), ("tf32", "tf32"))


def switches() -> tuple[str, str]:
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    return conv.fp32_precision, matmul.fp32_precision


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16", "fp16"])
def test_switches_are_set_together_and_restored(
    precision: str, device: torch.device, supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: supported)
    before = switches()
    expected = TF32 if (precision, device, supported) == ("tf32", GPU, True) else IEEE
    with suppress(KeyError), arithmetic(precision, device):
        assert switches() == expected
        raise KeyError
    assert switches() == before
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32  # torch raises an error if old and new switches disagree


@pytest.mark.parametrize("wanted", [True, False])
def test_determinism_leaves_new_memory_as_it_is(wanted: bool) -> None:
    memory: Any = torch.utils.deterministic
    assert memory.fill_uninitialized_memory  # torch's default
    with suppress(KeyError), determinism(GPU, wanted):
        assert torch.are_deterministic_algorithms_enabled() is wanted
        assert not memory.fill_uninitialized_memory
        raise KeyError
    assert memory.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_sets_and_records_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = "phase a { precision = tf32 } phase b { start = a }"
    recipe = f"epochs = 1; steps = 1; optimizer = adamw(lr = 0.01); {phases}"

    train = partial(danetc.train, text=f"{STILL} recipe r {{ {recipe} }}", backend="eager")

    def trained(name: str) -> tuple[object, object, str]:
        looks, seen = Callback(), dict[str, object]()
        vars(looks)["on_step_end"] = lambda report: seen.update({report.phase: switches()})
        done = train(output=tmp_path / name, device="cpu", callbacks=[looks])
        facts = json.loads((tmp_path / name / "run.json").read_text())["facts"]
        return facts["float32_products"], seen, "\n".join(done.notes)

    found, seen, notes = trained("cpu")
    assert (found, seen) == ({"a": "ieee", "b": "ieee"}, {"a": IEEE, "b": IEEE})
    assert "cpu has no TF32: precision = tf32 computes as float32 does" in notes
    for module in ("runtime.system.devices", "tasks.training.plan"):
        monkeypatch.setattr(f"danetc.{module}.has_tf32", lambda device: True)
    found, seen, notes = trained("gpu")
    assert (found, seen) == ({"a": "tf32", "b": "ieee"}, {"a": TF32, "b": IEEE})
    assert "precision = float32 multiplies without TF32" in notes
    assert "no TF32" not in notes


@pytest.fixture(scope="module")
def held(few: DataSet) -> DataSet:
    """The digits of ``few``, with the last 40 training digits held out."""
    train = few.train
    first, last = (Memory(train.images[n], train.labels[n]) for n in (slice(160), slice(160, None)))  # type: ignore[union-attr]
    return replace(few, train=first, val=last)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The splits and epochs of all evaluations."""
    found: list[tuple[str, int]] = []
    plain = TrainingBatches.testing

    def testing(self: TrainingBatches, split: Any, epoch: int) -> Any:
        found.append((split, epoch))
        return plain(self, split, epoch)

    monkeypatch.setattr(TrainingBatches, "testing", testing)
    return found


@pytest.fixture(scope="module")
def whole(held: DataSet) -> Trained:
    return run(small(), held, phase(ADAM))


ONCE = [("val", 0), ("val", 1), ("val", 2), ("test", 2)]


def test_epochs_are_evaluated_on_validation_images(
    held: DataSet, evaluated: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Figures equal those of a plain evaluation, and validation images choose the best epoch."""
    done = run(small(), held, phase(ADAM), checkpoints=Checkpoints(tmp_path, print, print))
    assert evaluated == ONCE
    *_, last = done.epochs
    assert [epoch.test_loss for epoch in done.epochs[:-1]] == [None] * 2
    model = done.kept.eval().cpu()
    for source, *found in (
        (held.val, last.val_loss, last.val_accuracy, last.val_top5),
        (held.test, last.test_loss, last.test_accuracy, last.test_top5),
    ):
        with torch.no_grad():
            output = model(source.images)
        right = (output.topk(5).indices == source.labels.unsqueeze(1)).float()
        loss = nn.functional.cross_entropy(output, source.labels)
        expected = [loss, right[:, 0].mean(), right.amax(1).mean()]
        assert found == pytest.approx([float(each) for each in expected], rel=1e-5)
    values = [epoch.val_accuracy for epoch in done.epochs]
    assert read_checkpoint(tmp_path / "best").position.epoch == 1 + values.index(max(values))
    assert last.quality == last.val_accuracy
    assert Epoch.read(last.as_dict()) == last
    evaluated.clear()
    run(small(), held, phase(ADAM), phase=0, phases=2)
    assert evaluated == ONCE[:3]  # the test follows the last phase


def test_without_validation_nothing_changes(held: DataSet, whole: Trained) -> None:
    plain = run(small(), replace(held, val=None), phase(ADAM))
    assert not any(name.startswith("val") for name in plain.history[-1])
    torch.testing.assert_close(plain.weights, whole.weights, rtol=0, atol=0)
    test = [name for name in plain.history[-1] if name.startswith("test")]
    assert [plain.history[-1][name] for name in test] == [whole.history[-1][name] for name in test]


@pytest.mark.thorough
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("check", [5, 15, 17])  # epochs have 5, 5 and 7 checks: steps, then batches
def test_a_resumed_training_is_tested_once(
    held: DataSet,
    whole: Trained,
    evaluated: list[tuple[str, int]],
    tmp_path: Path,
    check: int,
    killed: bool,
) -> None:
    """The training is stopped in an evaluation or a step. A complete training is not tested again."""

    class Stopping(StopRequest):
        left = check

        @property
        def wanted(self) -> bool:
            self.left -= 1
            if not self.left and killed:
                raise KeyboardInterrupt
            self.signal = signal.SIGTERM
            return not self.left

    def resumed(stop: StopRequest) -> Trained:
        checkpoints = Checkpoints(tmp_path, print, print)
        given = {"resume": checkpoints.latest(), "checkpoint_steps": 1, "stop": stop}
        return run(small(), held, phase(ADAM), checkpoints=checkpoints, **given)

    with pytest.raises(KeyboardInterrupt if killed else Stopped):
        resumed(Stopping())
    evaluated.clear()
    rest = resumed(StopRequest())
    assert [each for each in evaluated if each[0] == "test"] == [("test", 2)]
    assert rest.figures == whole.figures
    torch.testing.assert_close(rest.weights, whole.weights, rtol=0, atol=0)
    evaluated.clear()
    assert resumed(StopRequest()).history == rest.history
    assert evaluated == []


def set_nan(model: nn.Module, name: str) -> None:
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[0] = math.nan


@pytest.mark.parametrize(
    "name", ["stem.conv.weight", "stages.0.blocks.0.branch.conv2.weight", "head.linear.bias"]
)
def test_the_layer_where_it_begins_is_named(few: DataSet, name: str) -> None:
    model, layer = danetc.build(text=RELU, seed=1), name.rpartition(".")[0]
    set_nan(model, name)
    where = rf"phase `train`, epoch 1, step 1, .* rate of 0.01; it begins in layer `{layer}` \(\S+:\d+\)"
    says = f"{where}, whose `{name}` is not finite; lower optimizer"
    with pytest.raises(TrainingError, match=says):
        run(model, few, phase(ADAM))


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("train = in -> conv(4) -> norm -> spike", ""),
        ("train = sqrt(0 * in - 1) -> norm", "`train.sqrt` (n.danet:7)"),
        ("train = 1e15 * in * in / (0 * in)", "`train.div` (n.danet:7)"),
        ("train = in -> conv(4) -> diverges", "`train.spike` (n.danet:7)"),
        ("train = (in + (train -> delay(1))) -> diverges", "`train.spike` (n.danet:7)"),
    ],
)
def test_an_operation_is_named_by_its_line(backend: str, line: str, place: str) -> None:
    text = (
        "use std\nneuron diverges { state u = 0.0\n  u = u + log(0 * x - 1); s = u }\n"
        "network n {\n  input = image(2, 6, 6); steps = 2; neuron = IF; surrogate = atan\n"
        f"\n  {line}\n  out = train -> conv(3) -> norm -> spike -> avgpool -> linear(3)\n}}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = emit(graph_of(check_text(text, "n.danet")), backend=backend)
    with compiling(False):
        found = first_not_finite(model, torch.randn(4, 2, 6, 6), nullcontext)
        assert found == (
            f"layer {place}" if place else "only the loss: every layer's output is finite"
        )
        assert not any("forward" in vars(module) for module in model.modules())
        assert model(torch.ones(4, 2, 6, 6)).shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        # A GPU already computes the next step when the watcher reads the loss of a step.
        ("head.linear.bias", "epoch 2, step [34].*layer `head.linear`"),
        # The loss stays finite, since a NaN potential never reaches the threshold.
        (
            "stem.conv.weight",
            "`stem.conv.weight` is no longer finite after phase 1, epoch 3, step 0",
        ),
    ],
)
def test_the_last_good_checkpoint_is_named(
    few: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    """It is named even if it is still being written when the loss breaks, after 6 steps."""
    monkeypatch.setattr(os, "fsync", lambda handle: time.sleep(0.05))
    checkpoints, model, observer = Checkpoints(tmp_path, print, print), small(), Mock()
    observer.on_step_end = lambda report: report.global_step == 6 and set_nan(model, name)
    last = f".*the last good checkpoint is {tmp_path / LAST}"
    with pytest.raises(TrainingError, match=says + last):
        run(model, few, phase(ADAM), observer=observer, checkpoints=checkpoints)
    found = checkpoints.latest()
    assert found.position == Position(0, 1, 0)
    assert all(torch.isfinite(value).all() for value in found.tensors["model"].values())


@pytest.mark.parametrize(("bias", "rate"), [(-100.0, 0), (100.0, 1)])
def test_dead_layers_are_named(few: DataSet, bias: float, rate: int) -> None:
    model = small()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.fill_(bias)
    done = run(model, few, phase("epochs = 1; batch = 50; optimizer = sgd(lr = 1e-9)"))
    (epoch,) = done.epochs
    assert epoch.firing["stem.spike"] == rate
    (warning,) = [text for text in epoch.warnings if f"rate of {rate}" in text]
    assert "stem.spike" in warning


def test_out_of_memory_says_what_to_do(few: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    monkeypatch.setattr(model.stem, "forward", lambda *args: torch.empty(2**50))
    advice = ("accumulate=2", "--memory recompute", "precision=bf16", "batch=25")
    found = ".*".join(f"--set recipe.train.{each}" if "=" in each else each for each in advice)
    with pytest.raises(TrainingError, match=f"(?s)50 images at a time.*{found}"):
        run(model, few, phase(ADAM))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
