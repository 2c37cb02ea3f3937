"""Whether data, a recipe's steps and a network go together, found out before the first step."""

from __future__ import annotations

import torch

from danetc.runtime.data.augment import ImageTransform
from danetc.runtime.data.batches import size
from danetc.runtime.data.dataset import DataSet, Source, Split, evenly
from danetc.runtime.data.registry import COLOUR, GREY
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import DataError, UnreadableError
from danetc.runtime.system.seeds import kept_random_state

PROBES = 8  # samples of each split that are looked at, evenly spread


def check_fit(
    data: DataSet,
    signature: Signature,
    *,
    augment: ImageTransform | None = None,
    evaluate: ImageTransform,
    split: Split = "test",
    output: tuple[int, ...],
    steps: int | None = None,
) -> None:
    """Raise DataError unless a network can learn ``data`` through these transforms.

    ``augment`` is for training images, and None where nothing is trained; ``evaluate`` for those of
    ``split``. ``output`` is the shape of what the network gives of one sample. ``steps`` is the T that the recipe's phase sets
    (the network's, if None), which the frames of events must have. A few samples of each split are
    read and transformed; torch's random state is left as it is.
    """
    check_together(data.name, signature)
    _check_kind(data, signature)
    checks = [("evaluate", data.split(split), evaluate)]
    if augment is not None:
        checks.insert(0, ("augment", data.train, augment))
    for name, source, transform in checks:
        for shape, where in _shapes(source, transform):
            _check_shape(data, name, shape, where, signature, steps, trains=augment is not None)
    if data.target == "pixels":
        for name, source, transform in checks:
            _check_maps(data, name, source, transform, output)
    if output[0] != data.classes:
        what = "numbers for each sample" if data.target == "numbers" else "classes"
        raise DataError(
            f"{data.name} has {data.classes} {what}, but the network has {output[0]} outputs; "
            f"set the network's classes to {data.classes}"
        )


def _check_maps(
    data: DataSet, setting: str, source: Source, transform: ImageTransform, output: tuple[int, ...]
) -> None:
    """Raise DataError unless the maps of classes are of the output's size."""
    with kept_random_state() as generator:
        generator.manual_seed(0)
        sample, label = source[0]
        _, mask = transform.change_pair(sample, torch.as_tensor(label))
    if mask.shape != output[1:]:
        raise DataError(
            f"the classes of pixels of {source.where(0)} are a map of {size(tuple(mask.shape))} after "
            f"`{setting}`, but the network's output is {size(output[1:])}; let the network end with "
            "a map of its input's size, as by upsample"
        )


def check_together(data: str, signature: Signature) -> None:
    """Raise DataError where a network has inputs that no one sample holds."""
    if signature.input:
        return
    sizes = ", ".join(
        f"{name} {size(item.shape)}{' at each step' if item.sequence else ''}"
        for name, item in signature.inputs.items()
    )
    raise DataError(
        f"a sample of {data} is one image, or its frames, but the network takes inputs that no one "
        f"image holds: {sizes}; call the model with tensors of your own"
    )


def _check_kind(data: DataSet, signature: Signature) -> None:
    if data.events and not signature.sequence:
        example = ", ".join(map(str, data.shape[1:] if data.shape else signature.input))
        raise DataError(
            f"{data.name} holds frames of events, but the network takes single images; set the "
            f"network's input to events({example})"
        )
    if signature.sequence and not data.events:
        image = data.shape or signature.input
        raise DataError(
            f"{data.name} holds single images, but the network takes sequences of frames; set the "
            f"network's input to image({', '.join(map(str, image))})"
        )


def _shapes(source: Source, transform: ImageTransform) -> list[tuple[tuple[int, ...], str]]:
    """The shapes of some samples after ``transform``, and where they are from."""
    places = evenly(len(source), PROBES)
    found = []
    unreadable = ""
    with kept_random_state() as generator:
        generator.manual_seed(0)
        for index in places:
            try:
                sample, _ = source[index]
            except UnreadableError as error:
                if source.on_unreadable == "stop":
                    raise
                unreadable = str(error)
                continue
            found.append((tuple(transform(sample).shape), source.where(index)))
    if not found:
        raise DataError(
            f"none of the {len(places)} samples looked at can be read; the last: {unreadable}"
        )
    return found


def _check_shape(
    data: DataSet,
    setting: str,
    shape: tuple[int, ...],
    where: str,
    signature: Signature,
    steps: int | None,
    *,
    trains: bool,
) -> None:
    """``shape`` is that of the sample at ``where``, after the steps of the recipe's ``setting``."""
    image = shape[1:] if data.events else shape
    if image != signature.input:
        raise _wrong_size(data, setting, image, where, signature, trains=trains)
    if data.events:
        wanted = steps if steps is not None else signature.steps
        if shape[0] != wanted:
            raise DataError(
                f"the recordings of {data.name} have T = {shape[0]} frames ({where}), but "
                f"{'the recipe' if steps is not None else 'the network'} sets steps to "
                f"{wanted}; set steps to {shape[0]}"
            )


def _wrong_size(
    data: DataSet,
    setting: str,
    image: tuple[int, ...],
    where: str,
    signature: Signature,
    *,
    trains: bool,
) -> DataError:
    """The error of images that are not of the network's size, with what to set."""
    after = "" if data.shape and image == data.shape[-3:] else f" after `{setting}`"
    if "converted_to_channels" in data.details:  # what to set is said of the data as they are
        image = (COLOUR + GREY - image[0], *image[1:])
    if signature.inputs and image[1:] == signature.input[1:]:
        parts = ", ".join(f"{item.shape[0]} of `{n}`" for n, item in signature.inputs.items())
        return DataError(
            f"the samples of {data.name} have {image[0]} channels, but the network's inputs "
            f"together {signature.input[0]}: {parts}, in this order"
        )
    if data.shape is not None:
        what = f"the images of {data.name} are"
        kind = "events" if data.events else "image"
        hint = f"set the network's input to {kind}({', '.join(map(str, image))})"
    else:
        what = f"{where} is"
        hint = _resizing(setting, signature.input[-1], trains=trains)
    return DataError(
        f"{what} {size(image)}{after}, but the network takes {size(signature.input)}; {hint}"
    )


def _resizing(setting: str, wanted: int, *, trains: bool) -> str:
    """What to set so that images of many sizes come out as ``wanted`` x ``wanted``."""
    if setting == "augment":
        steps = f"random_resized_crop({wanted})"
    else:
        steps = f"resize({wanted}) -> center_crop({wanted})"
    if trains:
        return f"let the recipe's {setting} end at that size, as {steps}"
    return f"bring them to that size, as with --evaluate '{steps}'"
