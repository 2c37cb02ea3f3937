"""Records of trained networks: data set and conditions of the evaluation. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from danetc.arguments import look_at_data
from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.runtime.system.files import file_digest, within
from danetc.runtime.training.evaluation import Evaluation, read_evaluation
from danetc.tasks.code import refuse_recorded_data
from danetc.tasks.model_directory import (
    CONVERSION,
    RUN,
    SUMMARY,
    TRAINING,
    TRIALS,
    WEIGHTS,
    record_if_any,
)


@dataclass(frozen=True)
class Trained:
    """A directory with weights. ``evaluation`` has the conditions of their test; None for untrained
    weights.
    """

    path: Path
    evaluation: Evaluation | None

    @property
    def data(self) -> str | None:
        """Data set of the training, as its user wrote it."""
        own = self.evaluation.data if self.evaluation is not None else None
        return None if own is None else str(own.get("text"))

    @property
    def subset(self) -> tuple[int, int] | None:
        """Number of classes that the training has drawn, and the seed; None for all classes."""
        own = (self.evaluation.data or {}).get("subset") if self.evaluation is not None else None
        return None if own is None else (len(own["indices"]), int(own["seed"]))


def open_trained(directory: str | Path) -> Trained:
    """Open a directory of ``danetc train``, ``convert`` or ``build``, or ``pretrained:NAME``.

    Raises UserError.
    """
    path = directory_of(directory)
    if (path / TRIALS).is_file():
        raise UserError(f"{path} holds trials; choose one of {path}/seed-...")
    if not (path / SUMMARY).is_file():
        what = "is not the directory of a trained network" if path.exists() else "does not exist"
        raise UserError(f"{directory} {what}; `danetc train` writes one, as in runs/NETWORK")
    place = path / TRAINING
    if not place.exists() and (path / RUN).is_file():
        raise UserError(f"{path} holds a training without a finished epoch")
    if not place.exists():
        place = path / CONVERSION
    record = record_if_any(place)
    if record is None:
        return Trained(path, None)
    found = Trained(path, evaluation_in(record.get("evaluation"), place))
    weights = within(path, WEIGHTS)
    if weights.is_file() and file_digest(weights) != record.get("weights"):
        if place.name == CONVERSION:
            raise UserError(f"{weights} does not belong to {place}; convert again")
        raise UserError(
            f"{weights} is not of the last epoch in {place.name}: the training was killed between the "
            "two. Start it again, which resumes it"
        )
    return found


def data_of(trained: Trained) -> str:
    """Return the data set of the training. Raises UserError if it is not known or not there."""
    if trained.data is None:
        raise UserError(f"{trained.path} records no training data; name a data set by --data")
    refuse_recorded_data(trained.data, trained.path)
    look_at_data(
        trained.data,
        f"\n{trained.path} was trained on {trained.data}; name it with --data, or data=... in Python",
    )
    return trained.data


def evaluation_in(record: object, place: Path) -> Evaluation:
    """Read the conditions of a test from a record in the file ``place``. Raises UserError."""
    try:
        found = read_evaluation(record)
        Trained(place, found).subset  # noqa: B018  # raises where it is damaged
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place} is damaged: {error}") from error
    return found


def trials_in(directory: str | Path) -> list[Path]:
    """Return the directories of the trials in a directory, or itself for a single run. Raises UserError."""
    path = directory_of(directory)
    record = record_if_any(path / TRIALS)
    if record is None:
        return [path]
    try:
        return [within(path, str(trial["directory"])) for trial in record["trials"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path / TRIALS} is damaged: it lists no trials") from error
