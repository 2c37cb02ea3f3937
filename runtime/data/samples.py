"""Samples in the user's files, prepared as the images of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.arrays import images_of
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import size
from danetc.runtime.data.files import read_numpy
from danetc.runtime.data.fit import check_together
from danetc.runtime.data.images import read_image
from danetc.runtime.data.registry import COLOUR, GREY, converted
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import DataError


def read_samples(
    paths: Sequence[str],
    signature: Signature,
    steps: Sequence[Item],
    trained_on: Mapping[str, Any],
) -> tuple[Tensor, list[str]]:
    """Return the samples in image files and .npy files as a network takes them, [N, ...] or
    [T, N, ...], and the name of each.

    An array is one sample, or N of them if it has a further dimension in front. Samples go through
    ``steps``, those of a recipe's ``evaluate``. Colour images become grey if the network takes grey ones,
    and the other way round, as those of the data set that is described by ``trained_on`` did. Raises
    DataError, which names the file.
    """
    check_together(paths[0], signature)
    events = signature.sequence
    transform = image_transform(steps, events=events)
    samples, names = [], []
    for path in paths:
        if Path(path).suffix.lower() == ".npy":
            array = read_numpy(path, lambda names: ())
            assert isinstance(array, np.ndarray)
            several = array.ndim == 4 + events
            batch = images_of(array if several else array[None], path)
        else:
            batch, several = read_image(path)[None], False
        if not events and {batch.shape[1], signature.input[0]} == {COLOUR, GREY}:
            equal = batch.shape[1] == COLOUR and bool((batch == batch[:, :1]).all())
            exact = equal and "converted_to_channels" not in trained_on  # luma would round
            batch = batch[:, :1] if exact else converted(batch, signature.input[0])
        for number, raw in enumerate(batch):
            name = f"{path}[{number}]" if several else path
            x = transform.finish(transform.change(raw, torch.tensor(0))[0])
            wanted = (signature.steps, *signature.input) if events else signature.input
            if x.shape != wanted:
                raise DataError(
                    f"{name} is {size(tuple(x.shape))} after `evaluate`, but the network takes "
                    f"{size(wanted)}; set the preparation with --evaluate, as 'resize({wanted[-1]}) "
                    f"-> center_crop({wanted[-1]})'"
                )
            samples.append(x)
            names.append(name)
    return torch.stack(samples, int(events)), names
