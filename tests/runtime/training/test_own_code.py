"""Optimizers and ``augment`` steps from a user's file."""

import pickle
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.errors import UserError
from danetc.runtime.data.augment import ImageTransform, image_transform, split_steps
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.request import IGNORED
from danetc.runtime.system.errors import DataError
from danetc.runtime.training.optim import make_optimizer
from danetc.runtime.training.state import optimizer_state
from tests.runtime.training.common import phase
from tests.runtime.training.processes import KILLED, Job, together
from tests.runtime.training.test_resume import resumes

FILE = """
import random
import numpy
import torch
import torch.nn.functional as F
from torch.optim import SGD, AdamW, LBFGS

def adamw(groups, beta1, beta2):
    return AdamW(groups, betas=(beta1, beta2))

def faster(groups):
    return SGD([{**group, "lr": 3 * group["lr"]} for group in groups], momentum=0.9)

class Odd(torch.optim.Optimizer):
    '''State of every kind that a checkpoint stores, random numbers, and a state of its groups.'''

    def __init__(self, groups):
        super().__init__(groups, {"count": 0})
        for group in self.param_groups:
            group["scales"] = [1.0, torch.ones(3)]
        self.shift = torch.rand(()).item()

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["count"] += 1
            group["scales"][1] *= 1.01
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    rows = torch.zeros(len(p), device=p.device)
                    state |= {"rows": rows, "n": 0, "seen": {"last": [None, 0.5]}}
                    state["whole"] = torch.zeros(2, dtype=torch.int64)
                state["n"] += 1
                state["whole"] += 1
                state["rows"] += p.grad.flatten(1).norm(dim=1) if p.dim() > 1 else p.grad.abs()
                noise = torch.rand(()).item() + random.gauss(1, 0.1) + numpy.random.normal() + self.shift
                seen = state["seen"]["last"]
                seen[:] = [seen[1], noise * int(state["whole"][0]) / state["n"]]
                rate = group["lr"] * seen[1] / group["scales"][1][0] / (1 + group["count"])
                p -= rate * p.grad / (1 + state["rows"].view(-1, *[1] * (p.dim() - 1)))

def fewer(groups):
    return SGD([{**group, "params": group["params"][:1]} for group in groups])

def closure(groups):
    return LBFGS(groups[0]["params"])

class Replaced(SGD):
    def state_dict(self):
        return {}

def rateless(groups):
    made = SGD(groups)
    del made.param_groups[0]["lr"]
    return made

def noise(image, sigma):
    assert image.is_floating_point()
    image += sigma * torch.randn_like(image)  # in its own copy
    return image + random.random() + numpy.random.rand()

half = lambda image: image / 2
raw = lambda image: (255 * image).byte()
smaller = lambda image: image[..., 1:]
number = lambda *tensors: 3.0

def raises(image):
    raise ValueError("no image")

def lost(image):
    return {}["key"]

def over(output):
    return output.mean(0) if output.dim() == 3 else output

ONES = torch.ones(10)

def weighted(output, labels):
    return F.cross_entropy(over(output), labels, weight=ONES.to(output.device))

def focal(output, labels, gamma, alpha=1.0):
    log = F.log_softmax(over(output), -1).gather(1, labels[:, None]).squeeze(1)
    return -alpha * ((1 - log.exp()) ** gamma * log).mean()

def level(potential, target):
    return (potential.mean() - target).square()

def each(output, labels):
    return F.cross_entropy(over(output), labels, reduction="none")

def cut(output, labels):
    return F.cross_entropy(over(output).detach(), labels)

other = 3
"""
NOISE = 'random_crop(8, padding = 1) -> python("mine.py:noise", sigma = 0.1) -> horizontal_flip'
IMAGE, LABEL = torch.randint(0, 256, (1, 8, 8), dtype=torch.uint8), torch.tensor(0)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "mine.py"
    place.write_text(FILE)
    return place


def optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    text = f'python("mine.py:{name}", lr = 0.1)'
    return make_optimizer(model, phase(f"epochs = 1; optimizer = {text}").optimizer)


def steps(augment: str) -> Any:
    return phase(f"epochs = 1; optimizer = sgd(lr = 0.1); augment = {augment}").augment


def transform(augment: str, *, events: bool = False) -> ImageTransform:
    return image_transform(steps(augment.replace("half", 'python("mine.py:half")')), events=events)


def epoch(source: Any, augment: str, *, device: bool = False, **options: Any) -> Tensor:
    items = steps(augment)
    first, later = split_steps(items, one_size=True) if device else (items, None)
    after = None if later is None else image_transform(later)
    batches = Batches(
        source, image_transform(first), batch=30, seed=5, train=True, later=after, **options
    )
    try:
        return torch.cat([batch.images for batch in batches.epoch(1)])
    finally:
        batches.close()


