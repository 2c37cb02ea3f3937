"""A function to open a data set by its name."""

from __future__ import annotations

from danetc.runtime.data.dataset import DataSet, draw_classes, with_channels, with_validation
from danetc.runtime.data.request import Policy, TokenInput
from danetc.runtime.data.sources import find


def open_data(
    text: str,
    *,
    classes: int | None = None,
    subset_seed: int = 0,
    on_unreadable: Policy = "stop",
    frames: int | None = None,
    channels: int | None = None,
    tokens: TokenInput | None = None,
) -> DataSet:
    """Open the data set ``NAME`` or ``NAME:ARGUMENT`` (see ``sources.SOURCES``). Raises DataError.

    ``classes`` draws that many classes by ``subset_seed``; ``channels`` converts between grey and colour.
    ``on_unreadable`` concerns files that are read during training; ``frames`` and ``tokens`` are as in
    ``DataRequest``.
    """
    source, argument = find(text)
    request = source.request(argument, policy=on_unreadable, frames=frames, tokens=tokens)
    data: DataSet = source.open(request, source.look(request))
    if request.val is not None:
        data = with_validation(data, request.val)
    if classes is not None:
        data = draw_classes(data, classes, subset_seed)
    return data if channels is None or data.tokens else with_channels(data, channels)
