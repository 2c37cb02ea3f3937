"""Training by a recipe's phase, in one process.

``train`` reads from top to bottom: data, optimizer, schedule, epochs. What happens on the way goes
to an ``Observer`` and, after each epoch, to ``save``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from danetc.dsl.recipe import Item, Phase
from danetc.runtime.augment import ImageTransform, batch_transform, image_transform
from danetc.runtime.data import DataSet, Source, check_fit, with_channels
from danetc.runtime.model import Model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset


class TrainingError(ValueError):
    """A training cannot be started, or cannot go on."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of an epoch (counted from 1). Accuracies are shares from 0 to 1.

    Those of training are means over the epoch, while the weights changed and of augmented images.
    """

    phase: str
    epoch: int
    learning_rate: float  # of the last batch
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Observer(Protocol):
    """Is told how a training goes."""

    def begin(self, phase: str, epochs: int, batches: int) -> None:
        """A phase begins: so many epochs of so many batches."""

    def batch(self, epoch: int, loss: float) -> None:
        """A batch is done; ``loss`` is the epoch's mean so far."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done."""


Save = Callable[[nn.Module, Epoch], None]


def train(
    model: Model,
    data: DataSet,
    phase: Phase,
    *,
    seed: int,
    observer: Observer,
    save: Save,
    workers: int = 0,
    device: torch.device | None = None,
) -> tuple[list[Epoch], nn.Module]:
    """Train ``model`` by ``phase``; give each epoch's figures and the trained model.

    That is ``model`` itself, or the running mean of its weights where the phase has ``ema``.
    After every epoch ``save`` gets the model to keep and the figures so far. The same seed gives
    the same training on the same machine; the global random state is left as it was.

    A network whose head keeps time gives [T, N, classes]: `cross_entropy` and the accuracy take
    the mean over T, `tet` takes every step.

    Raises DataError where the data do not fit the network, TrainingError for a network with
    several outputs or a loss that is no longer finite.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classes = _classes(model)
    augment, evaluate = image_transform(phase.augment), image_transform(phase.evaluate)
    data = with_channels(data, model.signature.input[0])
    check_fit(data, model.signature, augment=augment, evaluate=evaluate, classes=classes)
    with _own_random_state(seed, device):
        batches = _batches(data.train, augment, phase.batch, workers, shuffle_seed=seed)
        tests = _batches(data.test, evaluate, phase.batch, workers)
        mix = batch_transform(phase.augment, classes)
        loss_of = make_loss(phase.loss)

        model.to(device)
        kept: nn.Module = model
        average: AveragedModel | None = None
        if phase.ema is not None:
            average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(phase.ema), use_buffers=True
            )
            kept = average.module
        optimizer = make_optimizer(model, phase.optimizer)
        rate = optimizer.param_groups[0]["lr"]
        scaler = torch.amp.GradScaler(device.type, enabled=phase.precision == "mixed")
        observer.begin(phase.name, phase.epochs, len(batches))

        history: list[Epoch] = []
        for number in range(1, phase.epochs + 1):
            start = time.perf_counter()
            total = Totals()
            model.train()
            for index, (images, labels) in enumerate(batches):
                share = schedule(phase, number - 1 + index / len(batches), 1 / len(batches))
                for group in optimizer.param_groups:
                    group["lr"] = rate * share
                optimizer.zero_grad(set_to_none=True)
                for some_images, some_labels in _parts(images, labels, phase.accumulate):
                    x, y = some_images.to(device), some_labels.to(device)
                    mixed, target = mix(x, y) if mix is not None else (x, y)
                    with _autocast(device, phase.precision):
                        output = model(mixed)
                        loss = loss_of(output, target)
                    total.add(output, y, loss)
                    scaler.scale(loss * (len(y) / len(labels))).backward()
                if not math.isfinite(total.loss):
                    raise TrainingError(_not_finite(phase, number, index + 1, rate * share))
                if phase.clip is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(model.parameters(), phase.clip)
                scaler.step(optimizer)
                scaler.update()
                if average is not None:
                    average.update_parameters(model)
                observer.batch(number, total.loss)

            test = evaluate_model(kept, tests, loss_of, device, phase.precision)
            epoch = Epoch(
                phase.name,
                number,
                rate * share,
                total.loss,
                total.accuracy,
                test.loss,
                test.accuracy,
                time.perf_counter() - start,
            )
            history.append(epoch)
            save(kept, epoch)
            observer.epoch(epoch)
    return history, kept


def evaluate_model(
    model: nn.Module,
    batches: DataLoader[tuple[Tensor, Tensor]],
    loss_of: Loss,
    device: torch.device,
    precision: str,
) -> Totals:
    """Loss and accuracy of a model in eval mode. Raises TrainingError where they are not finite."""
    total = Totals()
    model.eval()
    with torch.inference_mode():
        for images, labels in batches:
            x, y = images.to(device), labels.to(device)
            with _autocast(device, precision):
                output = model(x)
                loss = loss_of(output, y)
            total.add(output, y, loss)
    if not math.isfinite(total.loss):
        raise TrainingError(
            f"the loss of the test images is {total.loss}: the weights or the running statistics "
            "of a norm are no longer finite; lower the learning rate or set clip"
        )
    return total


@dataclass
class Totals:
    """Sums over the images seen so far."""

    _images: int = 0
    _loss: float = 0.0
    _right: int = 0

    def add(self, output: Tensor, labels: Tensor, loss: Tensor) -> None:
        self._images += len(labels)
        self._loss += loss.item() * len(labels)
        self._right += int((over_time(output).argmax(-1) == labels).sum().item())

    @property
    def loss(self) -> float:
        return self._loss / self._images

    @property
    def accuracy(self) -> float:
        return self._right / self._images


# -- what the recipe names -------------------------------------------------------------------------

Loss = Callable[[Tensor, Tensor], Tensor]


def over_time(output: Tensor) -> Tensor:
    """[N, classes] as it is; the mean over T of [T, N, classes]."""
    return output.mean(0) if output.dim() == 3 else output


def make_loss(item: Item) -> Loss:
    """A loss of the output ([N, classes] or [T, N, classes]) and labels ([N], or [N, classes])."""
    given: dict[str, Any] = dict(item.arguments)
    smoothing = given["label_smoothing"]
    match item.name:
        case "cross_entropy":
            return lambda output, target: F.cross_entropy(
                over_time(output), target, label_smoothing=smoothing
            )
        case "tet":
            return lambda output, target: _tet(
                output, target, given["weight"], given["target"], smoothing
            )
        case name:
            raise NotImplementedError(f"a loss without a function: {name}")


def _tet(output: Tensor, target: Tensor, weight: float, level: float, smoothing: float) -> Tensor:
    """Temporal efficient training (Deng et al., ICLR 2022, Eq. 9 and 12)."""
    if output.dim() != 3:
        raise TrainingError(
            "the loss `tet` needs the output of every time step, but the network's head averages "
            "over time; leave `mean_over_time` out of the head, or use `cross_entropy`"
        )
    entropies = [F.cross_entropy(step, target, label_smoothing=smoothing) for step in output]
    distance = F.mse_loss(output, torch.full_like(output, level))
    return (1 - weight) * torch.stack(entropies).mean() + weight * distance


def make_optimizer(model: nn.Module, item: Item) -> torch.optim.Optimizer:
    """The optimizer over all parameters of a model."""
    given: dict[str, Any] = dict(item.arguments)
    match item.name:
        case "sgd":
            return torch.optim.SGD(model.parameters(), **given)
        case "adamw":
            betas = given.pop("beta1"), given.pop("beta2")
            return torch.optim.AdamW(model.parameters(), betas=betas, **given)
        case name:
            raise NotImplementedError(f"an optimizer without a class: {name}")


def schedule(phase: Phase, epoch: float, batch: float) -> float:
    """The share of the learning rate at a time in epochs (0 at the start of training).

    ``batch`` is the length of one batch in epochs: the warm-up reaches 1 with its last batch, and
    the cosine its end with the last of all.
    """
    if epoch < phase.warmup:
        return min(1.0, (epoch + batch) / phase.warmup)
    given: dict[str, Any] = dict(phase.schedule.arguments)
    match phase.schedule.name:
        case "constant":
            return 1.0
        case "step":
            passed = sum(milestone <= epoch + 1e-9 for milestone in given["epochs"])
            return float(given["factor"] ** passed)
        case "cosine":
            length = phase.epochs - batch - phase.warmup
            done = min(1.0, (epoch - phase.warmup) / length) if length > 0 else 1.0
            return float(given["end"] + (1 - given["end"]) * (1 + math.cos(math.pi * done)) / 2)
        case name:
            raise NotImplementedError(f"a schedule without a formula: {name}")


# -- images ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Images(Dataset[tuple[Tensor, Tensor]]):
    split: Source
    transform: ImageTransform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.split[index]
        return self.transform(image), torch.tensor(label)


def _batches(
    split: Source,
    transform: ImageTransform,
    batch: int,
    workers: int,
    shuffle_seed: int | None = None,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches in a new order each epoch where ``shuffle_seed`` is given."""
    shuffle = shuffle_seed is not None
    # A last batch of one image has no variance over N, which a norm in training cannot use.
    lonely = shuffle and len(split) > batch and len(split) % batch == 1
    return DataLoader(
        _Images(split, transform),
        batch_size=batch,
        shuffle=shuffle,
        drop_last=lonely,
        num_workers=workers,
        generator=torch.Generator().manual_seed(shuffle_seed or 0),
    )


def _parts(images: Tensor, labels: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(images.chunk(count), labels.chunk(count), strict=True)


# -- odds and ends ---------------------------------------------------------------------------------


def _classes(model: Model) -> int:
    outputs = model.signature.outputs
    if len(outputs) != 1:
        raise TrainingError(
            f"the network has {len(outputs)} outputs ({', '.join(outputs)}), and training takes one"
        )
    ((name, shape),) = outputs.items()
    if len(shape) != 1:
        raise TrainingError(
            f"the output `{name}` is a map of {' x '.join(map(str, shape))}, not a vector of "
            "classes; end the head with `linear(classes)`"
        )
    return shape[0]


@contextmanager
def _own_random_state(seed: int, device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _autocast(device: torch.device, precision: str) -> Any:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(
        device.type, dtype=torch.float16 if precision == "mixed" else torch.bfloat16
    )


def _not_finite(phase: Phase, epoch: int, batch: int, rate: float) -> str:
    return (
        f"the loss is no longer finite in phase `{phase.name}`, epoch {epoch}, batch {batch}, at "
        f"a learning rate of {rate:.3g}; lower optimizer.lr, lengthen warmup, or set clip"
    )
