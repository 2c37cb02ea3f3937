"""Every step of a recipe's augmentation, against torchvision called directly."""

from functools import reduce
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, v2

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.items import ITEMS
from danetc.runtime.data.augment import ImageTransform, batch_transform, image_transform
from danetc.runtime.system.errors import DataError

SCALED = v2.ToDtype(torch.float32, scale=True)
REFERENCE: dict[str, tuple[dict[str, Any], Any]] = {
    "random_resized_crop": ({"size": 6, "smallest": 0.3}, v2.RandomResizedCrop(6, (0.3, 1.0))),
    "random_crop": ({"size": 6, "padding": 1}, v2.RandomCrop(6, padding=1)),
    "horizontal_flip": ({"p": 0.5}, v2.RandomHorizontalFlip(0.5)),
    "auto_augment": ({"policy": "cifar10"}, v2.AutoAugment(AutoAugmentPolicy.CIFAR10)),
    "trivial_augment": ({}, v2.TrivialAugmentWide()),
    "rand_augment": ({"n": 2, "m": 9}, v2.RandAugment(2, 9)),
    "color_jitter": (
        {"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1},
        v2.ColorJitter(0.4, 0.3, 0.2, 0.1),
    ),
    "random_erasing": ({"p": 0.9}, v2.RandomErasing(0.9)),
    "resize": ({"size": 6}, v2.Resize(6)),
    "center_crop": ({"size": 6}, v2.CenterCrop(6)),
    "normalize": (
        {"statistics": "imagenet"},
        v2.Compose([SCALED, v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]),
    ),
    "mixup": ({"alpha": 0.2}, v2.MixUp(alpha=0.2, num_classes=10)),
    "cutmix": ({"alpha": 1.0}, v2.CutMix(alpha=1.0, num_classes=10)),
}
COLOURS = {"auto_augment", "trivial_augment", "rand_augment", "color_jitter", "normalize"}
ONE_IMAGE = sorted(name for name in REFERENCE if name not in ("mixup", "cutmix"))


def item(name: str) -> Item:
    return Item(name, tuple(REFERENCE[name][0].items()))


def changed(transform: ImageTransform, image: Tensor) -> Tensor:
    return transform.change(image, torch.tensor(0))[0]


def applied(transform: ImageTransform, image: Tensor) -> Tensor:
    """Apply all steps, including the last ones."""
    return transform.finish(changed(transform, image))


def test_every_step_of_the_schema_is_compared_here() -> None:
    own = {"python"}  # tested in training/test_own_code.py
    assert {*ITEMS["augment"], *ITEMS["evaluate"]} == {*REFERENCE} | own
    for name, (arguments, _) in REFERENCE.items():
        assert [each.name for each in ITEMS["augment"][name].arguments] == list(arguments)


@pytest.mark.parametrize("name", ONE_IMAGE)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_step_gives_what_torchvision_gives(name: str, dtype: torch.dtype, channels: int) -> None:
    if name == "normalize" and channels == 1:
        pytest.skip("the statistics are of three channels; an error, tested below")
    images = torch.randint(0, 256, (6, channels, 9, 8), dtype=torch.uint8)
    if dtype == torch.float32:
        images = images / 255
    transform = image_transform([item(name)])
    for seed, image in enumerate(images):
        torch.manual_seed(seed)
        ours = applied(transform, image)
        torch.manual_seed(seed)
        theirs: Tensor = SCALED(REFERENCE[name][1](image))
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


def test_what_changes_each_value_by_itself_comes_last_and_of_bytes() -> None:
    """The last steps run on the device, on batches of bytes, and give the results of single images."""
    images = torch.randint(0, 256, (20, 3, 12, 12), dtype=torch.uint8)
    for names in (["random_crop", "horizontal_flip", "normalize"], ["auto_augment", "normalize"]):
        transform = image_transform([item(name) for name in names])
        assert [name for name, _ in transform.last] == ["normalize"]
        bytes_, wanted = [], []
        for seed, image in enumerate(images):
            torch.manual_seed(seed)
            bytes_.append(changed(transform, image))
            torch.manual_seed(seed)
            wanted.append(reduce(lambda x, name: REFERENCE[name][1](x), names, image))
        assert bytes_[0].dtype == torch.uint8
        assert torch.equal(transform.finish(torch.stack(bytes_)), torch.stack(wanted))
    inside = image_transform([item("normalize"), item("random_erasing")])
    assert inside.last == ()
    assert changed(inside, images[0]).dtype == torch.float32


def test_a_step_that_cannot_be_applied_is_named() -> None:
    transform = image_transform([Item("random_crop", (("size", 28), ("padding", 2)))])
    for call in (
        lambda image: changed(transform, image),
        lambda image: transform.change_all(image[None], torch.zeros(1), [0]),
    ):
        with pytest.raises(DataError, match=r"`random_crop` cannot be applied to .* 1 x 8 x 8: "):
            call(torch.rand(1, 8, 8))
    for name, channels, message in (
        ("color_jitter", 5, r"`color_jitter` cannot be applied to .* of 5 x 8 x 8: "),
        ("normalize", 1, r"normalize\(imagenet\) .* 3 channels, but .* have 1"),
    ):
        with pytest.raises(DataError, match=message):
            applied(image_transform([item(name)]), torch.rand(channels, 8, 8))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 2, 1, 8, 8)])
def test_seeded_mixing_is_torchvisions_and_keeps_state(name: str, shape: tuple[int, ...]) -> None:
    images, labels = torch.rand(shape), torch.tensor([0, 1, 2, 9])
    mix = batch_transform([item(name)], 10)
    before = torch.get_rng_state()
    mixed, shares = mix(images, labels, 7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    expected, expected_shares = REFERENCE[name][1](images.flatten(1, -3), labels)
    assert torch.equal(mixed, expected.reshape(shape))
    assert torch.equal(shares, expected_shares)
    assert torch.allclose(shares.sum(-1), torch.ones(4))
    assert not torch.equal(mix(images, labels, 8)[0], mixed)


def test_of_two_mixing_steps_one_is_drawn_for_each_batch() -> None:
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    mix = batch_transform([item("mixup"), item("cutmix")], 10)
    kept = {bool(torch.isin(mix(images, labels, seed)[0], images).all()) for seed in range(20)}
    assert kept == {True, False}, "cutmix moves values, mixup makes new ones"


@pytest.mark.parametrize("name", sorted(COLOURS))
def test_events_have_no_colours(name: str) -> None:
    with pytest.raises(DataError, match=f"`{name}` changes colours"):
        image_transform([item(name)], events=True)


@pytest.mark.parametrize("name", sorted({*ONE_IMAGE} - COLOURS))
def test_the_frames_of_a_recording_are_changed_alike(name: str) -> None:
    frame = torch.randint(0, 9, (2, 8, 8), dtype=torch.uint8)
    transform = image_transform([item(name)], events=True)
    torch.manual_seed(3)
    frames = applied(transform, frame.expand(4, 2, 8, 8))
    assert frames.dtype == torch.float32
    assert frames.shape[:2] == (4, 2)
    assert all(torch.equal(frames[0], other) for other in frames[1:])
