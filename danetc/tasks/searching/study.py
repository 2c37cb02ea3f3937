"""Optuna (https://optuna.org, ``danetc[search]``): what draws trials, prunes them and stores them.

It is imported when a search begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import Setting
from danetc.errors import UserError
from danetc.tasks.grid.cells import Axis
from danetc.tasks.records import inside
from danetc.tasks.searching.space import Dimension

if TYPE_CHECKING:
    import optuna

STORAGE = "search.db"
STUDY = RECORD = "danetc"
"""The name of the study, and of the attribute with our record of a study or a trial."""


def need_optuna() -> Any:
    """Return the library. Raises UserError without it."""
    try:
        import optuna
    except ImportError as error:
        raise UserError("a search needs Optuna: pip install 'danetc[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _grid(space: Sequence[Dimension], seed: int) -> Any:
    """Return a sampler that draws every combination once, in an order given by the seed."""

    class Grid(need_optuna().samplers.GridSampler):  # type: ignore[misc]
        def after_trial(self, *arguments: Any) -> None:
            """Optuna would stop ``study.optimize``, which is not running."""

    return Grid({each.name: each.values for each in space}, seed=seed)


SAMPLERS: Mapping[str, Callable[[Sequence[Dimension], int, int], Any]] = {
    "tpe": lambda space, seed, drawn: need_optuna().samplers.TPESampler(seed=seed + drawn),
    "random": lambda space, seed, drawn: need_optuna().samplers.RandomSampler(seed=seed + drawn),
    "grid": lambda space, seed, drawn: _grid(space, seed),
    "nsga2": lambda space, seed, drawn: need_optuna().samplers.NSGAIISampler(
        seed=seed + drawn, population_size=10
    ),
}
"""Samplers, from the space, a seed and the number of trials drawn before, so that a resumed search
draws no number again."""

PRUNERS: Mapping[str, Callable[[], Any]] = {
    "none": lambda: need_optuna().pruners.NopPruner(),
    "median": lambda: need_optuna().pruners.MedianPruner(),
    "hyperband": lambda: need_optuna().pruners.HyperbandPruner(),
}
"""The median is that of the other trials after as many epochs, once five are complete."""


def open_study(folder: Path, directions: Sequence[str] | None = None) -> optuna.Study:
    """Open the study in a folder, or create it if there are ``directions``.

    Raises UserError without Optuna, and if there is no study or it cannot be read.
    """
    optuna, path = need_optuna(), folder / STORAGE
    from sqlalchemy.exc import DatabaseError

    if directions is None and not path.exists():
        raise UserError(f"{path} does not exist, so there is no search to report")
    for ending in ("", "-journal", "-wal", "-shm"):  # the files that SQLite creates
        found = inside(folder, STORAGE + ending)
        if found.exists() and not found.is_file():
            raise UserError(f"{found} is no file")
    place = path.resolve().as_posix().replace("{", "{{").replace("}", "}}")
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{place}")
        study: optuna.Study
        if directions is not None:
            study = optuna.create_study(
                study_name=STUDY, storage=storage, directions=directions, load_if_exists=True
            )
        else:
            study = optuna.load_study(study_name=STUDY, storage=storage)
            study.user_attrs[RECORD]
    except KeyError:
        raise UserError(f"{path} is no search of danetc") from None
    except DatabaseError as error:
        raise UserError(f"{path} cannot be read: {error.orig}") from error
    return study


def resume(study: optuna.Study) -> int:
    """Let the trials that were running continue: ``study.ask`` returns them first. Return their number."""
    states = need_optuna().trial.TrialState
    for each in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study._storage.set_trial_state_values(each._trial_id, states.WAITING)
    return len(study.get_trials(deepcopy=False, states=(states.WAITING,)))


def draw(trial: optuna.Trial, space: Sequence[Dimension]) -> dict[str, Setting]:
    """Return the values of a trial, as a cell has them."""
    found: dict[str, Setting] = {}
    for each in space:
        if isinstance(each, Axis):
            found[each.name] = trial.suggest_categorical(each.name, each.values)
        elif each.whole:
            found[each.name] = trial.suggest_int(
                each.name, int(each.low), int(each.high), step=int(each.step or 1), log=each.log
            )
        else:
            real = trial.suggest_float(each.name, each.low, each.high, step=each.step, log=each.log)
            found[each.name] = each.rounded(real)
    return found
