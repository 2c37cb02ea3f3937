"""`danetc.measure`: what ``danetc measure`` does, called from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from danetc.arguments import check_choice, check_whole
from danetc.errors import UserError
from danetc.runtime.data import Split
from danetc.runtime.measure import MeasureOptions
from danetc.runtime.measure.run import mean_cross_entropy, mean_squared_distance
from danetc.runtime.model.built import Model
from danetc.tasks.measuring.data import batches_of, open_set, open_subject
from danetc.tasks.measuring.measure import measure as measure_batches
from danetc.tasks.measuring.measure import refuse_others
from danetc.tasks.measuring.measurement import Measurement
from danetc.tasks.measuring.record import MeasuredOn
from danetc.tasks.trained import data_of

if TYPE_CHECKING:
    from torch import Tensor

    from danetc.runtime.measure.gradients import Loss


def measure(
    model: Model | str | os.PathLike[str],
    data: Iterable[tuple[Tensor, Tensor]] | str | None = None,
    *,
    split: Split = "test",
    batches: int = MeasuredOn.batches,
    batch: int = MeasuredOn.batch,
    only: Collection[str] = (),
    options: MeasureOptions | None = None,
    loss: Loss | None = None,
    allow_changed: Collection[str] = (),
    on_progress: Callable[[int], None] = lambda images: None,
) -> Measurement:
    """Measure a network: firing rates, gradients, membrane potentials, operations and energy.

    Args:
        model: one that ``danetc.build`` or ``danetc.load`` gave; or a directory that ``danetc.train``
            or ``build`` has written, ``pretrained:NAME``, or a spec, which is built untrained. One of
            another backend or memory policy than ``eager`` and ``none`` is measured on an eager
            twin that shares its weights, since a fusion group hides what drives its neuron.
        data: a data set, as in ``"digits"``; or batches of images [N, ...] or [T, N, ...] and labels
            [N]. By default what the network of a directory was trained on.
        split: of a data set, ``test`` or ``train``.
        batches: how many batches of a data set are taken.
        batch: images of each.
        only: which measures (``danetc.runtime.measure.MEASURES``); none stands for all.
        options: statistics of norms, how gradient stability is taken, the model of energy.
        loss: of the output and the labels, for gradients; by default cross-entropy, of numbers the
            squared distance.
        allow_changed: files of a directory that were changed on purpose.
        on_progress: called with the images of each batch when it is done.

    A model is left as it was. What comes back has tables and figures: ``frame("firing-rate")``,
    ``figure("firing-rate")``. Raises UserError where it cannot be measured, SpecError for what is wrong
    in a spec.
    """
    check_choice("split", split, ("test", "train"))
    check_whole("batches", batches, 1)
    check_whole("batch", batch, 1)
    subject = None
    if isinstance(model, str | os.PathLike):
        subject = open_subject(os.fspath(model), None, {}, 0, allow_changed)
        model = subject.model
        if options is None:
            options = MeasureOptions(subject.statistics, output=subject.output)
    if data is None:
        if subject is None or subject.trained is None:
            raise UserError('on what is it to be measured? give a data set, as in data="digits"')
        data = data_of(subject.trained)
    if isinstance(data, str):
        refuse_others(model)
        images = open_set(
            data,
            model.signature,
            None if subject is None else subject.trained,
            evaluate=None if subject is None else subject.steps(data),
            output=options.output if options is not None else None,
            split=split,
        )
        data = batches_of(images, split=split, batch=batch, count=batches)
        if loss is None and images.data.target == "numbers":
            loss = mean_squared_distance
    return measure_batches(
        model,
        data,
        only=only,
        options=options,
        loss=loss or mean_cross_entropy,
        on_progress=on_progress,
    )