@pytest.mark.parametrize(
    ("setting", "name", "says"),
    [
        ("optimizer", "gone", "no `gone`"),
        ("optimizer", "adamw", r"cannot be called with \(groups\): missing"),
        ("optimizer", "number", "gives 3.0, not a torch.optim.Optimizer"),
        ("optimizer", "fewer", "has other parameters than its groups"),
        ("optimizer", "closure", "needs a closure in `step`"),
        ("optimizer", "Replaced", "replaces `state_dict`"),
        ("optimizer", "rateless", "has groups without `lr`"),
        ("augment", "gone", "the augmentation `mine.py:gone`: .* no `gone`"),
        ("augment", "noise", r"cannot be called with \(image\): missing .* 'sigma'"),
        ("augment", "raw", r"an image of 1 x 8 x 8: it returns torch.uint8, not a tensor of real"),
        ("augment", "raises", r"mine.py, line \d+, in raises: ValueError: no image"),
        ("augment", "lost", r"mine.py, line \d+, in lost: KeyError"),
    ],
)
def test_what_is_wrong(few: DataSet, setting: str, name: str, says: str) -> None:
    uses = [partial(epoch, few.train, f'python("mine.py:{name}")', workers=n) for n in (0, 1)]
    for use in uses if setting == "augment" else [partial(optimizer, name, nn.Linear(2, 2))]:
        with pytest.raises(UserError, match=says):
            use()


def test_what_a_checkpoint_cannot_store() -> None:
    model = nn.Linear(2, 2)
    made: Any = optimizer("faster", model)
    for value in (object(), float("inf"), {1: 2}):
        made.state[model.weight]["odd"] = [value]
        with pytest.raises(UserError, match="`weight/odd/0` of the optimizer is"):
            optimizer_state(model, made)
    made.state.clear()
    made.state["all"] = {}
    with pytest.raises(UserError, match="a state for 'all'"):
        optimizer_state(model, made)


def test_another_optimizer_starts_without_a_state(tmp_path: Path, file: Path) -> None:
    body = f'epochs = 1; batch = 50; optimizer = python("{file}:adamw", lr = %s, beta1 = 0.9, beta2 = 0.9)'
    job = Job(tmp_path / "run", body % 0.01, settings={"checkpoint_steps": 1})
    assert together(job.with_signal(0, 3)) == [KILLED]
    again = Job(tmp_path / "run", body % 0.02)
    assert together(again) == [0]
    (notice,) = again.result()["notices"]
    assert "starts without one" in notice
    assert "lr = 0.02" in notice


def test_a_stopped_training_resumes(tmp_path: Path, file: Path) -> None:
    """All random states resume: after 5 steps of 11 parameters, half a pair of normal numbers is left."""
    body = (
        f'epochs = 2; batch = 24; optimizer = python("{file}:Odd", lr = 0.05, weight_decay = 0.1); '
        f"schedule = cosine; lr_scale = 0.5 * head; augment = random_crop(8, padding = 1) -> "
        f'python("{file}:noise", sigma = 0.1) -> mixup'
    )
    resumes(tmp_path, body, (5, signal.SIGTERM), workers=2, every=0)


def test_it_gets_floats_and_changes_them() -> None:
    for given in (IMAGE, IMAGE / 255):
        own = transform("half")
        torch.testing.assert_close(own.finish(own.change(given, LABEL)[0]), IMAGE / 255 / 2)
    counts = torch.randint(0, 9, (3, 2, 8, 8), dtype=torch.uint8)
    assert torch.equal(transform("half", events=True).change(counts, LABEL)[0], counts / 2)
    own = transform("half -> normalize(fashion_mnist)")
    changed = own.finish(own.change(IMAGE, LABEL)[0])
    torch.testing.assert_close(changed, (IMAGE / 510 - 0.2860) / 0.3530)


@pytest.mark.parametrize("floats", [False, True])
def test_every_loader_gives_the_same_images(few: DataSet, floats: bool) -> None:
    images = few.train.images / 255 if floats else few.train.images
    source, before = Memory(images, few.train.labels), images.clone()
    expected = epoch(source, NOISE)
    assert torch.equal(source.images, before)
    assert not torch.equal(expected[0], expected[1])
    state = torch.get_rng_state()
    assert torch.equal(epoch(source, NOISE, workers=2), expected)
    later = epoch(source, NOISE, device=True)  # flips other images
    as_is, flipped = ((later == x).flatten(1).all(1) for x in (expected, expected.flip(-1)))
    assert (as_is | flipped).all()
    assert 0 < flipped.sum() < len(flipped)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_reaches_processes_that_are_not_forked() -> None:
    found, own = [], transform(NOISE)
    for each in (own, pickle.loads(pickle.dumps(own))):
        torch.manual_seed(3)
        found.append(each.change(IMAGE, LABEL)[0])
    assert torch.equal(*found)


def test_a_map_of_classes_stays() -> None:
    image, label = torch.rand(1, 8, 8), torch.arange(64).view(8, 8)
    label[3, 3] = IGNORED
    changed, classes = transform("half -> center_crop(4)").change(image, label)
    assert torch.equal(changed, image[:, 2:6, 2:6] / 2)
    assert torch.equal(classes, label[2:6, 2:6])
    with pytest.raises(DataError, match="changes the size"):
        transform('python("mine.py:smaller")').change(image, label)
