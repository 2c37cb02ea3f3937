"""Data and networks that fit together: checks before the first step, and samples for a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.arrays import images_of, read_numpy
from danetc.runtime.data.augment import ImageTransform, image_transform
from danetc.runtime.data.batches import Fetcher, size
from danetc.runtime.data.dataset import COLOUR, GREY, DataSet, converted, evenly
from danetc.runtime.data.images import read_image
from danetc.runtime.data.request import Split, TokenInput
from danetc.runtime.data.texts import token_samples
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import DataError

Shape = tuple[int, ...]


def check_fit(
    data: DataSet,
    signature: Signature,
    *,
    augment: ImageTransform | None = None,
    evaluate: ImageTransform,
    split: Split = "test",
    output: Shape,
    steps: int | None = None,
) -> None:
    """Check that a network can be trained on ``data`` with these transforms. Raises DataError.

    ``augment`` is for training images (None: nothing is trained), ``evaluate`` for those of ``split``.
    ``output`` is the shape of the network's output for one sample; ``steps`` the T that frames of events
    must have (None: the network's). Torch's random state is kept.
    """
    check_together(data.name, signature)
    if data.tokens != signature.kind.is_token:
        holds, takes, how = "numbers", "tokens", "image(C, H, W) or events(C, H, W)"
        if data.tokens:
            holds, takes, how = "tokens", "numbers", "an input of tokens(vocabulary)"
        raise DataError(
            f"{data.name} holds {holds}, but the network takes {takes}; declare {how} in the spec"
        )
    if data.events != signature.sequence:
        shape = (data.shape or signature.input)[-3:]
        holds, takes, kind = "single images", "sequences of frames", "image"
        if data.events:
            holds, takes, kind = "frames of events", "single images", "events"
        raise DataError(
            f"{data.name} holds {holds}, but the network takes {takes}; set the network's input to "
            f"{kind}({', '.join(map(str, shape))})"
        )
    settings = [("evaluate", data.split(split), evaluate)]
    if augment is not None:
        settings.insert(0, ("augment", data.train, augment))
        settings += [("evaluate", data.val, evaluate)] if data.val is not None else []
    frames = signature.steps if steps is None else steps
    for setting, source, transform in settings:
        if data.tokens and (transform.steps or transform.last):
            step = [*transform.steps, *transform.last][0][0]
            raise DataError(f"`{step}` of `{setting}` changes images, and {data.name} holds tokens")
        probes = Fetcher(source, transform, 0).samples(evenly(len(source)))
        for index, sample, label in probes:
            shape, mask = tuple(transform.finish(sample).shape), tuple(label.shape)
            where = source.where(index)
            image = shape[1:] if data.events else shape
            if image != signature.input:
                raise _wrong_size(data, setting, image, where, signature)
            if data.events and shape[0] != frames:
                raise DataError(
                    f"the recordings of {data.name} have T = {shape[0]} frames ({where}), but "
                    f"the {'network' if steps is None else 'recipe'} sets steps to {frames}; set "
                    f"steps to {shape[0]}"
                )
            if data.target == "steps" and mask != (frames,):
                raise DataError(
                    f"{where} has {mask[0]} labels, one for each step, but there are {frames} steps"
                )
            if data.target == "pixels" and mask != output[1:]:
                raise DataError(
                    f"the classes of pixels of {where} are a map of {size(mask)} after `{setting}`, "
                    f"but the network's output is {size(output[1:])}; let the network end with "
                    "a map of its input's size, as by upsample"
                )
    # The tokens of a text may lack some of the vocabulary.
    fewer = data.tokens and data.target != "classes" and output[0] > data.classes
    if output[0] != data.classes and not fewer:
        what = "numbers for each sample" if data.target == "numbers" else "classes"
        raise DataError(
            f"{data.name} has {data.classes} {what}, but the network has {output[0]} outputs; "
            f"set the network's classes to {data.classes}"
        )


def check_together(data: str, signature: Signature) -> None:
    """Raise DataError if the network has inputs that no single sample holds."""
    if signature.input:
        return
    sizes = ", ".join(
        f"{name} {size(item.shape)}{' at each step' if item.sequence else ''}"
        for name, item in signature.inputs.items()
    )
    raise DataError(
        f"a sample of {data} is one image, or its frames, but the network takes inputs that one "
        f"image cannot hold: {sizes}; call the model with your own tensors"
    )


def read_samples(
    paths: Sequence[str],
    signature: Signature,
    steps: Sequence[Item],
    trained_on: Mapping[str, Any],
) -> tuple[Tensor, list[str]]:
    """Return the samples in image files and .npy files as a network takes them, [N, ...] or
    [T, N, ...], and the name of each.

    An array is one sample, or N with a leading dimension. ``steps`` are those of a recipe's ``evaluate``.
    Colour images become grey, or grey ones coloured, if the network needs it, as in the data set that
    ``trained_on`` describes. Raises DataError, which names the file.
    """
    check_together(paths[0], signature)
    if takes := TokenInput.of(signature.kind, signature.input):
        return token_samples(paths, takes, signature.steps, trained_on)
    events, channels = signature.sequence, signature.input[0]
    wanted = (signature.steps, *signature.input) if events else signature.input
    transform = image_transform(steps, events=events)
    samples, names = [], []
    for path in paths:
        if Path(path).suffix.lower() == ".npy":
            array: Any = read_numpy(path)
            several = array.ndim == 4 + events
            batch = images_of(array if several else array[None], path)
        else:
            batch, several = read_image(path)[None], False
        if not events and {batch.shape[1], channels} == {COLOUR, GREY}:
            equal = batch.shape[1] == COLOUR and bool((batch == batch[:, :1]).all())
            exact = equal and "converted_to_channels" not in trained_on  # luma would round
            batch = batch[:, :1] if exact else converted(batch, channels)
        for number, raw in enumerate(batch):
            names.append(f"{path}[{number}]" if several else path)
            samples.append(transform.finish(transform.change(raw, torch.tensor(0))[0]))
            if samples[-1].shape != wanted:
                raise DataError(
                    f"{names[-1]} is {size(tuple(samples[-1].shape))} after `evaluate`, but the network "
                    f"takes {size(wanted)}; set the preparation with --evaluate, as "
                    f"'resize({wanted[-1]}) -> center_crop({wanted[-1]})'"
                )
    return torch.stack(samples, int(events)), names


def _wrong_size(
    data: DataSet, setting: str, image: Shape, where: str, signature: Signature
) -> DataError:
    """Return the error for images that do not have the network's size, with what to set."""
    after = "" if data.shape and image == data.shape[-3:] else f" after `{setting}`"
    if "converted_to_channels" in data.details:  # the hint is about the data as they are
        image = (COLOUR + GREY - image[0], *image[1:])
    what = f"the images of {data.name} are"
    kind = "events" if data.events else "image"
    hint = f"set the network's input to {kind}({', '.join(map(str, image))})"
    if signature.inputs:
        hint = "a sample holds the channels of all inputs in their order"
    elif data.shape is None:
        side = signature.input[-1]
        step = f"resize({side}) -> center_crop({side})"
        what = f"{where} is"
        step = f"random_resized_crop({side})" if setting == "augment" else step
        hint = f"let {setting} end at that size, as {step}"
    takes = size(signature.input)
    return DataError(f"{what} {size(image)}{after}, but the network takes {takes}; {hint}")
