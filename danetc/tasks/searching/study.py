"""Optuna (https://optuna.org): what draws trials, what ends them early, and where they are kept.

It is the extra ``danetc[search]``, and imported when a search begins.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError
from danetc.setting import Setting
from danetc.tasks.grid.cells import Axis
from danetc.tasks.records import inside
from danetc.tasks.searching.space import Dimension

if TYPE_CHECKING:
    import optuna

STORAGE = "search.db"
"""The trials of a search, in its folder."""
STUDY = "danetc"
WITHOUT = "a search needs Optuna: pip install 'danetc[search]'"
RECORD = "danetc"
"""The attribute of a study that holds what is searched, and of a trial that holds what came of it."""


def need_optuna() -> Any:
    """The library. Raises UserError without it."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(WITHOUT) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _tpe(space: Sequence[Dimension], seed: int, drawn: int) -> Any:
    return need_optuna().samplers.TPESampler(seed=seed + drawn)


def _random(space: Sequence[Dimension], seed: int, drawn: int) -> Any:
    return need_optuna().samplers.RandomSampler(seed=seed + drawn)


def _nsga2(space: Sequence[Dimension], seed: int, drawn: int) -> Any:
    return need_optuna().samplers.NSGAIISampler(seed=seed + drawn, population_size=10)


def _grid(space: Sequence[Dimension], seed: int, drawn: int) -> Any:
    """Every combination once, in an order that is the seed's."""

    class Grid(need_optuna().samplers.GridSampler):  # type: ignore[misc]
        def after_trial(self, *arguments: Any) -> None:
            """Optuna would stop a loop of its own; ours asks ``is_exhausted``."""

    return Grid(_listed(space), seed=seed)


def _listed(space: Sequence[Dimension]) -> dict[str, Sequence[Setting]]:
    """All values of each dimension. Raises UserError where they are not finitely many."""
    try:
        return {
            each.name: each.values if isinstance(each, Axis) else each.values() for each in space
        }
    except ValueError as error:
        raise UserError(f"the sampler grid needs finitely many values: {error}") from error


SAMPLERS: Mapping[str, Callable[[Sequence[Dimension], int, int], Any]] = {
    "tpe": _tpe, "random": _random, "grid": _grid, "nsga2": _nsga2,
}  # fmt: skip
"""THE samplers, made of what is searched, a seed and the trials drawn before: a search that is resumed
draws no number again. (A grid's order is that of the seed alone.)"""

PRUNERS: Mapping[str, Callable[[], Any]] = {
    "none": lambda: need_optuna().pruners.NopPruner(),
    "median": lambda: need_optuna().pruners.MedianPruner(),
    "hyperband": lambda: need_optuna().pruners.HyperbandPruner(),
}
"""THE pruners. The median is that of other trials after as many epochs, once five are complete."""


@dataclass(frozen=True)
class StudyRequest:
    """How trials are drawn. ``record`` is what a search is known by: under another it is not resumed.

    ``front`` says that there are two objectives, accuracy and operations.
    """

    space: tuple[Dimension, ...]
    record: Mapping[str, Any]
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    front: bool = False

    def __post_init__(self) -> None:
        if self.front and self.pruner != "none":
            raise UserError("a pruner goes by one objective: it cannot be with a front")


def open_study(folder: Path, asked: StudyRequest) -> optuna.Study:
    """The study in a folder, made where there is none. Raises UserError without Optuna, and where the
    one that is there searches something else."""
    study: optuna.Study = _study(folder, ["maximize", "minimize"] if asked.front else ["maximize"])
    known = study.user_attrs.get(RECORD)
    if known is None:
        study.set_user_attr(RECORD, dict(asked.record))
    elif known != asked.record:
        names = (name for name in asked.record if asked.record[name] != known.get(name))
        changes = "".join(
            f"\n  {name}: {known.get(name)} there, {asked.record[name]} now" for name in names
        )
        raise UserError(
            f"{folder} holds another search:{changes}\nchoose another place with -o DIR"
        )
    study.sampler = SAMPLERS[asked.sampler](asked.space, asked.seed, len(study.trials))
    study.pruner = PRUNERS[asked.pruner]()
    return study


def read_study(folder: Path) -> optuna.Study:
    """The study of a folder. Raises UserError where there is none."""
    if not (folder / STORAGE).is_file():
        raise UserError(f"{folder / STORAGE} does not exist, so there is no search to report")
    study: optuna.Study = _study(folder, None)
    if RECORD not in study.user_attrs:
        raise UserError(f"{folder / STORAGE} is no search of danetc")
    return study


def _study(folder: Path, directions: list[str] | None) -> Any:
    """Made with these directions where there is none; with None it must be there."""
    optuna = need_optuna()
    from sqlalchemy.exc import DatabaseError

    for ending in ("", "-journal", "-wal", "-shm"):  # all that SQLite may write to
        found = inside(folder, STORAGE + ending)
        if found.exists() and not found.is_file():
            raise UserError(f"{found} is no file")
    place = (folder / STORAGE).resolve().as_posix().replace("{", "{{").replace("}", "}}")
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{place}")
        try:
            return optuna.load_study(study_name=STUDY, storage=storage)
        except KeyError:
            if directions is None:
                raise UserError(f"{folder / STORAGE} is no search of danetc") from None
            return optuna.create_study(study_name=STUDY, storage=storage, directions=directions)
    except DatabaseError as error:
        raise UserError(f"{folder / STORAGE} cannot be read: {error.orig}") from error


def draw(trial: optuna.Trial, space: Sequence[Dimension]) -> dict[str, Setting]:
    """The values of a trial, as a cell has them."""
    found: dict[str, Setting] = {}
    for each in space:
        if isinstance(each, Axis):
            chosen: Any = trial.suggest_categorical(each.name, each.values)
            found[each.name] = chosen
        elif each.whole:
            step = int(each.step or 1)
            value = trial.suggest_int(
                each.name, int(each.low), int(each.high), step=step, log=each.log
            )
            found[each.name] = value
        else:
            real = trial.suggest_float(each.name, each.low, each.high, step=each.step, log=each.log)
            found[each.name] = each.rounded(real)
    return found


def unfinished(study: optuna.Study) -> list[optuna.Trial]:
    """Trials that were under way when a search was stopped or killed."""
    optuna = need_optuna()
    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    return [optuna.Trial(study, each._trial_id) for each in running]


def most(asked: StudyRequest) -> int:
    """How many trials there can be: of a grid as many as it has combinations. Raises UserError where it
    has no end."""
    if asked.sampler != "grid":
        return sys.maxsize
    return math.prod(map(len, _listed(asked.space).values()))


def tell(study: optuna.Study, trial: optuna.Trial, state: str, values: list[float] | None) -> None:
    """What came of a trial: ``complete`` with its values, ``pruned`` or ``failed``."""
    states = need_optuna().trial.TrialState
    found = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
    study.tell(trial, values, state=found)
