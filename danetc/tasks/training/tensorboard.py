"""Curves of a training for TensorBoard, in ``tensorboard/PHASE`` in the directory of the run.

They need ``danetc[tensorboard]``. Each phase is a run of its own, so that phases of different T share
the names of their curves. The axis counts the phase's steps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.system.files import DamagedError, explain_os_error, within
from danetc.runtime.training.observer import Callback
from danetc.runtime.training.state import copies

if TYPE_CHECKING:
    from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport

FOLDER = "tensorboard"
POINTS = 50
"""Maximum number of points per epoch of a curve over steps."""
WITHOUT = "there are no curves for TensorBoard: pip install 'danetc[tensorboard]'"


def available() -> bool:
    return find_spec("tensorboard") is not None


class TensorBoard(Callback):
    """Writes the curves to a folder, which is created when the first phase begins.

    Every point is on disk before a checkpoint can include its step, and resuming from a checkpoint
    purges the later points: a killed run shows no point twice, and none is missing. A full disk is
    noted, and the training continues without curves.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._folder, self._note = folder, note
        self._writer: Any = None
        self._hook: Callable[[threading.ExceptHookArgs], object] | None = None
        self._steps, self._model = 1, nn.Module()

    def on_phase_start(self, plan: PhasePlan) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._hook = threading.excepthook
        threading.excepthook = self._thread_failed
        done = plan.epoch * plan.steps + plan.step
        self._steps, self._model = plan.steps, plan.model or nn.Module()
        try:
            place = within(self._folder.parent, self._folder.name, plan.phase.name)
            self._writer = SummaryWriter(str(place), purge_step=done + 1)
        except DamagedError as error:
            self._note(f"no curves for TensorBoard: {error}")
        except OSError as error:
            self._give_up(error)

    def on_step_end(self, report: StepReport) -> None:
        every = -(-report.steps // POINTS)
        if report.step % every and report.step != report.steps:
            return
        values: dict[str, float | None] = {
            "loss": report.loss,
            "top1": report.top1,
            "top5": report.top5,
            "learning_rate": report.learning_rate,
            "images_per_second": report.images_per_second,
            "grad_norm": report.grad_norm,
        }
        values |= {f"term_{name}": value for name, value in report.terms.items()}
        self._write(report.global_step, {f"step/{key}": value for key, value in values.items()})

    def on_epoch_end(self, epoch: Epoch) -> None:
        values: dict[str, float | Tensor | None] = {
            "epoch/train_loss": epoch.train_loss,
            "epoch/train_top1": epoch.train_accuracy,
            "epoch/train_top5": epoch.train_top5,
            "epoch/seconds": epoch.seconds,
        }
        for split, loss, top1, top5, scores in epoch.evaluations():
            found = {"loss": loss, "top1": top1, "top5": top5, **scores}
            values |= {f"epoch/{split}_{name}": value for name, value in found.items()}
        values |= {f"epoch/train_term_{name}": value for name, value in epoch.terms.items()}
        values |= {f"shares/{part}": share for part, share in epoch.shares.items()}
        firing = "firing_rate" if epoch.val_loss is None else "val_firing_rate"
        values |= {f"{firing}/{layer}": rate for layer, rate in epoch.firing.items()}
        neurons = ((k, m) for k, m in self._model.named_modules() if isinstance(m, Neuron))
        learnt = {f"learnt/{k}.{name}": x for k, m in neurons for name, x in m.values().items()}
        values |= copies(learnt)
        self._write(epoch.epoch * self._steps, values)

    def on_phase_end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._give_up(error)
        if self._hook is not None:
            threading.excepthook, self._hook = self._hook, None

    def _write(self, step: int, values: Mapping[str, float | Tensor | None]) -> None:
        if self._writer is None:
            return
        try:
            for name, value in values.items():
                if isinstance(value, Tensor) and value.dim():
                    self._writer.add_histogram(name, value, step)
                elif value is not None:  # None for regression, or for another split
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        if error.filename is None:
            error.filename = str(self._folder)
        why = explain_os_error(error, "free some space; the run continues")
        self._note(f"no more curves for TensorBoard: {why}")

    def _thread_failed(self, failed: threading.ExceptHookArgs) -> None:
        """Handle an exception in a thread. The next ``flush`` raises that of TensorBoard's own thread."""
        ours = type(failed.thread).__module__.startswith("tensorboard.")
        if self._hook is not None and not (ours and isinstance(failed.exc_value, OSError)):
            self._hook(failed)
