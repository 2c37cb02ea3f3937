"""`danetc.measure`, and what ``danetc measure`` does with each network."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from danetc.arguments import Count, Split, check_choice, in_memory
from danetc.compiler.emit.layout import eager_twin, layout_of, topology_of
from danetc.dsl.recipe.text import write_setting
from danetc.output.console import image_bar
from danetc.output.echo import note
from danetc.output.returned import Returned, frame
from danetc.requests import MeasuredOn
from danetc.runtime.data.own import are_arrays
from danetc.runtime.measure import Measures, Statistics
from danetc.runtime.measure import measure as run
from danetc.runtime.measure.gradients import Loss
from danetc.runtime.measure.plots import FIGURES
from danetc.runtime.measure.run import mean_loss
from danetc.runtime.model.built import Model
from danetc.tasks.measuring.data import Subject, batches_of, open_subject
from danetc.tasks.measuring.tables import FACTS, overall


@dataclass(frozen=True, kw_only=True, repr=False)
class Measurement(Returned, Measures):
    """Measures of a network, each as a table of pandas and as a figure."""

    def frame(self, measure: str | None = None) -> Any:
        """Return the rows of a measure: layers, for ``gradients`` parameters, for ``values`` blocks.

        Args:
            measure: a name of ``MEASURES``, such as ``"firing-rate"``. The default is a row with the
                figures of the whole network.

        Raises UserError if it was not measured, and without pandas.
        """
        if measure is None:
            table = overall([(self.layout.network, self)])
            values = (cell.text if cell.value is None else cell.value for cell in table.rows[0])
            return frame([dict(zip(table.heads, values, strict=True))])
        check_choice("measure", measure, tuple(self.taken()))
        found = asdict(self.taken()[measure])
        if measure != "values":
            return frame(found["parameters" if measure == "gradients" else "layers"])
        return frame(
            {"stage": stage["stage"], "block": number, "kind": stage["kind"], **block}
            for stage in found["stages"]
            for number, block in enumerate(stage["blocks"])
        )

    def figure(self, measure: str) -> Any:
        """Return the figure of a measure (of matplotlib) as ``danetc measure`` draws it.

        Raises UserError if it was not measured, and without matplotlib.
        """
        check_choice("measure", measure, tuple(self.taken()))
        return FIGURES[measure]([(self.layout.network, self)])

    def _line(self) -> str:
        return f"{self.layout.network} on {self.images:,} images: {', '.join(self.taken())}"


def measure(
    model: Model | str | os.PathLike[str],
    data: Iterable[tuple[Tensor, Tensor]] | str | None = None,
    *,
    split: Split = "test",
    batches: Count = MeasuredOn.batches,
    batch: Count = MeasuredOn.batch,
    device: str | None = None,
    only: Collection[str] = (),
    statistics: Statistics | None = None,
    seed: int = 0,
    output: str | None = None,
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
        data: a data set, as in ``"digits"``, or arrays or a Dataset, as for ``evaluate``; or batches of
            images [N, ...] or [T, N, ...] and labels [N]. The default is the data set that the network of a directory was trained on.
        split: ``test``, ``train`` or ``val``, of a data set.
        batches: number of batches of a data set.
        batch: images per batch.
        device: device that runs the network of a directory or spec. The default is the accelerator if
            there is one, else the CPU.
        only: names of measures (``danetc.runtime.measure.MEASURES``). The default is all of them.
        statistics: statistics that norms use, ``running`` or those of the ``batch``. The default is
            ``batch`` for a directory or spec that was never trained.
        seed: seed of what a network draws, such as random spikes.
        output: output whose loss gradients are of. The default is the trained one, or the first.
        loss: function of the output and the labels that gradients are of. The default is the cross
            entropy, or the squared distance for real numbers.
        on_progress: called with the number of images of each batch when it is done.

    The model does not change. The result has tables and figures: ``frame("firing-rate")``,
    ``figure("firing-rate")``. Raises UserError if it cannot be measured, SpecError for an error in a
    spec.
    """
    if isinstance(model, str | os.PathLike):
        subject = open_subject(os.fspath(model), device=device)
        statistics, output = statistics or subject.statistics, output or subject.output
    else:
        subject = Subject("", model)
    graph = topology_of(subject.model)
    if isinstance(data, Mapping | Dataset) or are_arrays(data):
        data = in_memory(data)
    if data is None or isinstance(data, str):
        images = subject.prepared(data, split=split, output=output or subject.output)
        data = batches_of(images, split=split, batch=batch, count=batches)
    found = run(
        eager_twin(subject.model),
        layout_of(graph),
        data,
        only=only,
        statistics=statistics or "running",
        seed=seed,
        output=output,
        loss=loss or mean_loss,
        on_progress=on_progress,
    )
    return Measurement(**vars(found))


def measure_subject(
    label: str,
    subject: Subject,
    asked: MeasuredOn,
    statistics: Statistics,
    seed: int = 0,
    *,
    silent: bool = False,
) -> tuple[Measurement, dict[str, Any]]:
    """Measure a network, with a bar on a terminal and notes on its data.

    Returns the measures, and the same as JSON data. Raises SpecError, UserError.
    """
    images = subject.prepared(
        asked.data,
        asked.prepare,
        classes=asked.classes,
        subset_seed=asked.subset_seed,
        split=asked.split,
    )
    for notice in images.data.notices:
        note(f"{label}: {notice}")
    most = min(asked.batch * asked.batches, len(images.data.split(asked.split)))
    with image_bar(label, most, silent=silent) as on_progress:
        measures = measure(
            subject.model,
            batches_of(images, split=asked.split, batch=asked.batch, count=asked.batches),
            only=asked.only,
            statistics=statistics,
            seed=seed,
            output=subject.output,
            on_progress=on_progress,
        )
    return measures, {
        "label": label,
        "source": subject.source,
        "trained": subject.trained.evaluation is not None,
        "data": images.data.describe(),
        "evaluate": write_setting("evaluate", images.steps),
        **{name: getattr(measures.layout, name) for name in FACTS},
        **measures.as_dict(),
    }
