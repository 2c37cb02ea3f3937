"""The space of a search, and its study in Optuna (https://optuna.org, ``danetc[search]``).

The dimensions of the space are axes of ``danetc compare`` and ranges of numbers:

============================== =====================================================
rule=chain,densely_additive    one of these values
width=8..64                    an integer from 8 to 64
width=8..64:8                  in steps of 8
recipe.optimizer.lr=1e-4..0.1  a real number; uniform on a logarithmic scale with `:log`
============================== =====================================================

Optuna is imported when a search begins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from danetc.arguments import Setting, parse_setting
from danetc.errors import UserError
from danetc.runtime.system.files import within
from danetc.tasks.grid.cells import CLASSES, RECIPES, Axis, parse_axis

if TYPE_CHECKING:
    import optuna

_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(log|{_NUMBER}))?", re.ASCII)


@dataclass(frozen=True)
class SearchRange:
    """Numbers from ``low`` to ``high``, both included; integers if bounds and step are integers.

    With a ``step``, numbers are ``low`` plus multiples of it. With ``log``, they are drawn
    uniformly on a logarithmic scale.
    """

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        return all(isinstance(each, int) for each in (self.low, self.high, self.step or 1))

    def rounded(self, value: float) -> float:
        """Round a real number to six significant digits, which the names of cells show."""
        return min(max(float(f"{value:.6g}"), float(self.low)), float(self.high))

    def __str__(self) -> str:
        end = ":log" if self.log else "" if self.step is None else f":{self.step}"
        return f"{self.low}..{self.high}{end}"


Dimension: TypeAlias = Axis | SearchRange


def parse_dimension(name: str, written: str) -> Dimension:
    """Parse the values of a dimension, such as ``8..64`` or ``1,4``. Raises ValueError."""
    text, match = f"{name}={written}", _RANGE.fullmatch(written.strip())
    if match is None:
        axis = parse_axis(name, written)
        if any(isinstance(value, str) and _RANGE.fullmatch(value) for value in axis.values):
            raise ValueError(f"`{name}` has a range and values; give only one of them")
        return axis
    parse_axis(name, match[1])  # check the name
    if name in (CLASSES, RECIPES):
        raise ValueError(f"`{name}` takes values, as in {name}=A,B, not a range")
    low, high = _number(match[1]), _number(match[2])
    if low >= high:
        raise ValueError(f"`{text}` is empty: {match[1]} is not below {match[2]}")
    if match[3] == "log":
        if low <= 0:
            raise ValueError(f"`{text}` is logarithmic, so {match[1]} must be above 0")
        return SearchRange(name, low, high, None, True)
    step = None if match[3] is None else _number(match[3])
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"`{text}` needs a step above 0 and up to {high - low:g}")
    if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
        raise ValueError(f"`{text}` does not reach {match[2]} in steps of {match[3]}")
    return SearchRange(name, low, high, step)


def _number(text: str) -> float:
    _, value = parse_setting(f"x={text}")
    if isinstance(value, str) or not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


STORAGE = "search.db"
STUDY = RECORD = "danetc"
"""Name of the study, and of the attribute with danetc's record of a study or a trial."""


def need_optuna() -> Any:
    """Import Optuna. Raises UserError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError("a search needs Optuna: pip install 'danetc[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


SAMPLERS: Mapping[str, Callable[[int], Any]] = {
    "tpe": lambda seed: need_optuna().samplers.TPESampler(seed=seed),
    "random": lambda seed: need_optuna().samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed: need_optuna().samplers.NSGAIISampler(seed=seed, population_size=10),
}

PRUNERS: Mapping[str, Callable[[], Any]] = {
    "none": lambda: need_optuna().pruners.NopPruner(),
    "median": lambda: need_optuna().pruners.MedianPruner(),
    "hyperband": lambda: need_optuna().pruners.HyperbandPruner(),
}
"""``median`` compares a trial with the others after as many epochs, once five are complete."""


def open_study(folder: Path, directions: Sequence[str] | None = None) -> optuna.Study:
    """Open the study in a folder, or create it if ``directions`` are given.

    Raises UserError without Optuna, or if there is no readable study.
    """
    library, path = need_optuna(), folder / STORAGE
    from sqlalchemy.exc import DatabaseError

    if directions is None and not path.exists():
        raise UserError(f"{path} does not exist, so there is no search to report")
    for ending in ("", "-journal", "-wal", "-shm"):  # files of SQLite
        found = within(folder, STORAGE + ending)
        if found.exists() and not found.is_file():
            raise UserError(f"{found} is not a file")
    place = path.resolve().as_posix().replace("{", "{{").replace("}", "}}")
    try:
        storage = library.storages.RDBStorage(f"sqlite:///{place}")
        make = library.create_study if directions else library.load_study
        options = {"directions": directions, "load_if_exists": True} if directions else {}
        study: optuna.Study = make(study_name=STUDY, storage=storage, **options)
    except KeyError:
        raise UserError(f"{path} is not a search of danetc") from None
    except DatabaseError as error:
        raise UserError(f"{path} cannot be read: {error.orig}") from error
    return study


def resume(study: optuna.Study) -> int:
    """Queue the trials that were running for ``study.ask``. Return the number of queued trials."""
    states = need_optuna().trial.TrialState
    for each in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study._storage.set_trial_state_values(each._trial_id, states.WAITING)
    return len(study.get_trials(deepcopy=False, states=(states.WAITING,)))


def draw(trial: optuna.Trial, space: Sequence[Dimension]) -> dict[str, Setting]:
    """Draw the values of a trial."""
    found: dict[str, Any] = {}
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
