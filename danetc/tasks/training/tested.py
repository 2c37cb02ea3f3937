"""Data sets that are prepared as in the tests of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.runtime.data.batches import Prepared
from danetc.runtime.data.fit import check_fit, check_together
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import Split, TokenInput
from danetc.runtime.data.sources.python import InMemory
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import DataError
from danetc.tasks.model_directory import Trained


def open_set(
    text: str,
    signature: Signature,
    trained: Trained,
    *,
    classes: int | None = None,
    subset_seed: int = 0,
    evaluate: Sequence[Item] | None = None,
    output: str | None = None,
    split: Split = "test",
) -> Prepared:
    """Open a data set for a network, with images prepared as in the tests of its training.

    Samples in memory may lack some of the network's classes.

    Args:
        classes: number of classes to draw. The default is that of the training.
        evaluate: steps that replace those of the training. Without any, images are used as they are,
            or resized if their sizes differ, and a notice says so.
        output: the output with the classes of the data set, if the network has several.

    Raises UserError.
    """
    tested = trained.evaluation
    recorded: Mapping[str, Any] = (tested.data if tested else None) or {}
    if classes is None and trained.subset is not None:
        classes, subset_seed = trained.subset
    steps = evaluate if evaluate is not None or tested is None else tested.evaluate
    shape = signature.outputs[output or next(iter(signature.outputs))]
    try:
        check_together(text, signature)
        data = open_data(
            text,
            classes=classes,
            subset_seed=subset_seed,
            on_unreadable="skip" if recorded.get("on_unreadable") == "skip" else "stop",
            frames=signature.steps,
            channels=signature.input[0],
            tokens=TokenInput.of(signature.kind, signature.input),
        )
        numbered = data.class_names == tuple(map(str, range(data.classes)))
        if isinstance(text, InMemory) and numbered and data.classes <= shape[0]:
            known = recorded.get("class_names", ())
            names = known if len(known) == shape[0] else map(str, range(shape[0]))
            data = replace(data, class_names=tuple(names))
        if steps is None:
            side = signature.input[-1]
            usual = ("resize", round(side * 256 / 224)), ("center_crop", side)
            steps = tuple(
                Item(name, (("size", size),)) for name, size in usual if data.shape is None
            )
            done = write_setting("evaluate", steps) if steps else "nothing is done to them"
            notice = f"no recipe says how images are prepared: {done}"
            data = replace(data, notices=(*data.notices, notice))
        found = Prepared(data, tuple(steps))
        check_fit(
            data,
            signature,
            evaluate=found.transform,
            split=split,
            output=shape,
        )
    except DataError as error:
        raise UserError(f"{trained.path}: {error}") from error
    return found
