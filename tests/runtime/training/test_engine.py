"""The loop on a small network, in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import danetc
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.training.checkpoints import Checkpoints, Position, Snapshot
from danetc.runtime.training.observer import PARTS
from danetc.runtime.training.totals import Totals
from tests.runtime.training.common import ADAM, BARE, STILL, phase, run, small


def test_training_learns_reports_and_gives_weights_each_epoch(few: DataSet) -> None:
    done = run(small(), few, phase("epochs = 12; batch = 50; optimizer = adamw(lr = 0.02)"))
    epochs, steps = done.watcher.epochs, done.watcher.steps
    assert [epoch.as_dict() for epoch in epochs] == done.history
    assert [(step.global_step, step.epoch, step.step) for step in steps] == [
        (4 * epoch + step + 1, epoch + 1, step + 1) for epoch in range(12) for step in range(4)
    ]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert epochs[-1].train_accuracy > 0.4  # chance is 0.1
    state = done.model.cpu().state_dict()
    assert len(done.saved) == 12
    assert all(torch.equal(value, done.saved[-1][name]) for name, value in state.items())
    assert any(not torch.equal(done.saved[0][name], done.saved[1][name]) for name in state)
    (plan,) = done.watcher.plans
    assert (plan.steps, plan.epoch, plan.step) == (4, 0, 0)
    assert done.watcher.ended == 1
    # The figures are those of a plain evaluation.
    with torch.no_grad():
        output = done.model.eval()(few.test.images.float() / few.test.images.max())
    loss = nn.functional.cross_entropy(output, few.test.labels)
    right = output.topk(5).indices == few.test.labels.unsqueeze(1)
    assert epochs[-1].test_loss == pytest.approx(loss.item(), rel=1e-5)
    assert epochs[-1].test_accuracy == pytest.approx(right[:, 0].float().mean().item())
    assert epochs[-1].test_top5 == pytest.approx(right.any(1).float().mean().item())
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
    checkpoints = Checkpoints(tmp_path, lambda text: None, lambda path: None)
    run(small(), few, phase(body % 50), checkpoints=checkpoints)
    found = checkpoints.latest()
    assert found is not None
    halfway = replace(found, position=Position(0, 1, 2))
    resumed = run(small(), few, phase(body % 25), resume=halfway).watcher
    assert resumed.notices == ["an epoch has 8 steps now, not 4; it resumes at step 4"]
    whole = run(small(), few, phase(body % 25)).watcher.steps[12:]
    for one, other in zip(resumed.steps, whole, strict=True):
        assert (one.step, one.global_step) == (other.step, other.global_step)
        assert one.learning_rate == pytest.approx(other.learning_rate)


def test_checkpoints_within_an_epoch_are_saved_when_they_are_due(
    few: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []

    def write(self: Checkpoints, snapshot: Snapshot, *names: str) -> None:
        saved.append((snapshot.position.epoch, snapshot.position.step))

    monkeypatch.setattr(Checkpoints, "write_later", write)
    checkpoints = Checkpoints(tmp_path, print, print)
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
    for name, value in one.weights.items():
        assert torch.equal(value, two.weights[name])


def test_accumulated_parts_make_one_step(few: DataSet) -> None:
    one, two = (
        run(
            danetc.build(text=BARE, seed=1).double(),
            few,
            phase(f"epochs = 1; batch = 60; accumulate = {parts}; optimizer = sgd(lr = 0.1)"),
        )
        for parts in (1, 3)
    )
    for name, value in one.weights.items():
        assert torch.allclose(value, two.weights[name], atol=1e-10), name
    assert one.history[0]["train_loss"] == pytest.approx(two.history[0]["train_loss"])


def test_the_running_mean_of_the_weights_is_kept(few: DataSet) -> None:
    model = small()
    done = run(model, few, phase(ADAM + "; ema = 0.5"))
    kept = done.model.cpu().state_dict()
    assert done.model is not model
    assert all(torch.equal(value, done.saved[-1][name]) for name, value in kept.items())
    assert any(
        not torch.equal(value, kept[name]) for name, value in model.cpu().state_dict().items()
    )


def test_clipping_bounds_the_step_and_reports_the_norm(few: DataSet) -> None:
    model = small()
    before = torch.cat([p.detach().clone().flatten() for p in model.parameters()])
    chosen = phase("epochs = 1; batch = 200; clip = 1e-3; optimizer = sgd(lr = 1.0)")
    (step,) = run(model, few, chosen).watcher.steps
    after = torch.cat([p.detach().cpu().flatten() for p in model.parameters()])
    assert 0 < (after - before).norm() <= 1.001e-3
    assert step.grad_norm is not None
    assert step.grad_norm > 1e-3


def test_what_does_not_fit_is_refused_before_training(few: DataSet) -> None:
    text = STILL.replace("image(1, 8, 8)", "image(1, 16, 16)")
    with pytest.raises(DataError, match=r"image\(1, 8, 8\)"):
        run(danetc.build(text=text), few, phase(ADAM))
    with pytest.raises(TrainingError, match="into 7 equal parts"):
        run(small(), few, replace(phase(ADAM), accumulate=7))


# -- several outputs -------------------------------------------------------------------------------

TWO = """
use std
network two {
  input = image(1, 8, 8); steps = 2; neuron = LIF; surrogate = sigmoid(alpha = 4)
  a = in -> conv(8) -> norm -> spike
  early = a -> avgpool -> mean_over_time -> linear(3)
  out = outputs(a -> conv(8) -> norm -> spike -> avgpool -> mean_over_time -> linear(10), early)
}
"""


def test_one_of_several_outputs_is_trained_by_name(few: DataSet) -> None:
    model = danetc.build(text=TWO, seed=1)
    names = list(model.signature.outputs)
    assert len(names) == 2
    with pytest.raises(TrainingError, match=r"(`\w+`, )+.*--train-output"):
        run(model, few, phase(ADAM))
    chosen = next(name for name, shape in model.signature.outputs.items() if shape == (10,))
    with pytest.raises(TrainingError, match="no output `late`"):
        run(model, few, phase(ADAM), train_output="late")
    epochs = run(model, few, phase(ADAM), train_output=chosen).watcher.epochs
    assert epochs[-1].train_loss < epochs[0].train_loss
