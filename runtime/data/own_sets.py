"""Data sets of map-style Datasets that somebody else wrote."""

from __future__ import annotations

from typing import Any

from danetc.runtime.data.arrays import Learned, Reading, class_names, held_out
from danetc.runtime.data.own import Own, SampleForm, digest_of, open_own
from danetc.runtime.data.source import DataSet, Source, facts_fingerprint
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError


def own_set(
    request: DataRequest,
    train: Any,
    test: Any | None,
    share: float | None,
    form: SampleForm,
    reading: Reading,
    name: str,
) -> DataSet:
    """A data set of Datasets of others; without ``test``, a share of ``train`` is held out.

    Raises DataError.
    """
    first = open_own(train, request, f"{name} (train)", form, reading)
    one, shape, notices = first.own, first.shape, first.notices
    sides: list[Source] = [one]
    owns = [one]
    if test is None:
        assert share is not None
        sides = [*held_out(one, share, one.target)]
    else:
        second = open_own(test, request, f"{name} (test)", form, reading)
        other = second.own
        notices, sides = (*notices, *second.notices), [one, other]
        owns.append(other)
        shape = shape if shape == second.shape else None
        if one.target != other.target:
            raise DataError(
                f"{name} has {one.target} to train on and {other.target} to test on; both must be alike"
            )
    return DataSet(
        name=name,
        text=request.text,
        class_names=_all_names(owns, reading, name),
        train=sides[0],
        test=sides[1],
        shape=shape,
        fingerprint=facts_fingerprint((share, *(fact for own in owns for fact in digest_of(own)))),
        events=first.events,
        target=one.target,
        details={} if shape is not None else {"channels": 3},
        notices=notices,
    )


def _all_names(owns: list[Own], reading: Reading, name: str) -> tuple[str, ...]:
    if owns[0].target == "pixels":
        return max((own.names for own in owns), key=len)
    first, last = (Learned(own.target, own.labels, own.names) for own in (owns[0], owns[-1]))
    return class_names(reading, first, last, name)
