"""`danetc.measure`, and what ``danetc measure`` does with each network."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from danetc.arguments import Count, Split
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.output.console import image_bar
from danetc.output.echo import note
from danetc.requests import MeasuredOn
from danetc.runtime.layers.inference import InferenceModel
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.segments import Recomputed
from danetc.runtime.measure import MeasureError, MeasureOptions
from danetc.runtime.measure import measure as run
from danetc.runtime.measure.plots import PlottedNetwork
from danetc.runtime.measure.run import mean_cross_entropy, mean_squared_distance
from danetc.runtime.model.built import Model
from danetc.tasks.measuring.data import (
    Subject,
    batches_of,
    open_set,
    open_subject,
    unlike_training,
)
from danetc.tasks.measuring.layout import layout_of
from danetc.tasks.measuring.measurement import Measurement
from danetc.tasks.measuring.tables import facts
from danetc.tasks.trained import data_of

if TYPE_CHECKING:
    from torch import Tensor

    from danetc.runtime.measure.gradients import Loss


def measure(
    model: Model | str | os.PathLike[str],
    data: Iterable[tuple[Tensor, Tensor]] | str | None = None,
    *,
    split: Split = "test",
    batches: Count = MeasuredOn.batches,
    batch: Count = MeasuredOn.batch,
    only: Collection[str] = (),
    options: MeasureOptions | None = None,
    loss: Loss | None = None,
    on_progress: Callable[[int], None] = lambda images: None,
) -> Measurement:
    """Measure a network: firing rates, gradients, membrane potentials, operations and energy.

    Args:
        model: a model that ``danetc.build`` or ``danetc.load`` returned; or a directory that
            ``danetc.train`` or ``build`` wrote, ``pretrained:NAME``, or a spec, which is built
            untrained. A model of another backend or memory policy than ``eager`` and ``none`` is
            measured on an eager twin that shares its weights, since a fusion group hides the input
            of its neuron.
        data: a data set, as in ``"digits"``; or batches of images [N, ...] or [T, N, ...] and labels
            [N]. The default is the data set that the network of a directory was trained on.
        split: ``test`` or ``train``, of a data set.
        batches: number of batches of a data set.
        batch: images per batch.
        only: names of measures (``danetc.runtime.measure.MEASURES``). The default is all of them.
        options: statistics of norms, the way gradient stability is taken, the model of energy.
        loss: function of the output and the labels that gradients are of. The default is the cross
            entropy, for numbers the squared distance.
        on_progress: called with the number of images of each batch when it is done.

    The model is left as it was. The result has tables and figures: ``frame("firing-rate")``,
    ``figure("firing-rate")``. Raises UserError if it cannot be measured, SpecError for an error in a
    spec.
    """
    subject = None
    if isinstance(model, str | os.PathLike):
        subject = open_subject(os.fspath(model), None, {}, 0)
        model = subject.model
        if options is None:
            options = MeasureOptions(subject.statistics, output=subject.output)
    if data is None:
        if subject is None or subject.trained is None:
            raise UserError('on what is it to be measured? give a data set, as in data="digits"')
        data = data_of(subject.trained)
    if isinstance(data, str):
        topology_of(model)
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
    graph = topology_of(model)
    twin, layout = eager_twin(model, graph), layout_of(graph)
    try:
        found = run(
            twin,
            layout,
            data,
            only=only,
            options=options,
            loss=loss or mean_cross_entropy,
            on_progress=on_progress,
        )
    except MeasureError as error:
        raise UserError(f"{graph.name} cannot be measured: {error}") from error
    return Measurement.of(found, layout)


def topology_of(model: object) -> Graph:
    """Return the topology of a model that danetc built. Raises UserError for any other."""
    graph = getattr(model, "topology", None)
    if not isinstance(graph, Graph):
        raise UserError("only a model that danetc built can be measured: this one has no topology")
    return graph


def eager_twin(model: Model, graph: Graph) -> Model:
    """Return the model itself if its backend is eager, else an eager one that shares its tensors."""
    if isinstance(model, InferenceModel):
        raise UserError(
            "a folded model has no norms of its own; measure the one it was folded from"
        )
    modules = list(model.modules())
    eager = all(type(each) is Neuron for each in modules if isinstance(each, Neuron))
    if eager and not any(isinstance(each, Recomputed) for each in modules):
        return model
    twin = emit(graph, 0, "eager", "none")
    twin.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    return twin


def measure_subject(
    label: str,
    subject: Subject,
    asked: MeasuredOn,
    options: MeasureOptions,
    *,
    silent: bool = False,
) -> tuple[PlottedNetwork, dict[str, Any]]:
    """Measure a network, with a bar on a terminal and notes on its data.

    Returns the measures, and the same as JSON data. Raises SpecError, UserError.
    """
    images = open_set(
        asked.data,
        subject.model.signature,
        subject.trained,
        classes=asked.classes,
        subset_seed=asked.subset_seed,
        evaluate=subject.steps(asked.data) if asked.evaluate is None else asked.evaluate,
        output=subject.output,
        split=asked.split,
    )
    for notice in images.data.notices:
        note(f"{label}: {notice}")
    if options.statistics == "batch":
        note(f"{label}: norms go by the statistics of each batch")
    unlike = unlike_training(images, subject)
    if unlike:
        note(f"{label}: unlike the tests of the training: {'; '.join(unlike)}")
    most = asked.batch * asked.batches
    available = len(images.data.split(asked.split))
    with image_bar(label, min(most, available), silent=silent) as on_progress:
        measures = measure(
            subject.model,
            batches_of(images, split=asked.split, batch=asked.batch, count=asked.batches),
            only=asked.only,
            options=options,
            loss=mean_squared_distance if images.data.target == "numbers" else mean_cross_entropy,
            on_progress=on_progress,
        )
    if measures.images < most:
        note(f"{label}: the data set has {measures.images} images in this split, all were measured")
    entry = PlottedNetwork(label, measures.layout, measures)
    return entry, {
        "label": label,
        "source": subject.source,
        "trained": subject.evaluation is not None,
        "data": images.data.describe(),
        "evaluate": write_setting("evaluate", images.steps),
        "unlike_training": unlike,
        **facts(entry),
        **measures.as_dict(),
    }
