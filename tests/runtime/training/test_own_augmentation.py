"""Steps of ``augment`` in a file of the user's: what they get, which loader runs them, what they draw."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.dsl.recipe.item import Item
from danetc.errors import UserError
from danetc.runtime.data.augment import image_transform, split_steps
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.request import IGNORED
from danetc.runtime.system.errors import DataError
from tests.runtime.training.common import phase
from tests.runtime.training.processes import KILLED, Job, together
from tests.runtime.training.test_resume import same

FILE = """
import random
import numpy
import torch

def noise(image, sigma):
    assert image.is_floating_point()
    image += sigma * torch.randn_like(image)  # in its own copy
    return image + random.random() + numpy.random.rand()

def half(image):
    return image / 2

def flat(image):
    return image.flatten(1)

def whole(image):
    return (255 * image).byte()

def smaller(image):
    return image[..., 1:]

def raises(image):
    raise ValueError("no image")

def lost(image):
    return {}["key"]
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "mine.py"
    place.write_text(FILE)
    return place


def steps(augment: str) -> tuple[Item, ...]:
    return phase(f"epochs = 1; optimizer = sgd(lr = 0.1); augment = {augment}").augment


NOISE = 'random_crop(8, padding = 1) -> python("mine.py:noise", sigma = 0.1) -> horizontal_flip'


def epoch(source: Any, augment: str, *, device: bool = False, **options: Any) -> Tensor:
    items = steps(augment)
    parts = split_steps(items, one_size=True) if device else (items, None)
    first, later = (None if part is None else image_transform(part) for part in parts)
    assert first is not None
    batches = Batches(source, first, batch=30, seed=5, train=True, later=later, **options)
    try:
        return torch.cat([batch.images for batch in batches.epoch(1)])
    finally:
        batches.close()


def test_it_gets_floats_and_changes_them() -> None:
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    label = torch.tensor(0)
    for given in (images[0], images[0] / 255):
        transform = image_transform(steps('python("mine.py:half")'))
        changed = transform.finish(transform.change(given, label)[0])
        torch.testing.assert_close(changed, images[0] / 255 / 2)
    counts = torch.randint(0, 9, (3, 2, 8, 8), dtype=torch.uint8)
    transform = image_transform(steps('python("mine.py:half")'), events=True)
    assert torch.equal(transform.change(counts, label)[0], counts / 2)
    transform = image_transform(steps('python("mine.py:half") -> normalize(fashion_mnist)'))
    changed = transform.finish(transform.change(images[0], label)[0])
    torch.testing.assert_close(changed, (images[0] / 510 - 0.2860) / 0.3530)


@pytest.mark.parametrize("floats", [False, True])
def test_every_loader_gives_the_same_images(few: DataSet, floats: bool) -> None:
    images = few.train.images / 255 if floats else few.train.images
    source, before = Memory(images, few.train.labels), images.clone()
    expected = epoch(source, NOISE)
    assert torch.equal(source.images, before)
    assert not torch.equal(expected[0], expected[1])
    state = torch.get_rng_state()
    assert torch.equal(epoch(source, NOISE, workers=2), expected)
    later = epoch(source, NOISE, device=True)  # which flips others
    turned = expected.flip(-1)
    as_is, flipped = ((later == each).flatten(1).all(1) for each in (expected, turned))
    assert (as_is | flipped).all()
    assert 0 < flipped.sum() < len(flipped)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_reaches_processes_that_are_not_forked() -> None:
    transform = image_transform(steps(NOISE))
    again = pickle.loads(pickle.dumps(transform))
    image, label = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.tensor(0)
    found = []
    for each in (transform, again):
        torch.manual_seed(3)
        found.append(each.change(image, label)[0])
    assert torch.equal(*found)


def test_a_map_of_classes_stays() -> None:
    transform = image_transform(steps('python("mine.py:half") -> center_crop(4)'))
    image, label = torch.rand(1, 8, 8), torch.arange(64).view(8, 8)
    label[3, 3] = IGNORED
    changed, classes = transform.change(image, label)
    assert torch.equal(changed, image[:, 2:6, 2:6] / 2)
    assert torch.equal(classes, label[2:6, 2:6])
    with pytest.raises(DataError, match="changes the size"):
        image_transform(steps('python("mine.py:smaller")')).change(image, label)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone", "the augmentation `mine.py:gone`: .* no `gone`"),
        ("noise", r"cannot be called with \(image\): missing .* 'sigma'"),
        ("whole", r"an image of 1 x 8 x 8: it returns torch.uint8, not a tensor of real numbers"),
        ("raises", r"mine.py, line \d+, in raises: ValueError: no image"),
        ("lost", r"mine.py, line \d+, in lost: KeyError"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong(few: DataSet, name: str, says: str, workers: int) -> None:
    with pytest.raises(UserError, match=says):
        epoch(few.train, f'python("mine.py:{name}")', workers=workers)


def test_a_killed_training_resumes(tmp_path: Path, file: Path) -> None:
    body = (
        "epochs = 2; batch = 24; optimizer = sgd(lr = 0.1); augment = random_crop(8, padding = 1) -> "
        f'python("{file}:noise", sigma = 0.1) -> mixup'
    )
    alone = Job(tmp_path / "whole", body)
    assert together(alone) == [0]
    job = Job(tmp_path / "killed", body, settings={"checkpoint_steps": 2, "workers": 2})
    assert together(job.with_signal(0, 7)) == [KILLED]
    assert together(job) == [0]
    assert job.result()["steps"] < alone.result()["steps"]
    same(alone.result(), job.result())
